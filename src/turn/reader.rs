//! A reader of one turn: from a cursor to the end, out of memory where it can, out of the record where it must.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures::Stream;

use super::Turns;
use super::audience::Attendance;
use super::cold::{self, Passage};
use super::departures::Lot;
use super::live::{Live, Presence};
use super::log::{Closing, Log, Read};
use super::mirror::Guest;
use super::prompt::Request;
use super::segments::{AHEAD, Mark};
use super::visits::Visit;
use crate::domain::cursor::Owed;
use crate::domain::event::{Closed, Unnumbered};
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::owner::Owner;
use crate::store::Result;
use crate::wire::{Tag, Wire};

/// About so much is given at once.
const CHUNK: usize = 64 << 10;
/// So much room is kept for lines that are still to be framed.
const SCRATCH: usize = 4 << 10;
/// How long a reader that is sent away is asked to wait, in milliseconds: at random, so that not all come at once.
pub const RETRY_MS: std::ops::RangeInclusive<u64> = 500..=3000;
/// The same where the turn ends with its readers and another replica has it: that one goes on counting them for a moment only.
const SOON_MS: std::ops::RangeInclusive<u64> = 500..=1000;

/// How a reader's stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It has told everything.
    Told,
    /// It was closed before.
    Closed(Closed),
    /// The turn's end is told, and not saved.
    Unsaved,
    /// The turn is gone.
    Gone,
}

/// What a poll gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There are frames in the buffer.
    Frames,
    /// That was all.
    Over(Over),
}

/// What a reader at a cursor finds.
pub enum Attached {
    /// It is read on.
    Reader(Box<Reader>),
    /// It has seen the end already.
    Nothing(ConversationId),
    /// It has as many readers as it may.
    Crowded,
}

/// Where a turn's log is in memory.
enum Source {
    /// It is written here.
    Live(Arc<Live>),
    /// It is written elsewhere.
    Mirror(Guest),
}

impl Source {
    fn log(&self) -> &Log {
        match self {
            Self::Live(live) => &live.log,
            Self::Mirror(guest) => &guest.log,
        }
    }
}

enum State {
    Hot { source: Source, place: usize, at: Mark },
    Cold(Pin<Box<dyn Stream<Item = Passage> + Send>>),
    Over(Over),
}

/// A reader of one turn.
pub struct Reader {
    turns: Turns,
    owner: Owner,
    turn_id: TurnId,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    wire: Wire,
    /// The turn's number, on a feed.
    number: Option<u64>,
    follow: bool,
    holds: bool,
    cursor: u64,
    state: State,
    scratch: BytesMut,
    presence: Option<Presence>,
    visit: Option<Visit>,
    /// None where others take all there is room for, and the turn has ended.
    attendance: Option<Attendance<TurnId>>,
    /// Where it stands among those who are sent to other replicas when this one is told to stop.
    lot: Lot,
}

/// How a reader wants to be told.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The encoding.
    pub wire: Wire,
    /// Until the turn's end, or only what there is.
    pub follow: bool,
    /// Whether the turn is held by this reader, so that `on_disconnect` speaks of it. Whoever may change nothing holds nothing.
    pub holds: bool,
}

