//! The log of one turn: its events as JSON lines, each encoded once, and how far each reader may see.
//!
//! Bytes lie in segments. What is saved and old is let go; whoever lags behind that reads the journal. The fold
//! goes with the lines, under the same lock, until it grows too large; then it is made again from the journal
//! when somebody needs it.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::domain::draft::Draft;
use crate::domain::event::{Closed, Event, Finished, write_delta_line, write_line, write_reasoning_line};
use crate::domain::stream::Durability;

/// A segment that has grown to this takes no more lines.
const SEGMENT_BYTES: usize = 48 << 10;
/// One row of the journal holds about so much.
const ROW_BYTES: usize = 64 << 10;

/// The offset of a place that the log has not reached: it is located again later.
pub const AHEAD: u64 = u64::MAX;

/// A place in the log: after the event `seq`, `offset` bytes from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The event before the place.
    pub seq: u64,
    /// Bytes before the place.
    pub offset: u64,
}

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
    /// Each at most about 64 KiB, cut between lines: first seq, last seq, lines.
    pub rows: Vec<(u64, u64, Bytes)>,
    /// Where they end.
    pub to: Mark,
}

#[derive(Debug)]
struct Segment {
    start: Mark,
    bytes: Vec<u8>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start.offset + self.bytes.len() as u64
    }
}

/// Where a reader leaves its waker; `armed` while it wants to be woken.
#[derive(Debug, Default)]
struct Slot {
    waker: Option<Waker>,
    armed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    segments: VecDeque<Segment>,
    appended: Mark,
    /// Where the batch ends that the journal has in hand.
    taken: Mark,
    saved: Mark,
    draft: Option<Draft>,
    /// When the oldest event that is not saved was appended, and the oldest after `taken`.
    oldest: Option<Instant>,
    oldest_after_taken: Option<Instant>,
    closing: Option<Closing>,
    sealed: bool,
    given_up: bool,
    readers: Vec<Slot>,
    free: Vec<usize>,
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

    /// Anything else.
    pub fn event(&mut self, event: Event) {
        let seq = self.line(|out, seq| write_line(out, seq, &event));
        if let Some(draft) = &mut self.log.draft {
            draft.apply(seq, event);
        }
    }

