//! A conversation's feed: its turns one after the other, whoever started them.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::Turns;
use super::audience::Attendance;
use super::reader::{Attached, Manner, Over, RETRY_MS, Reader, Step, close};
use super::registry::Word;
use crate::domain::conversation::Conversation;
use crate::domain::cursor::FeedCursor;
use crate::domain::event::{Closed, Unnumbered};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;
use crate::store::Result;
use crate::wire::Wire;

/// How often other replicas' turns are looked for…
const POLL: Duration = Duration::from_millis(500);
/// …where they tell of them as well…
const CALM: Duration = Duration::from_secs(3);
/// …and, where there are none, what was done although its commit gave no answer.
const SELDOM: Duration = Duration::from_secs(10);

/// A feed of one conversation.
pub struct Feed {
    place: Place,
    wire: Wire,
    state: State,
    _attendance: Attendance<ConversationId>,
}

/// What comes of following a conversation.
pub enum Followed {
    /// It is followed.
    Feed(Box<Feed>),
    /// As many follow it as may.
    Crowded,
}

/// Where a feed is.
#[derive(Clone)]
struct Place {
    turns: Turns,
    owner: Owner,
    conversation: ConversationId,
    manner: Manner,
    /// The number of the turn to be told next, and the last event of it that was told.
    at: FeedCursor,
    /// The conversation as it was told last.
    told: Arc<Conversation>,
    instructed: bool,
    word: watch::Receiver<Word>,
    /// Keeps the room open that `word` listens to.
    _room: Arc<watch::Sender<Word>>,
}

enum State {
    Looking(BoxFuture<'static, Found>),
    Reading(Box<Reader>),
    Over(Over),
}

enum Found {
    Turn(Box<Reader>, u64),
    /// A turn of which all is told.
    Told(u64),
    Changed(Box<Conversation>),
    Deleted,
    Closed(Closed),
}

impl Turns {
    /// A feed of the owner's conversation after `cursor`; without one, from the live turn's first event, or from
    /// now. `None` when the owner has no such conversation. Its reader may read what models are told beforehand if
    /// `instructed`.
    ///
    /// # Errors
    /// The store's, when the conversation cannot be read.
    pub async fn feed(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        cursor: Option<FeedCursor>,
        manner: Manner,
        instructed: bool,
    ) -> Result<Option<Followed>> {
        let Some(attendance) = self.followers.join(owner, conversation, manner.holds) else {
            return Ok(Some(Followed::Crowded));
        };
        let room = self.registry.room(conversation);
        let word = room.subscribe();
        let Some(found) = self.conversation(owner, conversation).await? else { return Ok(None) };
        let at = match (cursor, found.live_turn_id.clone()) {
            (Some(cursor), _) => cursor,
            (None, Some(live)) => {
                let number = match self.store.turn(owner, &live).await? {
                    Some(record) => record.number,
                    None => self.store.last_number(owner, conversation).await? + 1,
                };
                FeedCursor { number, seq: 0 }
            }
            (None, None) => FeedCursor { number: self.store.last_number(owner, conversation).await? + 1, seq: 0 },
        };
        let (owner, conversation) = (owner.clone(), conversation.clone());
        let told = Arc::new(found.seen(instructed));
        let mut place =
            Place { turns: self.clone(), owner, conversation, manner, at, told, instructed, word, _room: room };
        // Before anything is told: whoever has the turn is to know of this reader by then.
        let state = loop {
            match place.find().await? {
                Some(Found::Told(number)) => place.at = FeedCursor { number: number + 1, seq: 0 },
                Some(found) => break State::Looking(Box::pin(std::future::ready(found))),
                None => break State::Looking(Box::pin(place.clone().look())),
            }
        };
        Ok(Some(Followed::Feed(Box::new(Feed { place, wire: manner.wire, state, _attendance: attendance }))))
    }
}

impl Place {
    /// Waits for the next turn.
    async fn look(mut self) -> Found {
        let turns = self.turns.clone();
        // Drawn once: whoever looks again meanwhile does not wait anew.
        let mut time_to_go = pin!(turns.time_to_go());
        loop {
            let word = *self.word.borrow_and_update();
            match self.find().await {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, conversation_id = %self.conversation, "a feed cannot read the record");
                    return Found::Closed(Closed::Unavailable);
                }
            }
            if word.deleted {
                return Found::Deleted;
            }
            let poll = match &self.turns.cluster {
                _ if !self.turns.store.is_shared() => SELDOM,
                Some(cluster) if cluster.is_up() => CALM,
                Some(_) | None => POLL,
            };
            tokio::select! {
                changed = self.word.changed() => if changed.is_err() { return Found::Deleted },
                () = &mut time_to_go => return Found::Closed(Closed::Draining),
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    async fn find(&self) -> Result<Option<Found>> {
        let (owner, conversation) = (&self.owner, &self.conversation);
        let Some(record) = self.turns.store.turn_from(owner, conversation, self.at.number).await? else {
            return Ok(match self.turns.conversation(owner, conversation).await? {
                None => Some(Found::Deleted),
                Some(found) => {
                    let found = found.seen(self.instructed);
                    (!found.reads_like(&self.told)).then(|| Found::Changed(Box::new(found)))
                }
            });
        };
        let seq = if record.number == self.at.number { self.at.seq } else { 0 };
        Ok(match self.turns.attach(owner, &record.id, seq, self.manner).await? {
            Some(Attached::Reader(reader)) => Some(Found::Turn(Box::new(reader.on_feed(record.number)), record.number)),
            Some(Attached::Nothing(_)) => Some(Found::Told(record.number)),
            Some(Attached::Crowded) => Some(Found::Closed(Closed::Unavailable)),
            None => None,
        })
    }
}

impl Feed {
    fn look(&mut self) {
        self.state = State::Looking(Box::pin(self.place.clone().look()));
    }

