//! The log of one turn: its events as JSON lines, each encoded once, and how far each reader may see.
//!
//! Bytes lie in segments. What is saved and old is let go; whoever lags behind that reads the journal. The fold
//! goes with the lines, under the same lock, until it grows too large; then it is made again from the journal
//! when somebody needs it.

use std::task::Waker;
use std::time::Instant;

use parking_lot::Mutex;

use super::segments::{Mark, Row, Segments};
use super::waiting::Waiting;
use crate::domain::draft::Draft;
use crate::domain::event::{Closed, Event, Finished, write_delta_line, write_line, write_reasoning_line};
use crate::domain::stream::Durability;

/// How a log came to take no more events.
#[derive(Clone, Debug)]
pub enum Closing {
    /// Its end is saved, and its last line.
    Ended,
    /// It has ended, and nobody could save that so far.
    Unsaved(Box<Finished>),
    /// It will go on elsewhere, or later.
    Closed(Closed),
}

/// What a reader finds.
#[derive(Debug)]
pub enum Read {
    /// Lines, now in the reader's buffer, from the event after its mark to the new mark.
    Lines(Mark),
    /// Nothing yet; its waker is kept.
    Wait,
    /// What it needs is no longer in memory.
    Gone,
    /// Nothing more will come.
    Over(Closing),
}

/// What is to be saved next.
#[derive(Debug)]
pub struct Taken {
    /// Each at most about 64 KiB, cut between lines.
    pub rows: Vec<Row>,
    /// Where they end.
    pub to: Mark,
}

#[derive(Debug, Default)]
struct Inner {
    segments: Segments,
    /// Where the batch ends that the journal has in hand.
    taken: Mark,
    saved: Mark,
    /// Up to here the bytes have been given back as saved, or as never to be.
    settled: u64,
    draft: Option<Draft>,
    /// When the oldest event that is not saved was appended, and the oldest after `taken`.
    oldest: Option<Instant>,
    oldest_after_taken: Option<Instant>,
    closing: Option<Closing>,
    sealed: bool,
    waiting: Waiting,
}

/// The log of one turn.
#[derive(Debug)]
pub struct Log {
    inner: Mutex<Inner>,
    durability: Durability,
    memory: usize,
}

/// A run of events being appended: all of them become visible at once.
pub struct Append<'a> {
    log: &'a mut Inner,
    /// Bytes appended so far.
    bytes: usize,
}

impl Append<'_> {
    /// A piece of the answer.
    pub fn delta(&mut self, text: &str) {
        let seq = self.line(|out, seq| write_delta_line(out, seq, text));
        if let Some(draft) = &mut self.log.draft {
            draft.apply_delta(seq, text);
        }
    }

    /// A piece of the reasoning.
    pub fn reasoning(&mut self, text: &str) {
        let seq = self.line(|out, seq| write_reasoning_line(out, seq, text));
        if let Some(draft) = &mut self.log.draft {
            draft.apply_reasoning(seq, text);
        }
    }

    /// Bytes appended so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Anything else.
    pub fn event(&mut self, event: Event) {
        let before = self.bytes;
        let seq = self.line(|out, seq| write_line(out, seq, &event));
        let bytes = self.bytes - before;
        if let Some(draft) = &mut self.log.draft {
            draft.apply(seq, event);
            draft.weigh(bytes);
        }
    }

    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        let before = self.log.segments.end().offset;
        let seq = self.log.segments.line(write);
        self.bytes += (self.log.segments.end().offset - before) as usize;
        seq
    }
}

impl Log {
    /// An empty log that keeps about `memory` bytes, lines and fold together.
    pub fn new(durability: Durability, memory: usize) -> Self {
        let inner = Inner { draft: Some(Draft::default()), ..Inner::default() };
        Self { inner: Mutex::new(inner), durability, memory }
    }