impl Turns {
    /// A reader of the owner's turn after `cursor`; `None` when the owner has no such turn.
    ///
    /// # Errors
    /// The store's, when the turn does not live here and its record cannot be read.
    pub async fn attach(&self, owner: &Owner, turn: &TurnId, cursor: u64, manner: Manner) -> Result<Option<Attached>> {
        let crowded = || Ok(Some(Attached::Crowded));
        // Before anything is waited for: others come meanwhile.
        let attendance = self.audience.join(owner, turn, manner.holds);
        if let Some(live) = self.registry.get(owner, turn) {
            if attendance.is_none() {
                return crowded();
            }
            let conversation_id = live.lease.conversation_id.clone();
            let mut reader = Reader::new(self, owner, turn, conversation_id, cursor, manner, attendance);
            reader.presence = Presence::new(&live, manner.holds);
            reader.warm(live);
            return Ok(Some(Attached::Reader(Box::new(reader))));
        }
        let guest = self.mirrors.guest(owner, turn);
        if guest.is_some() && attendance.is_none() {
            return crowded();
        }
        // Where somebody reads it here already, what is in memory does for others as well.
        if manner.follow
            && let Some(guest) = guest
            && guest.log.shows_all()
            && guest.log.locate(cursor).is_some()
        {
            let conversation_id = guest.conversation_id.clone();
            let mut reader = Reader::new(self, owner, turn, conversation_id, cursor, manner, attendance);
            reader.visit = self.visit(turn, manner.holds && guest.can_be_held).await;
            reader.attend(guest);
            return Ok(Some(Attached::Reader(Box::new(reader))));
        }
        let Some(standing) = self.store.standing(owner, turn).await? else { return Ok(None) };
        if standing.extent().owed(cursor) == Owed::Nothing {
            return Ok(Some(Attached::Nothing(standing.conversation_id)));
        }
        let has_ended = standing.status.is_end();
        if attendance.is_none() && !has_ended {
            return crowded();
        }
        let conversation_id = standing.conversation_id.clone();
        let mut reader = Reader::new(self, owner, turn, conversation_id, cursor, manner, attendance);
        let holds = manner.holds && !has_ended && Request::from_text(&standing.request).can_be_held();
        reader.visit = self.visit(turn, holds).await;
        // What others passed on lately may be all that it needs; the record has the rest.
        if manner.follow
            && !has_ended
            && standing.crash.is_none()
            && let Some(guest) = self.mirror(owner, turn, &standing).await
        {
            reader.attend(guest);
        }
        Ok(Some(Attached::Reader(Box::new(reader))))
    }
}

impl Reader {
    fn new(
        turns: &Turns,
        owner: &Owner,
        turn_id: &TurnId,
        conversation_id: ConversationId,
        cursor: u64,
        manner: Manner,
        attendance: Option<Attendance<TurnId>>,
    ) -> Self {
        let Manner { wire, follow, holds } = manner;
        let cold = cold::read(turns.clone(), owner.clone(), turn_id.clone(), cursor, follow);
        Self {
            turns: turns.clone(),
            owner: owner.clone(),
            turn_id: turn_id.clone(),
            conversation_id,
            wire,
            number: None,
            follow,
            holds,
            cursor,
            state: State::Cold(Box::pin(cold)),
            scratch: BytesMut::new(),
            presence: None,
            visit: None,
            attendance,
            lot: Lot::draw(),
        }
    }

    /// The same reader as part of a feed: `number` is the turn's in its conversation.
    pub fn on_feed(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// The last event that was told.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    fn warm(&mut self, live: Arc<Live>) {
        let Some(at) = live.log.locate(self.cursor) else { return };
        if self.presence.is_none() {
            self.presence = Presence::new(&live, self.holds);
        }
        self.visit = None;
        let place = live.log.join();
        self.state = State::Hot { source: Source::Live(live), place, at };
    }

    fn attend(&mut self, guest: Guest) {
        let Some(at) = guest.log.locate(self.cursor) else { return };
        let place = guest.join();
        self.state = State::Hot { source: Source::Mirror(guest), place, at };
    }

    fn cool(&mut self) {
        self.leave();
        let (turns, owner, turn_id) = (self.turns.clone(), self.owner.clone(), self.turn_id.clone());
        let cold = cold::read(turns, owner, turn_id, self.cursor, self.follow);
        self.state = State::Cold(Box::pin(cold));
    }

    fn leave(&mut self) {
        if let State::Hot { source, place, .. } = &self.state {
            source.log().part(*place);
        }
    }

