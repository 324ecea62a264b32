//! What is asked of turns besides their events: how they stand, what they came to, a conversation's messages.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::Turns;
use super::cold::{self, Passage};
use super::fold;
use super::live::{Live, Presence};
use super::prompt::Request;
use crate::domain::cursor::{self, FeedCursor};
use crate::domain::event::Closed;
use crate::domain::ids::{ConversationId, MessageId, TurnId};
use crate::domain::message::{Message, Role};
use crate::domain::owner::Owner;
use crate::domain::turn::Turn;
use crate::store::Result;
use crate::store::messages::Placed;

/// So many bytes come in one page, as JSON, and one message at least.
const PAGE_BYTES: usize = 8 << 20;

/// What a turn came to, for somebody who waited for it.
#[derive(Debug)]
pub enum Outcome {
    /// It has ended; its answer, and how long the upstream that refused wants to be left alone.
    Ended(Box<Message>, Option<Duration>),
    /// It has ended, and nobody could save that so far.
    Unsaved,
    /// It goes on elsewhere, or later.
    Closed(Closed),
    /// It has as many readers as it may.
    Crowded,
    /// The owner has no such turn.
    Gone,
}

/// Some of a conversation's messages.
#[derive(Debug)]
pub struct Page {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// What comes before them, if anything does: for `before`.
    pub next: Option<u64>,
    /// From where a feed tells what these messages do not have yet.
    pub feed: FeedCursor,
}

impl Turns {
    /// The owner's turn now; `None` when the owner has none of that id.
    ///
    /// # Errors
    /// The store's.
    pub async fn turn(&self, owner: &Owner, id: &TurnId) -> Result<Option<Turn>> {
        if let Some(live) = self.registry.get(owner, id) {
            let message = fold::message(self, &live).await;
            // It may have ended meanwhile, or be erased, and then the record knows more.
            if self.registry.get(owner, id).is_some() {
                return Ok(Some(turn_of(&live, message?)));
            }
        }
        let Some(mut record) = self.store.turn(owner, id).await? else { return Ok(None) };
        if !record.status.is_end() {
            let saved = self.store.journal_end(owner, id).await?;
            record.message = fold::saved(self, owner, id, saved).await?.into_message(record.stub());
        }
        Ok(Some(record.into_turn()))
    }

    /// Waits for a turn's end, as a reader of it; `holds` says whether the turn is held by this reader.
    ///
    /// # Errors
    /// The store's.
    pub async fn outcome(&self, owner: &Owner, id: &TurnId, holds: bool) -> Result<Outcome> {
        let attendance = self.audience.join(owner, id, holds);
        let lives_here = self.registry.get(owner, id).is_some();
        if attendance.is_none() && (lives_here || self.mirrors.guest(owner, id).is_some()) {
            return Ok(Outcome::Crowded);
        }
        let elsewhere = if lives_here {
            None
        } else {
            let Some(standing) = self.store.standing(owner, id).await? else { return Ok(Outcome::Gone) };
            Some(standing).filter(|standing| !standing.status.is_end())
        };
        if let Some(standing) = elsewhere {
            if attendance.is_none() {
                return Ok(Outcome::Crowded);
            }
            let _visit = self.visit(id, holds && Request::from_text(&standing.request).can_be_held()).await;
            // The record tells when it is over.
            loop {
                let mut pieces = pin!(cold::read(self.clone(), owner.clone(), id.clone(), cursor::MAX, true));
                match pieces.next().await {
                    Some(Passage::Mirrored(guest)) => tokio::select! {
                        () = guest.over.cancelled() => if guest.log.is_unsaved() {
                            return Ok(Outcome::Unsaved);
                        },
                        () = self.lifecycle.curfew().cancelled() => return Ok(Outcome::Closed(Closed::Draining)),
                    },
                    None | Some(Passage::Lines { .. } | Passage::Snapshot(_) | Passage::Hot(_) | Passage::End) => break,
                    Some(Passage::Gone) => return Ok(Outcome::Gone),
                    Some(Passage::Closed(code)) => return Ok(Outcome::Closed(code)),
                }
            }
        }
        let mut again_after = None;
        if let Some(live) = self.registry.get(owner, id) {
            let presence = Presence::new(&live, holds);
            tokio::select! {
                () = live.shown.cancelled() => {}
                () = self.lifecycle.hard().cancelled() => return Ok(Outcome::Closed(Closed::Draining)),
            }
            drop(presence);
            again_after = live.again_after();
            if !live.settled.is_cancelled() {
                return Ok(Outcome::Unsaved);
            }
        }
        Ok(match self.store.turn(owner, id).await? {
            Some(record) if record.status.is_end() => Outcome::Ended(Box::new(record.message), again_after),
            Some(_) => Outcome::Closed(Closed::LostLease),
            None => Outcome::Gone,
        })
    }

