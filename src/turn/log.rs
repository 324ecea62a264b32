//! The log of one turn: its events as JSON lines, each encoded once, and how far each reader may see.
//!
//! Bytes lie in segments. What is saved and old is let go; whoever lags behind that reads the journal. The fold
//! goes with the lines, under the same lock, until it grows too large; then it is made again from the journal
//! when somebody needs it.

mod passing;

use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;

pub use self::passing::Passing;
use super::segments::{Mark, Row, Segments};
use super::waiting::Waiting;
use crate::cluster::piece::LAST_WORD;
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
    /// It is a copy that has lost touch: the record goes on.
    Torn,
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

/// When what is saved becomes rows of the journal; until then it lies in the tail.
#[derive(Clone, Copy, Debug)]
pub struct Filing {
    /// Once there are so many bytes of it…
    pub bytes: u64,
    /// …or the oldest of them is so old.
    pub age: Duration,
    /// One commit takes no more turns once it has so many bytes: the database's thread may run on the core that streams
    /// wait for.
    pub commit: usize,
}

impl Filing {
    /// Where one process has the database for itself.
    pub const LATER: Self = Self { bytes: 32 << 10, age: Duration::from_secs(10), commit: 128 << 10 };
    /// Where others read along.
    pub const AT_ONCE: Self = Self { bytes: 0, age: Duration::ZERO, commit: 4 << 20 };

    fn is_at_once(self) -> bool {
        self.age.is_zero()
    }
}

/// Where saved events lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the row of the tail with this number.
    Tail(u64),
    /// In rows of the journal.
    Journal,
}

/// What is to be saved next.
#[derive(Debug)]
pub enum Taken {
    /// So many bytes for the tail, of the events after `after`.
    Tail {
        /// The event before them.
        after: u64,
        /// Where they end.
        to: Mark,
        /// How many bytes.
        bytes: usize,
    },
    /// Rows for the journal; what the tail has of the turn is in them.
    Rows {
        /// Each at most about 64 KiB, cut between lines.
        rows: Vec<Row>,
        /// Where they end.
        to: Mark,
    },
}

#[derive(Debug, Default)]
struct Inner {
    segments: Segments,
    /// Where the batch ends that the journal has in hand.
    taken: Mark,
    saved: Mark,
    /// Up to here everything is, or is about to be, in rows of the journal: what the journal's task has in hand…
    filing: Mark,
    /// …and what is saved there.
    filed: Mark,
    /// When the oldest event after `filing` was appended.
    unfiled_since: Option<Instant>,
    /// The first row of the tail that has events after `filed`.
    tail: Option<u64>,
    /// When the writer of a copy was heard of last.
    heard: Option<Instant>,
    /// Up to here it was passed on to other replicas, and when it was said last how long they are to keep it.
    passed: Mark,
    kept_at: Option<Instant>,
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
    filing: Filing,
    /// It is written elsewhere.
    is_copy: bool,
}