    /// Appends what `write` writes. Gives the bytes it took, and whether the journal is to be told: it has
    /// everything that came before in hand already.
    pub fn append(&self, write: impl FnOnce(&mut Append<'_>)) -> (usize, bool) {
        let mut inner = self.inner.lock();
        if inner.sealed {
            return (0, false);
        }
        let clean = inner.segments.end() == inner.taken;
        let mut append = Append { log: &mut inner, bytes: 0 };
        write(&mut append);
        let bytes = append.bytes;
        if bytes == 0 {
            return (0, false);
        }
        let now = Instant::now();
        inner.oldest.get_or_insert(now);
        inner.oldest_after_taken.get_or_insert(now);
        if inner.draft.as_ref().is_some_and(|draft| draft.weight() > self.memory / 2) {
            inner.draft = None;
        }
        if self.durability == Durability::Relaxed {
            inner.waiting.wake();
        }
        (bytes, clean)
    }

    /// Enters events that are saved already, such as the `turn.started` of an admission. Gives nothing to save.
    pub fn append_saved(&self, write: impl FnOnce(&mut Append<'_>)) {
        let mut inner = self.inner.lock();
        write(&mut Append { log: &mut inner, bytes: 0 });
        inner.taken = inner.segments.end();
        inner.saved = inner.segments.end();
        let end = inner.segments.end().offset;
        inner.settle(end);
        inner.waiting.wake();
    }

    /// What is not saved and not in anybody's hand; the journal has it in hand from now on. Of a sealed log it is
    /// what its end saves too, cut alike: an end that has to wait does not keep what was shown waiting.
    pub fn take(&self) -> Option<Taken> {
        let mut inner = self.inner.lock();
        if inner.is_closed() || inner.taken == inner.segments.end() {
            return None;
        }
        let (from, to) = (inner.taken, inner.segments.end());
        let rows = inner.segments.rows(from, to);
        inner.taken = to;
        inner.oldest_after_taken = None;
        Some(Taken { rows, to })
    }

    /// What was taken is saved. Gives the bytes that were.
    pub fn saved(&self, to: Mark) -> u64 {
        let mut inner = self.inner.lock();
        if inner.is_closed() || to.offset <= inner.saved.offset {
            return 0;
        }
        inner.saved = to;
        inner.oldest = if inner.saved == inner.segments.end() { None } else { inner.oldest_after_taken };
        let room = if inner.draft.is_some() { self.memory / 2 } else { self.memory };
        inner.segments.let_go(to.offset, room as u64);
        if self.durability == Durability::Strict {
            inner.waiting.wake();
        }
        inner.settle(to.offset)
    }

    /// From here on nothing is appended. Gives what is not saved: first what the journal may have in hand, cut as
    /// it has it, so that saving both changes nothing; then the rest.
    pub fn seal(&self) -> Taken {
        let mut inner = self.inner.lock();
        inner.sealed = true;
        let (saved, taken, appended) = (inner.saved, inner.taken, inner.segments.end());
        let mut rows = inner.segments.rows(saved, taken);
        rows.extend(inner.segments.rows(taken, appended));
        Taken { rows, to: appended }
    }

    /// Ends a sealed log whose end is saved: `line` is its last. Gives the bytes that were saved with it.
    pub fn end(&self, line: &[u8]) -> u64 {
        let mut inner = self.inner.lock();
        let end = inner.segments.end().offset;
        let bytes = inner.settle(end);
        inner.segments.line(|out, _| out.extend_from_slice(line));
        inner.saved = inner.segments.end();
        inner.taken = inner.segments.end();
        inner.oldest = None;
        inner.closing = Some(Closing::Ended);
        inner.waiting.wake();
        bytes
    }

    /// Tells readers of an end that is not saved. It may be ended yet.
    pub fn tell(&self, finished: Finished) {
        let mut inner = self.inner.lock();
        inner.sealed = true;
        inner.closing = Some(Closing::Unsaved(Box::new(finished)));
        inner.waiting.wake();
    }

    /// Closes the log to its readers: nothing more comes from here. Gives the bytes that will not be saved.
    pub fn close(&self, code: Closed) -> u64 {
        let mut inner = self.inner.lock();
        inner.sealed = true;
        inner.closing = Some(Closing::Closed(code));
        inner.waiting.wake();
        let end = inner.segments.end().offset;
        inner.settle(end)
    }

    /// Where the log ends.
    pub fn appended(&self) -> Mark {
        self.inner.lock().segments.end()
    }

    /// Bytes that are not saved.
    pub fn unsaved(&self) -> u64 {
        let inner = self.inner.lock();
        inner.segments.end().offset - inner.saved.offset
    }

    /// Since when the oldest unsaved event waits.
    pub fn oldest_unsaved(&self) -> Option<Instant> {
        self.inner.lock().oldest
    }

    /// What a reader may see of the fold, if it is in memory.
    pub fn draft(&self) -> Option<Draft> {
        self.inner.lock().draft.clone()
    }

    /// The last seq that a reader may see.
    pub fn visible(&self) -> u64 {
        let inner = self.inner.lock();
        inner.visible(self.durability).seq
    }

    /// The lines after `after`, up to and with the event `until`. `None` when they are no longer in memory.
    pub fn lines(&self, after: u64, until: u64) -> Option<Vec<u8>> {
        let inner = self.inner.lock();
        let (from, to) = (inner.segments.locate(after)?, inner.segments.locate(until)?);
        Some(inner.segments.between(from.offset, to.offset))
    }

    /// The place after `seq`, if what follows it is in memory.
    pub fn locate(&self, seq: u64) -> Option<Mark> {
        self.inner.lock().segments.locate(seq)
    }

    /// Copies lines after `from` into `out`: whole lines, about `most` bytes of them.
    pub fn read(&self, from: Mark, most: usize, place: usize, waker: &Waker, out: &mut Vec<u8>) -> Read {
        let mut inner = self.inner.lock();
        let visible = inner.visible(self.durability);
        if from.offset >= visible.offset {
            if let Some(closing) = &inner.closing {
                return Read::Over(closing.clone());
            }
            inner.waiting.arm(place, waker);
            return Read::Wait;
        }
        inner.segments.read(from, visible.offset, most, out).map_or(Read::Gone, Read::Lines)
    }

    /// A place for a reader's waker.
    pub fn join(&self) -> usize {
        self.inner.lock().waiting.join()
    }

    /// Gives the place back.
    pub fn part(&self, place: usize) {
        self.inner.lock().waiting.part(place);
    }
}

impl Inner {
    /// Whether what is not saved is not ours to save any more.
    fn is_closed(&self) -> bool {
        matches!(self.closing, Some(Closing::Closed(_)))
    }

    fn settle(&mut self, offset: u64) -> u64 {
        let bytes = offset.saturating_sub(self.settled);
        self.settled += bytes;
        bytes
    }

    fn visible(&self, durability: Durability) -> Mark {
        match durability {
            Durability::Relaxed => self.segments.end(),
            Durability::Strict => self.saved,
        }
    }
}
