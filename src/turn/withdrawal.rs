//! Admissions whose commit the database did not confirm: each is undone, or run if somebody was told of it meanwhile.
//!
//! Whoever is told that nothing was started asks again, perhaps without a key. So it is undone first; where the database does not
//! say so in time, they are told that it is not known. The statements are those of `store/withdrawal.rs`.

use std::time::Duration;

use parking_lot::Mutex;

use super::start::Refused;
use super::{Turns, recover};
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::owner::Owner;
use crate::store::Error;
use crate::store::admission::{NewTurn, Target};
use crate::store::idempotency::Key;

/// Admissions of unknown outcome that are remembered; beyond, no more are tried until the database answers.
const MOST: usize = 4096;
/// How often they are looked after.
const EVERY: Duration = Duration::from_secs(1);
/// How long whoever asked waits until theirs is undone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Admissions of which nobody was told, and which may have been committed all the same.
#[derive(Debug, Default)]
pub struct Suspects {
    known: Mutex<Vec<Suspect>>,
    /// Held by whoever undoes them: one after the other, and each known until it is undone.
    undoing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Suspect {
    owner: Owner,
    turn_id: TurnId,
    key: Option<String>,
    /// The conversation that would have been made for it.
    made: Option<ConversationId>,
}

impl Suspects {
    /// Whether the turn is one of them: it is theirs to undo, or to run.
    pub(super) fn knows(&self, turn: &TurnId) -> bool {
        self.known.lock().iter().any(|suspect| suspect.turn_id == *turn)
    }

    /// Whether there are as many as may be.
    pub(super) fn are_too_many(&self) -> bool {
        self.known.lock().len() >= MOST
    }

    fn first(&self, which: impl Fn(&Suspect) -> bool) -> Option<Suspect> {
        self.known.lock().iter().find(|suspect| which(suspect)).cloned()
    }
}

/// The task. It ends when the process signs off, or with the lifecycle's hard token: what is admitted last is looked after, too.
pub async fn run(turns: Turns) {
    let over = turns.signed_off.clone();
    let undo = async {
        loop {
            tokio::time::sleep(EVERY).await;
            turns.withdraw_suspects().await;
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = undo => {}
    }
}

impl Turns {
    /// What whoever asked for `new` is told, of which the database said no more than `error`.
    pub(super) async fn refuse_suspect(&self, owner: &Owner, new: NewTurn, error: Error) -> Refused {
        let made = match new.target {
            Target::New(made) => Some(made.id),
            Target::Existing(_) => None,
        };
        let suspect = Suspect { owner: owner.clone(), turn_id: new.id, key: new.key.map(|key| key.key), made };
        self.suspects.known.lock().push(suspect.clone());
        match tokio::time::timeout(PATIENCE, self.withdraw_one(&suspect)).await {
            Ok(Ok(true)) => Refused::Store(error),
            Ok(Ok(false) | Err(_)) | Err(_) => Refused::Unsure(suspect.turn_id, error),
        }
    }

    /// Undoes admissions of unknown outcome, as far as the database answers. One of which somebody was told is run.
    pub(super) async fn withdraw_suspects(&self) {
        let _alone = self.suspects.undoing.lock().await;
        let known = self.suspects.known.lock().clone();
        for suspect in known {
            match self.withdraw(&suspect).await {
                // What cannot be read keeps nobody else waiting.
                Ok(_) | Err(Error::Corrupt(_)) => {}
                Err(
                    Error::Unavailable(_) | Error::Slow(_) | Error::NotBegun(_) | Error::Crowded | Error::Unchanged,
                ) => {
                    return;
                }
            }
        }
    }

    /// The same for those under the key of a turn that is about to be admitted.
    pub(super) async fn withdraw_same_key(&self, owner: &Owner, key: Option<&Key>) -> Result<(), Refused> {
        let Some(key) = key else { return Ok(()) };
        let same = |suspect: &Suspect| suspect.owner == *owner && suspect.key.as_ref() == Some(&key.key);
        let Some(suspect) = self.suspects.first(same) else { return Ok(()) };
        let undo = async {
            let _alone = self.suspects.undoing.lock().await;
            while let Some(suspect) = self.suspects.first(same) {
                self.withdraw(&suspect).await?;
            }
            Ok(())
        };
        let undone = tokio::time::timeout(PATIENCE, undo).await.unwrap_or(Err(Error::Slow(PATIENCE)));
        undone.map_err(|error| Refused::Unsure(suspect.turn_id, error))
    }

    /// The same for this one, unless others have done it by now; whether there is nothing of it.
    async fn withdraw_one(&self, suspect: &Suspect) -> Result<bool, Error> {
        let _alone = self.suspects.undoing.lock().await;
        if self.suspects.knows(&suspect.turn_id) {
            return self.withdraw(suspect).await;
        }
        Ok(self.store.turn(&suspect.owner, &suspect.turn_id).await?.is_none())
    }

    /// Whether there is nothing of it now: somebody may have been told of it, or another replica have it.
    async fn withdraw(&self, suspect: &Suspect) -> Result<bool, Error> {
        let Suspect { owner, turn_id, made, .. } = suspect;
        let undone = async {
            let undone = self.store.withdraw(owner, turn_id, made.as_ref()).await?;
            if !undone && let Some(record) = self.store.turn(owner, turn_id).await? {
                recover::take_up(self, &record);
            }
            Ok::<_, Error>(undone)
        };
        let undone = undone.await.inspect_err(|error| {
            tracing::warn!(%error, %turn_id, "an admission that was not confirmed cannot be undone yet");
        })?;
        self.suspects.known.lock().retain(|known| known.turn_id != *turn_id);
        Ok(undone)
    }
}