    fn line(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        let seq = self.log.appended.seq + 1;
        let start = self.log.appended;
        if self.log.segments.back().is_none_or(|segment| segment.bytes.len() >= SEGMENT_BYTES) {
            self.log.segments.push_back(Segment { start, bytes: Vec::new() });
        }
        if let Some(segment) = self.log.segments.back_mut() {
            let before = segment.bytes.len();
            write(&mut segment.bytes, seq);
            let grown = segment.bytes.len() - before;
            self.bytes += grown;
            self.log.appended = Mark { seq, offset: start.offset + grown as u64 };
        }
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
        let clean = inner.appended == inner.taken;
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
            inner.wake();
        }
        (bytes, clean)
    }

    /// Enters events that are saved already, such as the `turn.started` of an admission. Gives nothing to save.
    pub fn append_saved(&self, write: impl FnOnce(&mut Append<'_>)) {
        let mut inner = self.inner.lock();
        write(&mut Append { log: &mut inner, bytes: 0 });
        inner.taken = inner.appended;
        inner.saved = inner.appended;
        inner.wake();
    }

    /// What is not saved and not in anybody's hand; the journal has it in hand from now on. Of a sealed log it is
    /// what its end saves too, cut alike: an end that has to wait does not keep what was shown waiting.
    pub fn take(&self) -> Option<Taken> {
        let mut inner = self.inner.lock();
        if inner.given_up || inner.taken == inner.appended {
            return None;
        }
        let (from, to) = (inner.taken, inner.appended);
        let rows = inner.rows(from, to);
        inner.taken = to;
        inner.oldest_after_taken = None;
        Some(Taken { rows, to })
    }

    /// What was taken is saved. Gives the bytes that were.
    pub fn saved(&self, to: Mark) -> u64 {
        let mut inner = self.inner.lock();
        if inner.given_up || to.offset <= inner.saved.offset {
            return 0;
        }
        let bytes = to.offset - inner.saved.offset;
        inner.saved = to;
        inner.oldest = if inner.saved == inner.appended { None } else { inner.oldest_after_taken };
        let room = if inner.draft.is_some() { self.memory / 2 } else { self.memory };
        inner.let_go(room as u64);
        inner.wake();
        bytes
    }

    /// From here on nothing is appended. Gives what is not saved: first what the journal may have in hand, cut as
    /// it has it, so that saving both changes nothing; then the rest.
    pub fn seal(&self) -> Taken {
        let mut inner = self.inner.lock();
        inner.sealed = true;
        let (saved, taken, appended) = (inner.saved, inner.taken, inner.appended);
        let mut rows = inner.rows(saved, taken);
        rows.extend(inner.rows(taken, appended));
        Taken { rows, to: appended }
    }

    /// Ends a sealed log whose end is saved: `line` is its last.
    pub fn end(&self, line: &[u8]) -> u64 {
        let mut inner = self.inner.lock();
        let unsaved = inner.appended.offset - inner.saved.offset;
        let mut append = Append { log: &mut inner, bytes: 0 };
        append.line(|out, _| out.extend_from_slice(line));
        inner.saved = inner.appended;
        inner.taken = inner.appended;
        inner.oldest = None;
        inner.closing = Some(Closing::Ended);
        inner.wake();
        unsaved
    }

    /// What is not saved is not ours to save any more: gives its bytes, once.
    pub fn give_up(&self) -> u64 {
        let mut inner = self.inner.lock();
        let unsaved = if inner.given_up { 0 } else { inner.appended.offset - inner.saved.offset };
        inner.sealed = true;
        inner.given_up = true;
        unsaved
    }

    /// Closes the log to its readers without its last line.
    pub fn close(&self, closing: Closing) {
        let mut inner = self.inner.lock();
        inner.sealed = true;
        inner.closing = Some(closing);
        inner.wake();
    }

    /// Where the log ends.
    pub fn appended(&self) -> Mark {
        self.inner.lock().appended
    }

    /// Bytes that are not saved.
    pub fn unsaved(&self) -> u64 {
        let inner = self.inner.lock();
        inner.appended.offset - inner.saved.offset
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
        let (from, to) = (inner.locate(after)?, inner.locate(until)?);
        let mut out = Vec::new();
        inner.copy(from.offset, to.offset, |bytes| out.extend_from_slice(bytes));
        Some(out)
    }

    /// The place after `seq`, if what follows it is in memory.
    pub fn locate(&self, seq: u64) -> Option<Mark> {
        self.inner.lock().locate(seq)
    }

    /// Copies lines after `from` into `out`: whole lines, about `most` bytes of them.
    pub fn read(&self, from: Mark, most: usize, slot: usize, waker: &Waker, out: &mut Vec<u8>) -> Read {
        let mut inner = self.inner.lock();
        let visible = inner.visible(self.durability);
        if from.offset >= visible.offset || from.seq >= visible.seq {
            if let Some(closing) = &inner.closing {
                return Read::Over(closing.clone());
            }
            if let Some(slot) = inner.readers.get_mut(slot) {
                slot.armed = true;
                if !slot.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                    slot.waker = Some(waker.clone());
                }
            }
            return Read::Wait;
        }
        if inner.segments.front().is_none_or(|first| from.offset < first.start.offset) {
            return Read::Gone;
        }
        let at = inner.segments.partition_point(|segment| segment.end() <= from.offset);
        let Some(segment) = inner.segments.get(at) else { return Read::Gone };
        let skip = (from.offset - segment.start.offset) as usize;
        let end = ((visible.offset - segment.start.offset) as usize).min(segment.bytes.len());
        let mut bytes = &segment.bytes[skip..end];
        if bytes.len() > most {
            let whole = memchr::memrchr(b'\n', &bytes[..most]).or_else(|| memchr::memchr(b'\n', bytes));
            bytes = &bytes[..whole.map_or(bytes.len(), |at| at + 1)];
        }
        out.extend_from_slice(bytes);
        let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
        Read::Lines(Mark { seq: from.seq + lines, offset: from.offset + bytes.len() as u64 })
    }

    /// A place for a reader's waker.
    pub fn join(&self) -> usize {
        let mut inner = self.inner.lock();
        if let Some(slot) = inner.free.pop() {
            return slot;
        }
        inner.readers.push(Slot::default());
        inner.readers.len() - 1
    }

    /// Gives the place back.
    pub fn part(&self, slot: usize) {
        let mut inner = self.inner.lock();
        if let Some(place) = inner.readers.get_mut(slot) {
            *place = Slot::default();
            inner.free.push(slot);
        }
    }
}

