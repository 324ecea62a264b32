//! The task behind the callers: sees what was revoked through other replicas or has gone with the settings, writes when keys
//! were used, forgets tickets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Access;
use crate::domain::caller::Credential;
use crate::domain::clock::Timestamp;
use crate::identity::applications::Applications;
use crate::lifecycle::Lifecycle;
use crate::store::Error;

/// How often it is looked what has been revoked, on whichever replica.
const LOOK: Duration = Duration::from_millis(300);
/// How far back it is looked behind the last look that saw anything, in microseconds: clocks of replicas may differ by as much.
const BACK: i64 = 300_000_000;
/// After so many looks it is tidied up.
const TIDY: u32 = 30;
/// Whoever was let in by the settings before the last may be so late to watch for their going.
const LATE: Duration = Duration::from_secs(60);

/// The task. It ends with the lifecycle's hard token.
pub(super) async fn run(access: Access, life: Lifecycle) {
    let (mut round, mut blind, mut seen) = (0u32, false, access.0.clock.now());
    let mut settings = Settings { applications: access.0.applications.get(), since: None };
    loop {
        tokio::select! {
            () = life.hard().cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        round = round.wrapping_add(1);
        settings.follow(&access);
        match access.look(seen).await {
            Err(error) if !std::mem::replace(&mut blind, true) => {
                tracing::warn!(%error, "what was revoked elsewhere cannot be seen at present");
            }
            Err(_told_already) => {}
            Ok(now) => (blind, seen) = (false, now),
        }
        if round.is_multiple_of(TIDY)
            && let Err(error) = access.tidy().await
        {
            tracing::warn!(%error, "the last uses of keys and the tickets wait for the database");
        }
    }
}

/// The applications as they were seen last, and since when, if they have been replaced.
struct Settings {
    applications: Arc<Applications>,
    since: Option<Instant>,
}

impl Settings {
    /// Tells those who watch for what the settings have no more.
    fn follow(&mut self, access: &Access) {
        let applications = access.0.applications.get();
        if !Arc::ptr_eq(&applications, &self.applications) {
            *self = Self { applications, since: Some(Instant::now()) };
        }
        if self.since.is_some_and(|since| since.elapsed() < LATE) {
            access.0.revocations.keep(|credential| self.applications.let_in(credential));
        }
    }
}

impl Access {
    /// Tells those who watch what was revoked since the look at `seen`, however long ago that was: the process may have slept, or had no
    /// database. Gives the time of this one.
    async fn look(&self, seen: Timestamp) -> Result<Timestamp, Error> {
        let now = self.0.clock.now();
        if self.0.revocations.is_idle() {
            return Ok(now);
        }
        let since = seen.min(now).as_micros() - BACK;
        let revoked = self.0.store.revoked(Timestamp::from_micros(since), now).await?;
        let keys = revoked.keys.into_iter().map(Credential::Key);
        for credential in keys.chain(revoked.people.into_iter().map(Credential::Person)) {
            self.0.revocations.revoke(&credential);
        }
        Ok(now)
    }

    async fn tidy(&self) -> Result<(), Error> {
        let used: Vec<_> = self.0.used.lock().drain().collect();
        if let Err(error) = self.0.store.keys_used(&used).await {
            // What was noted meanwhile is newer.
            let mut again = self.0.used.lock();
            for (key, at) in used {
                again.entry(key).or_insert(at);
            }
            return Err(error);
        }
        self.drop_tickets().await
    }
}