    /// Appends the next frames to `out`.
    pub fn poll(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Step> {
        loop {
            match &mut self.state {
                State::Over(over) => return Poll::Ready(Step::Over(*over)),
                State::Looking(looking) => match ready!(looking.as_mut().poll(cx)) {
                    Found::Turn(reader, number) => {
                        self.place.at.number = number;
                        self.state = State::Reading(reader);
                    }
                    Found::Told(number) => {
                        self.place.at = FeedCursor { number: number + 1, seq: 0 };
                        self.look();
                    }
                    Found::Changed(conversation) => {
                        let frame = Unnumbered::Updated { conversation: &conversation };
                        self.wire.unnumbered(out, &frame, None);
                        self.place.told = Arc::from(conversation);
                        self.look();
                        return Poll::Ready(Step::Frames);
                    }
                    Found::Deleted => {
                        let frame = Unnumbered::Deleted { conversation_id: &self.place.conversation };
                        self.wire.unnumbered(out, &frame, None);
                        self.state = State::Over(Over::Gone);
                        return Poll::Ready(Step::Frames);
                    }
                    Found::Closed(code) => {
                        close(self.wire, out, code, RETRY_MS);
                        self.state = State::Over(Over::Closed(code));
                        return Poll::Ready(Step::Frames);
                    }
                },
                State::Reading(reader) => match ready!(reader.poll(cx, out)) {
                    Step::Frames => return Poll::Ready(Step::Frames),
                    Step::Over(Over::Told) => {
                        self.place.at = FeedCursor { number: self.place.at.number + 1, seq: 0 };
                        self.look();
                    }
                    Step::Over(Over::Gone) => {
                        self.place.at.seq = reader.cursor();
                        self.look();
                    }
                    Step::Over(over @ (Over::Closed(_) | Over::Unsaved)) => self.state = State::Over(over),
                },
            }
        }
    }
}