impl Inner {
    fn visible(&self, durability: Durability) -> Mark {
        match durability {
            Durability::Relaxed => self.appended,
            Durability::Strict => self.saved,
        }
    }

    /// Wakes whoever waits. Under the lock, so that nothing is allocated for it.
    fn wake(&mut self) {
        for slot in self.readers.iter_mut().filter(|slot| slot.armed) {
            slot.armed = false;
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Lets the oldest segments go, as far as they are saved, while more than `room` bytes are held.
    fn let_go(&mut self, room: u64) {
        while let Some(first) = self.segments.front()
            && self.segments.len() > 1
            && first.end() <= self.saved.offset
            && self.appended.offset - first.start.offset > room
        {
            self.segments.pop_front();
        }
    }

    fn locate(&self, seq: u64) -> Option<Mark> {
        if seq >= self.appended.seq {
            let offset = if seq == self.appended.seq { self.appended.offset } else { AHEAD };
            return Some(Mark { seq, offset });
        }
        let at = self.segments.partition_point(|segment| segment.start.seq <= seq).checked_sub(1)?;
        let segment = self.segments.get(at)?;
        let mut offset = 0;
        for _ in segment.start.seq..seq {
            offset += memchr::memchr(b'\n', &segment.bytes[offset..])? + 1;
        }
        Some(Mark { seq, offset: segment.start.offset + offset as u64 })
    }

    fn copy<'a>(&'a self, from: u64, to: u64, mut give: impl FnMut(&'a [u8])) {
        for segment in &self.segments {
            let start = from.clamp(segment.start.offset, segment.end()) - segment.start.offset;
            let end = to.clamp(segment.start.offset, segment.end()) - segment.start.offset;
            if start < end {
                give(&segment.bytes[start as usize..end as usize]);
            }
        }
    }

    /// The lines between two marks, in rows. The same marks always give the same rows.
    fn rows(&self, from: Mark, to: Mark) -> Vec<(u64, u64, Bytes)> {
        let mut rows = Vec::new();
        let mut lines = Vec::new();
        self.copy(from.offset, to.offset, |bytes| lines.extend_from_slice(bytes));
        let lines = Bytes::from(lines);
        let (mut seq, mut at) = (from.seq, 0);
        while at < lines.len() {
            let rest = &lines[at..];
            let end = if rest.len() <= ROW_BYTES {
                rest.len()
            } else {
                let whole = memchr::memrchr(b'\n', &rest[..ROW_BYTES]).or_else(|| memchr::memchr(b'\n', rest));
                whole.map_or(rest.len(), |end| end + 1)
            };
            let count = memchr::memchr_iter(b'\n', &rest[..end]).count() as u64;
            rows.push((seq + 1, seq + count, lines.slice(at..at + end)));
            seq += count;
            at += end;
        }
        rows
    }
}