    /// The newest `limit` messages before the place `before`; `None` when the owner has no such conversation.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Option<Page>> {
        if self.conversation(owner, conversation).await?.is_none() {
            return Ok(None);
        }
        let (mut placed, cut) = self.placed(owner, conversation, before, limit + 1).await?;
        let over = placed.len() > limit as usize;
        if over {
            placed.remove(0);
        }
        let next = placed.first().filter(|_| over || cut).map(|first| first.position);
        let tip = match before {
            None => None,
            Some(_) => Some(self.placed(owner, conversation, None, 2).await?.0),
        };
        let feed = self.feed_cursor(owner, conversation, tip.as_ref().unwrap_or(&placed)).await?;
        let messages = placed.into_iter().map(|placed| placed.message).collect();
        Ok(Some(Page { messages, next, feed }))
    }

    /// Messages as they are now, oldest first, and whether fewer came because they are large.
    async fn placed(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<(Vec<Placed>, bool)> {
        let (mut placed, cut) = self.store.messages(owner, conversation, before, limit, PAGE_BYTES).await?;
        for Placed { message, .. } in &mut placed {
            self.bring_up(owner, message).await?;
        }
        Ok((placed, cut))
    }

    /// The owner's message as it is now; `None` when the owner has none of that id.
    ///
    /// # Errors
    /// The store's.
    pub async fn message(&self, owner: &Owner, id: &MessageId) -> Result<Option<Message>> {
        let mut found = self.store.message(owner, id).await?;
        if let Some(message) = &mut found {
            self.bring_up(owner, message).await?;
        }
        Ok(found)
    }

    /// Brings a message of the record up to what its turn has said so far.
    pub(super) async fn bring_up(&self, owner: &Owner, message: &mut Message) -> Result<()> {
        if !message.status.is_end()
            && let Some(now) = self.turn(owner, &message.turn_id).await?
        {
            let feedback = message.feedback.take();
            *message = Message { feedback, ..now.message };
        }
        Ok(())
    }

    /// Where a feed goes on after these, the newest messages: in the live turn if there is one, else behind the last.
    async fn feed_cursor(&self, owner: &Owner, conversation: &ConversationId, newest: &[Placed]) -> Result<FeedCursor> {
        let answers = || newest.iter().filter(|placed| placed.message.role == Role::Assistant);
        let Some(last) = answers().next_back() else { return Ok(FeedCursor { number: 0, seq: 0 }) };
        let at = |placed: &Placed| FeedCursor { number: placed.number(), seq: placed.message.seq };
        let Some(open) = answers().find(|placed| !placed.message.status.is_end()) else { return Ok(at(last)) };
        // The live turn may be older than what these show.
        let oldest = answers().next().map_or(0, Placed::number);
        if let Some((turn, number)) = self.store.open_turns(owner, conversation).await?.into_iter().next()
            && number < oldest
            && let Some(turn) = self.turn(owner, &turn).await?
        {
            return Ok(FeedCursor { number, seq: turn.seq });
        }
        Ok(at(open))
    }
}

fn turn_of(live: &Arc<Live>, message: Message) -> Turn {
    Turn {
        id: live.lease.turn_id.clone(),
        conversation_id: live.lease.conversation_id.clone(),
        status: message.status,
        seq: message.seq,
        usage: message.usage,
        message,
        created_at: live.created_at(),
        finished_at: None,
    }
}