/// What came of appending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Bytes it took.
    pub bytes: usize,
    /// The journal is to be told: it has everything that came before in hand already.
    pub save: bool,
    /// So is whoever passes it on to other replicas.
    pub pass: bool,
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
    pub fn new(durability: Durability, memory: usize, filing: Filing) -> Self {
        let inner = Inner { draft: Some(Draft::default()), ..Inner::default() };
        // What is not filed is held, and is to fit.
        let filing = Filing { bytes: filing.bytes.min(memory as u64 / 4), ..filing };
        Self { inner: Mutex::new(inner), durability, memory, filing, is_copy: false }
    }

    /// Appends what `write` writes.
    pub fn append(&self, write: impl FnOnce(&mut Append<'_>)) -> Appended {
        let mut inner = self.inner.lock();
        if inner.sealed {
            return Appended::default();
        }
        let before = inner.segments.end();
        let (save, pass) = (before == inner.taken, before == inner.passed);
        let mut append = Append { log: &mut inner, bytes: 0 };
        write(&mut append);
        let bytes = append.bytes;
        if bytes == 0 {
            return Appended::default();
        }
        let now = Instant::now();
        inner.oldest.get_or_insert(now);
        inner.oldest_after_taken.get_or_insert(now);
        inner.unfiled_since.get_or_insert(now);
        if inner.draft.as_ref().is_some_and(|draft| draft.weight() > self.memory / 2) {
            inner.draft = None;
        }
        if self.durability == Durability::Relaxed {
            inner.waiting.wake();
        }
        Appended { bytes, save, pass }
    }

    /// Enters events that are saved already, such as the `turn.started` of an admission. Gives nothing to save.
    pub fn append_saved(&self, write: impl FnOnce(&mut Append<'_>)) {
        let mut inner = self.inner.lock();
        write(&mut Append { log: &mut inner, bytes: 0 });
        let end = inner.segments.end();
        (inner.taken, inner.saved, inner.filing, inner.filed) = (end, end, end, end);
        inner.settle(end.offset);
        inner.waiting.wake();
    }

    /// What is not saved and not in anybody's hand, and what is due to be filed, if it `may_file` now; the journal has it
    /// in hand from now on. What goes to the tail is appended to `lines`. Of a sealed log it is what its end saves too,
    /// cut alike: an end that has to wait does not keep what was shown waiting.
    pub fn take(&self, lines: &mut Vec<u8>, may_file: bool) -> Option<Taken> {
        let mut inner = self.inner.lock();
        let (from, to) = (inner.taken, inner.segments.end());
        if inner.is_closed() {
            return None;
        }
        // One cut at a time: a second one in hand would be cut otherwise by the end.
        let taken =
            if (may_file || self.filing.is_at_once()) && inner.filing == inner.filed && inner.is_due(self.filing) {
                let rows = inner.segments.rows(inner.filing, to);
                inner.filing = to;
                inner.unfiled_since = None;
                Taken::Rows { rows, to }
            } else if from == to {
                return None;
            } else {
                let before = lines.len();
                inner.segments.copy(from.offset, to.offset, lines);
                Taken::Tail { after: from.seq, to, bytes: lines.len() - before }
            };
        inner.taken = to;
        inner.oldest_after_taken = None;
        Some(taken)
    }

    /// Whether something of it has waited long enough to be filed.
    pub fn is_due(&self) -> bool {
        let inner = self.inner.lock();
        !inner.is_closed() && inner.is_due(self.filing)
    }

    /// The first row of the tail that is still needed for it.
    pub fn tail(&self) -> Option<u64> {
        self.inner.lock().tail
    }

    /// What was taken is saved, there. Gives the bytes that are saved since the last time.
    pub fn saved(&self, to: Mark, place: Place) -> u64 {
        let mut inner = self.inner.lock();
        if inner.is_closed() || to.offset <= inner.filed.offset {
            return 0;
        }
        inner.saved = if to.offset > inner.saved.offset { to } else { inner.saved };
        inner.oldest = if inner.saved == inner.segments.end() { None } else { inner.oldest_after_taken };
        match place {
            Place::Tail(number) => {
                inner.tail.get_or_insert(number);
            }
            Place::Journal => {
                (inner.filed, inner.tail) = (to, None);
                let room = if inner.draft.is_some() { self.memory / 2 } else { self.memory };
                inner.segments.let_go(to.offset, room as u64);
            }
        }
        if self.durability == Durability::Strict {
            inner.waiting.wake();
        }
        inner.settle(to.offset)
    }

    /// From here on nothing is appended. Gives what is not filed: first what the journal may have in hand, cut as
    /// it has it, so that filing both changes nothing; then the rest. And where it ends.
    pub fn seal(&self) -> (Vec<Row>, Mark) {
        let mut inner = self.inner.lock();
        inner.sealed = true;
        let (filed, filing, appended) = (inner.filed, inner.filing, inner.segments.end());
        let mut rows = inner.segments.rows(filed, filing);
        rows.extend(inner.segments.rows(filing, appended));
        (rows, appended)
    }

    /// Ends a sealed log whose end is saved: `line` is its last. Gives the bytes that were saved with it.
    pub fn end(&self, line: &[u8]) -> u64 {
        let mut inner = self.inner.lock();
        let end = inner.segments.end().offset;
        let bytes = inner.settle(end);
        inner.segments.line(|out, _| out.extend_from_slice(line));
        let end = inner.segments.end();
        (inner.taken, inner.saved, inner.filing, inner.filed) = (end, end, end, end);
        (inner.oldest, inner.unfiled_since, inner.tail) = (None, None, None);
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
    pub fn read(&self, from: Mark, most: usize, place: usize, waker: &Waker, out: &mut BytesMut) -> Read {
        let mut inner = self.inner.lock();
        let is_new = inner.waiting.is_new(place);
        let visible = if is_new { inner.saved } else { inner.visible(self.durability) };
        if from.offset >= visible.offset {
            match &inner.closing {
                // It was told to those who were shown all before it.
                Some(Closing::Unsaved(_)) if is_new => return Read::Over(Closing::Torn),
                Some(closing) => return Read::Over(closing.clone()),
                None => {}
            }
            inner.waiting.arm(place, waker);
            return Read::Wait;
        }
        inner.segments.read(from, visible.offset, most, out).map_or(Read::Gone, Read::Lines)
    }

    /// Has those who wait look up, although there is nothing new.
    pub fn rouse(&self) {
        self.inner.lock().waiting.wake();
    }

    /// A place for a reader's waker. In a copy whose writer was not heard of a moment ago the reader is a newcomer: it is shown what
    /// is known to be saved, until that writer is heard of again.
    pub fn join(&self) -> usize {
        let mut inner = self.inner.lock();
        let is_new = self.is_copy && !inner.was_heard_within(LAST_WORD);
        inner.waiting.join(is_new)
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

    /// Whether there is something to file, and it is time.
    fn is_due(&self, filing: Filing) -> bool {
        let bytes = self.segments.end().offset - self.filing.offset;
        bytes > 0 && (bytes >= filing.bytes || self.unfiled_since.is_some_and(|since| since.elapsed() >= filing.age))
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

    fn is_saved(&self) -> bool {
        self.saved == self.segments.end()
    }

    fn was_heard_within(&self, time: Duration) -> bool {
        self.heard.is_some_and(|at| at.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Append(usize),
        /// Whether it may be filed.
        Take(bool),
        /// What was taken is saved, as often as that.
        Save(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..400usize).prop_map(Act::Append),
            any::<bool>().prop_map(Act::Take),
            (1..3usize).prop_map(Act::Save)
        ]
    }

    /// What the database has, as the journal's task and the end leave it.
    #[derive(Default)]
    struct Record {
        rows: std::collections::BTreeMap<u64, (u64, bytes::Bytes)>,
        /// From the first needed row on.
        tail: Vec<(u64, u64, Vec<u8>)>,
    }

    impl Record {
        fn file(&mut self, rows: Vec<Row>) {
            for (first, last, lines) in rows {
                self.rows.entry(first).or_insert((last, lines));
            }
        }

        /// All that a process which comes after a crash finds, without a gap.
        fn found(&self) -> Vec<u8> {
            let (mut seq, mut found) = (0, Vec::new());
            for (first, (last, lines)) in &self.rows {
                assert_eq!(*first, seq + 1, "rows follow each other");
                seq = *last;
                found.extend_from_slice(lines);
            }
            let filed = seq;
            for (first, last, lines) in self.tail.iter().filter(|(_, last, _)| *last > filed) {
                assert_eq!(*first, seq + 1, "the tail goes on where the journal ends");
                assert!(*last >= *first);
                found.extend_from_slice(lines);
                seq = *last;
            }
            found
        }
    }

    proptest! {
        #[test]
        fn whatever_is_saved_is_found_once_in_the_journal_or_the_tail(
            acts in prop::collection::vec(act(), 1..60),
            bytes in 0..2000u64,
            ends_first in any::<bool>(),
        ) {
            let log = Log::new(Durability::Relaxed, 1 << 20, Filing { bytes, age: Duration::MAX, ..Filing::LATER });
            let (mut whole, mut saved, mut seq) = (Vec::new(), 0, 0);
            let mut record = Record::default();
            let mut hand: Vec<(Taken, Vec<u8>)> = Vec::new();
            for (number, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Append(length) => {
                        let text = "x".repeat(length);
                        log.append(|append| append.delta(&text));
                        seq += 1;
                        write_delta_line(&mut whole, seq, &text);
                    }
                    Act::Take(may_file) => {
                        let mut lines = Vec::new();
                        hand.extend(log.take(&mut lines, may_file).map(|taken| (taken, lines)));
                    }
                    Act::Save(times) => for (taken, lines) in hand.drain(..) {
                        let (to, place) = match taken {
                            Taken::Tail { after, to, bytes } => {
                                prop_assert_eq!(bytes, lines.len());
                                record.tail.push((after + 1, to.seq, lines));
                                (to, Place::Tail(number as u64))
                            }
                            Taken::Rows { rows, to } => {
                                (0..times).for_each(|_| record.file(rows.clone()));
                                (to, Place::Journal)
                            }
                        };
                        log.saved(to, place);
                        saved = to.offset as usize;
                        prop_assert_eq!(log.tail().is_some(), place != Place::Journal);
                    }
                }
                prop_assert_eq!(&record.found()[..], &whole[..saved]);
            }
            // What is still in hand may have been saved, and the end files all of it the same way.
            let in_hand: Vec<_> = hand.into_iter().map(|(taken, _)| taken).collect();
            let (rows, to) = log.seal();
            if ends_first {
                record.file(rows.clone());
            }
            for taken in in_hand.into_iter().chain(log.take(&mut Vec::new(), true)) {
                if let Taken::Rows { rows, .. } = taken {
                    record.file(rows);
                }
            }
            record.file(rows);
            record.tail.clear();
            prop_assert_eq!(to.seq, seq);
            prop_assert_eq!(record.found(), whole);
        }
    }

    #[test]
    fn what_is_old_is_filed_even_if_nothing_new_comes() {
        let log =
            Log::new(Durability::Relaxed, 1 << 20, Filing { bytes: 1 << 20, age: Duration::ZERO, ..Filing::LATER });
        log.append(|append| append.delta("a"));
        assert!(log.is_due());
        let Some(Taken::Rows { to, .. }) = log.take(&mut Vec::new(), true) else { panic!("it is filed") };
        log.saved(to, Place::Journal);
        assert!(!log.is_due() && log.take(&mut Vec::new(), true).is_none());
    }
}
