//! A conversation from its first message to its newest, a page at a time: as much of it is in memory as one page has.

use super::Turns;
use crate::domain::conversation::Conversation;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::message::Message;
use crate::domain::owner::Owner;
use crate::store::Result;
use crate::store::messages::Placed;

/// How many messages come in one page…
const PAGE: u32 = 100;
/// …and how much of their text.
const PAGE_BYTES: usize = 1 << 20;
/// How much of a path is looked up at once.
const STRIDE: u32 = 1000;

/// A conversation that is being read from its first message on. What is said from now on is not in it.
pub struct Export {
    turns: Turns,
    owner: Owner,
    /// The conversation as it stands.
    pub conversation: Conversation,
    /// The place that was read last.
    after: u64,
    /// The place that is read last.
    last: u64,
    /// The places on the path to the newest message, oldest first; `None` = every branch is wanted.
    path: Option<Vec<u64>>,
}

impl Turns {
    /// The owner's conversation, to be read: all of it, or the path to its newest message. `None` when the owner has none of
    /// that id.
    ///
    /// # Errors
    /// The store's.
    pub async fn export(
        &self,
        owner: &Owner,
        id: &ConversationId,
        newest_path: bool,
        instructed: bool,
    ) -> Result<Option<Export>> {
        let Some(conversation) = self.conversation(owner, id).await? else { return Ok(None) };
        let conversation = conversation.seen(instructed);
        let (newest, _) = self.store.messages(owner, id, None, 1, 0).await?;
        let newest = newest.into_iter().next();
        let last = newest.as_ref().map_or(0, |placed| placed.position);
        let path = match newest {
            Some(Placed { message, .. }) if newest_path => Some(self.places(owner, message.id).await?),
            Some(_) | None => None,
        };
        Ok(Some(Export { turns: self.clone(), owner: owner.clone(), conversation, after: 0, last, path }))
    }

    async fn places(&self, owner: &Owner, to: MessageId) -> Result<Vec<u64>> {
        let (mut places, mut next) = (Vec::new(), Some(to));
        while let Some(to) = next {
            let (some, before) = self.store.places(owner, &to, STRIDE).await?;
            places.extend(some);
            next = before;
        }
        places.reverse();
        Ok(places)
    }
}

impl Export {
    /// The next messages; `None` at the end. Empty where the conversation is gone before its end was read.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(&mut self) -> Result<Option<Vec<Message>>> {
        // Branches that are not wanted are passed over.
        if let Some(path) = &self.path {
            let next = path.partition_point(|place| *place <= self.after);
            match path.get(next) {
                Some(place) => self.after = self.after.max(place - 1),
                None => self.after = self.last,
            }
        }
        if self.after >= self.last {
            return Ok(None);
        }
        let (owner, id) = (&self.owner, &self.conversation.id);
        let placed = self.turns.store.messages_between(owner, id, (self.after, self.last), PAGE, PAGE_BYTES).await?;
        if let Some(newest) = placed.last() {
            self.after = newest.position;
        }
        let wanted =
            |placed: &Placed| self.path.as_ref().is_none_or(|path| path.binary_search(&placed.position).is_ok());
        let mut messages: Vec<Message> = placed.into_iter().filter(wanted).map(|placed| placed.message).collect();
        for message in &mut messages {
            self.turns.bring_up(owner, message).await?;
        }
        Ok(Some(messages))
    }
}
