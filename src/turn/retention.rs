//! What an application does not keep any longer: conversations in which nothing has happened for `retention_days` are erased,
//! a few at a time, and so are old rows of its audit log.

use super::Turns;
use super::stop::Erasing;
use super::sweep::drop_all;
use crate::domain::audit::{Action, Deed};
use crate::domain::clock::Timestamp;
use crate::domain::ids::ConversationId;
use crate::store::Result;
use crate::store::lives::Activity;

/// How many conversations are looked at in one query…
const STRIDE: u32 = 1000;
/// …how often, at most, before others have their turn…
const STRIDES: u32 = 10;
/// …and how many are erased in that time.
const ERASED: usize = 200;
/// One that cannot be erased takes the time of so many.
const FAILED: usize = 20;
/// How many rows of the audit log go in one transaction.
const ROWS: u32 = 500;
/// The audit log is kept for so many days where its application keeps conversations for fewer: an investigation comes late.
pub const AUDIT_DAYS: u64 = 365;

/// A day, in microseconds.
const DAY: u64 = 86_400_000_000;

/// A look through all conversations, which goes on where it was and begins again at the end.
#[derive(Debug, Default)]
pub struct Look {
    after: Option<ConversationId>,
}

/// So many days before `now`.
fn days_before(now: Timestamp, days: u64) -> Timestamp {
    let ago = i64::try_from(days.saturating_mul(DAY)).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(ago))
}

impl Look {
    /// Looks through some more. Other replicas may do the same at the same time.
    ///
    /// # Errors
    /// The store's, where nothing can be looked at; what was found is found again.
    pub async fn go_on(&mut self, turns: &Turns) -> Result<()> {
        let (now, applications) = (turns.now(), turns.settings.applications.get());
        let kept: Vec<_> = applications.all().iter().filter(|application| application.retention_days > 0).collect();
        for application in &kept {
            let before = days_before(now, application.retention_days.max(AUDIT_DAYS));
            let some = || turns.store.drop_audit(&application.name, before, ROWS);
            if let Err(error) = drop_all(turns, ROWS, STRIDES, some).await {
                tracing::warn!(%error, application = %application.name, "old rows of the audit log go later");
            }
        }
        let mut left = ERASED;
        for _ in 0..STRIDES {
            if kept.is_empty() {
                break;
            }
            let (found, next) = turns.store.activity(self.after.as_ref(), STRIDE).await?;
            for one in found {
                let application = kept.iter().find(|application| *application.name == *one.owner.application_id);
                let before = application.map(|application| days_before(now, application.retention_days));
                let Some(before) = before.filter(|before| one.active_at < *before && !one.live) else { continue };
                if left == 0 || turns.lifecycle.soft().is_cancelled() {
                    // The rest of this stride is looked through again, from here on.
                    return Ok(());
                }
                let erased = erase(turns, &one, before, now).await;
                left = left.saturating_sub(if erased { 1 } else { FAILED });
                self.after = Some(one.id);
            }
            self.after = next;
            if self.after.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Erases a conversation in which nothing has happened since `before`; false where that went wrong, which is logged: it is
/// found again.
async fn erase(turns: &Turns, one: &Activity, before: Timestamp, now: Timestamp) -> bool {
    let deed = Deed::of_system(&one.owner.application_id, Action::ConversationDelete, Some((&one.id).into()), now);
    let why = Erasing { deed: Some(deed), silent_since: Some(before) };
    let erased = turns.erase(&one.owner, &one.id, why).await;
    if let Err(error) = &erased {
        tracing::warn!(%error, conversation_id = %one.id, "an old conversation is erased later");
    }
    erased.is_ok()
}
