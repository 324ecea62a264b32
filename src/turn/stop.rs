//! Stopping a turn, and erasing what it is in.

use std::time::Duration;

use super::Turns;
use super::live::Cut;
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::message::Message;
use crate::domain::owner::Owner;
use crate::domain::turn::StoppedBy;
use crate::store::Result;
use crate::store::conversations::Erasure;

/// How long a stop waits for its commit.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an end that is not made here is looked for, as long as a stop waits for it…
const POLL: Duration = Duration::from_millis(100);
/// …and later.
const POLL_LATER: Duration = Duration::from_secs(1);

/// What came of a stop.
#[derive(Debug)]
pub enum Stopped {
    /// The turn has ended; its answer.
    Ended(Box<Message>),
    /// It will, but its end is not committed yet.
    Stopping,
}

/// Why a conversation is erased.
#[derive(Clone, Debug, Default)]
pub struct Erasing {
    /// What the audit log has of it.
    pub deed: Option<Deed>,
    /// Only if nothing has happened in it since: then no turn is stopped for it either.
    pub silent_since: Option<Timestamp>,
}

impl From<Deed> for Erasing {
    fn from(deed: Deed) -> Self {
        Self { deed: Some(deed), silent_since: None }
    }
}

impl Turns {
    /// Stops a turn, wherever it runs, and waits for its end. `None` when the owner has no such turn.
    ///
    /// # Errors
    /// The store's, when it is not even known whether there is such a turn.
    pub async fn stop(
        &self,
        owner: &Owner,
        turn: &TurnId,
        by: StoppedBy,
        deed: Option<Deed>,
    ) -> Result<Option<Stopped>> {
        if let Some(live) = self.registry.get(owner, turn) {
            live.stopped(deed);
            live.cut(Cut::Stop(by));
        } else {
            match self.store.turn(owner, turn).await? {
                None => return Ok(None),
                Some(record) if record.status.is_end() => {
                    return Ok(Some(Stopped::Ended(Box::new(record.message))));
                }
                Some(_) => self.store.request_stop(owner, turn, by, deed.as_ref()).await?,
            }
        }
        let ended = tokio::time::timeout(PATIENCE, self.ended(owner, turn)).await;
        Ok(Some(match ended {
            Ok(Some(message)) => Stopped::Ended(Box::new(message)),
            // Erased meanwhile.
            Ok(None) => return Ok(None),
            Err(_) => Stopped::Stopping,
        }))
    }

    /// Waits for a turn's end to be in the record. `None` when the turn is gone.
    pub async fn ended(&self, owner: &Owner, turn: &TurnId) -> Option<Message> {
        let mut since = tokio::time::Instant::now();
        loop {
            if let Some(live) = self.registry.get(owner, turn) {
                live.settled.cancelled().await;
                since = tokio::time::Instant::now();
            }
            match self.store.turn(owner, turn).await {
                Ok(None) => return None,
                Ok(Some(record)) if record.status.is_end() => return Some(record.message),
                Ok(Some(_)) | Err(_) => {
                    tokio::time::sleep(if since.elapsed() < PATIENCE { POLL } else { POLL_LATER }).await;
                }
            }
        }
    }

    /// Stops the open turns of a conversation and erases it with everything under it, whether or not somebody
    /// waits for that. False while one of them does not end.
    ///
    /// # Errors
    /// The store's. What was asked may be done in part; asking again does the rest.
    pub async fn erase(&self, owner: &Owner, conversation: &ConversationId, why: Erasing) -> Result<bool> {
        // Seen through even if the client leaves: feeds are to hear of it.
        let (turns, owner, conversation) = (self.clone(), owner.clone(), conversation.clone());
        self.lifecycle.whole(async move { turns.erase_whole(&owner, &conversation, &why).await }).await
    }

    async fn erase_whole(&self, owner: &Owner, conversation: &ConversationId, why: &Erasing) -> Result<bool> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let open = match why.silent_since {
                Some(_) => Vec::new(),
                None => self.store.open_turns(owner, conversation).await?,
            };
            // The queued ones first: none of them is to start when the one before it ends.
            for (turn, _) in open.iter().rev() {
                match self.registry.get(owner, turn) {
                    Some(live) => live.cut(Cut::Stop(StoppedBy::Deletion)),
                    None => self.store.request_stop(owner, turn, StoppedBy::Deletion, None).await?,
                }
            }
            for (turn, _) in &open {
                if tokio::time::timeout_at(until, self.ended(owner, turn)).await.is_err() {
                    return Ok(false);
                }
            }
            let erasure = Erasure {
                now: self.now(),
                forget_at: self.kept_until(),
                deed: why.deed.as_ref(),
                silent_since: why.silent_since,
            };
            match self.store.erase_conversation(owner, conversation, erasure).await {
                Ok(true) => {
                    if why.silent_since.is_some() {
                        // It may have been active after all.
                        self.registry.changed(conversation);
                    } else {
                        self.registry.deleted(conversation);
                    }
                    return Ok(true);
                }
                Ok(false) if tokio::time::Instant::now() < until => {}
                Ok(false) => return Ok(false),
                Err(error) => {
                    // It may be gone all the same.
                    self.registry.changed(conversation);
                    return Err(error);
                }
            }
        }
    }
}