    /// Appends the next frames to `out`.
    pub fn poll(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Step> {
        if self.follow && self.turns.departures.is_due(self.lot) && !matches!(self.state, State::Over(_)) {
            if let Some(presence) = &self.presence {
                presence.sent_away();
            }
            return self.closed(out, Closed::Draining);
        }
        loop {
            match &mut self.state {
                State::Over(over) => return Poll::Ready(Step::Over(*over)),
                State::Hot { source, place, at } => {
                    let log = source.log();
                    if at.offset == AHEAD
                        && let Some(now) = log.locate(at.seq)
                    {
                        *at = now;
                    }
                    // On NDJSON outside a feed the log's lines are the frames.
                    let plain = self.wire == Wire::Ndjson && self.number.is_none();
                    let into = if plain { &mut *out } else { &mut self.scratch };
                    match log.read(*at, CHUNK, *place, cx.waker(), into) {
                        Read::Lines(to) => {
                            let seq = at.seq;
                            *at = to;
                            self.cursor = to.seq;
                            if !plain {
                                let tag = self.number.map(|number| Tag { turn_id: self.turn_id.as_str(), number });
                                self.wire.lines(out, seq, &self.scratch, tag);
                                self.scratch.clear();
                                if self.scratch.capacity() > SCRATCH {
                                    self.scratch = BytesMut::new();
                                }
                            }
                            return Poll::Ready(Step::Frames);
                        }
                        Read::Wait if self.follow => return Poll::Pending,
                        Read::Wait => self.end(Over::Told),
                        Read::Gone => self.cool(),
                        // It waited for what never came: the record has what it is owed.
                        Read::Over(Closing::Ended) if at.offset == AHEAD => self.cool(),
                        Read::Over(Closing::Torn) => self.cool(),
                        Read::Over(Closing::Ended) => self.end(Over::Told),
                        Read::Over(Closing::Unsaved(finished)) => {
                            self.unnumbered(out, &Unnumbered::Unsaved(&finished));
                            self.end(Over::Unsaved);
                            return Poll::Ready(Step::Frames);
                        }
                        Read::Over(Closing::Closed(code)) => return self.closed(out, code),
                    }
                }
                State::Cold(pieces) => {
                    let piece = ready!(pieces.as_mut().poll_next(cx)).unwrap_or(Passage::End);
                    match piece {
                        Passage::Lines { seq, lines } => {
                            self.cursor = seq + memchr::memchr_iter(b'\n', &lines).count() as u64;
                            let tag = self.number.map(|number| Tag { turn_id: self.turn_id.as_str(), number });
                            self.wire.lines(out, seq, &lines, tag);
                            return Poll::Ready(Step::Frames);
                        }
                        Passage::Snapshot(message) => {
                            self.cursor = message.seq;
                            self.unnumbered(out, &Unnumbered::Snapshot { seq: message.seq, message: &message });
                            return Poll::Ready(Step::Frames);
                        }
                        Passage::Hot(live) => {
                            self.warm(live);
                            if let State::Cold(_) = self.state {
                                self.cool();
                            }
                        }
                        Passage::Mirrored(guest) => {
                            self.attend(guest);
                            if let State::Cold(_) = self.state {
                                self.cool();
                            }
                        }
                        Passage::End => self.end(Over::Told),
                        Passage::Gone => self.end(Over::Gone),
                        Passage::Closed(code) => return self.closed(out, code),
                    }
                }
            }
        }
    }

    fn closed(&mut self, out: &mut BytesMut, code: Closed) -> Poll<Step> {
        close(self.wire, out, code, if self.visit.is_some() { SOON_MS } else { RETRY_MS });
        self.end(Over::Closed(code));
        Poll::Ready(Step::Frames)
    }

    fn unnumbered(&self, out: &mut BytesMut, frame: &Unnumbered<'_>) {
        let tag = self.number.map(|number| Tag { turn_id: self.turn_id.as_str(), number });
        self.wire.unnumbered(out, frame, tag);
    }

    fn end(&mut self, over: Over) {
        self.leave();
        (self.presence, self.visit, self.attendance) = (None, None, None);
        self.state = State::Over(over);
    }
}

/// Tells a reader that its stream closes before the end, and when to come back: within so many milliseconds.
pub fn close(wire: Wire, out: &mut BytesMut, code: Closed, within: std::ops::RangeInclusive<u64>) {
    let retry_ms = fastrand::u64(within);
    wire.unnumbered(out, &Unnumbered::Closed { code, retry_after_ms: Some(retry_ms) }, None);
    wire.retry(out, retry_ms);
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
    }
}
