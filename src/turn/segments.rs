//! The lines of a log in memory: bytes in segments, so that a line is no allocation of its own.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::store::journal::ROW_BYTES;

/// A segment that has grown to this takes no more lines.
const SEGMENT_BYTES: usize = 48 << 10;

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

/// Lines that follow each other without a gap: the first seq, the last, the lines, line ends included.
pub type Row = (u64, u64, Bytes);

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

/// The lines of a log, from the oldest that is held to the last.
#[derive(Debug, Default)]
pub struct Segments {
    held: VecDeque<Segment>,
    end: Mark,
}

impl Segments {
    /// None yet, of a log whose first line here comes after the event `seq`.
    pub fn after(seq: u64) -> Self {
        Self { held: VecDeque::new(), end: Mark { seq, offset: 0 } }
    }

    /// Where the log ends.
    pub fn end(&self) -> Mark {
        self.end
    }

    /// Appends the line that `write` writes for the next seq; gives that seq.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        let seq = self.end.seq + 1;
        if self.held.back().is_none_or(|segment| segment.bytes.len() >= SEGMENT_BYTES) {
            self.held.push_back(Segment { start: self.end, bytes: Vec::new() });
        }
        if let Some(segment) = self.held.back_mut() {
            write(&mut segment.bytes, seq);
            self.end = Mark { seq, offset: segment.end() };
        }
        seq
    }

    /// Appends whole lines that have their seqs already.
    pub fn append(&mut self, lines: &[u8]) {
        let count = count(lines);
        if count > 0 {
            self.end.seq = self.line(|out, _| out.extend_from_slice(lines)) + count - 1;
        }
    }

    /// `from`, or where what is held begins, if that is later.
    pub fn held_from(&self, from: Mark) -> Mark {
        self.held.front().map_or(from, |first| if first.start.offset > from.offset { first.start } else { from })
    }

    /// Lets the oldest segments go that end before `saved`, while more than `room` bytes are held.
    pub fn let_go(&mut self, saved: u64, room: u64) {
        while let Some(first) = self.held.front()
            && self.held.len() > 1
            && first.end() <= saved
            && self.end.offset - first.start.offset > room
        {
            self.held.pop_front();
        }
    }

    /// The place after `seq`; `None` when what follows it is no longer held.
    pub fn locate(&self, seq: u64) -> Option<Mark> {
        if seq >= self.end.seq {
            let offset = if seq == self.end.seq { self.end.offset } else { AHEAD };
            return Some(Mark { seq, offset });
        }
        let at = self.held.partition_point(|segment| segment.start.seq <= seq).checked_sub(1)?;
        let segment = self.held.get(at)?;
        let mut offset = 0;
        for _ in segment.start.seq..seq {
            offset += memchr::memchr(b'\n', &segment.bytes[offset..])? + 1;
        }
        Some(Mark { seq, offset: segment.start.offset + offset as u64 })
    }

    /// Copies whole lines between two places into `out`, at most about `most` bytes and none across a segment's end;
    /// gives the place behind them. `None` when they are no longer held.
    pub fn read(&self, from: Mark, to: u64, most: usize, out: &mut BytesMut) -> Option<Mark> {
        if self.held.front().is_none_or(|first| from.offset < first.start.offset) {
            return None;
        }
        let at = self.held.partition_point(|segment| segment.end() <= from.offset);
        let segment = self.held.get(at)?;
        let skip = (from.offset - segment.start.offset) as usize;
        let end = ((to - segment.start.offset) as usize).min(segment.bytes.len());
        let bytes = whole_lines(&segment.bytes[skip..end], most);
        out.extend_from_slice(bytes);
        Some(Mark { seq: from.seq + count(bytes), offset: from.offset + bytes.len() as u64 })
    }

    /// All lines between two places that are held.
    pub fn between(&self, from: u64, to: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.copy(from, to, &mut out);
        out
    }

    /// The same, into `out`.
    pub fn copy(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        for segment in &self.held {
            let start = from.clamp(segment.start.offset, segment.end()) - segment.start.offset;
            let end = to.clamp(segment.start.offset, segment.end()) - segment.start.offset;
            if start < end {
                out.extend_from_slice(&segment.bytes[start as usize..end as usize]);
            }
        }
    }

    /// The lines between two places as the journal saves them. The same places always give the same rows.
    pub fn rows(&self, from: Mark, to: Mark) -> Vec<Row> {
        let lines = Bytes::from(self.between(from.offset, to.offset));
        let mut rows = Vec::with_capacity(lines.len() / ROW_BYTES + 1);
        let (mut seq, mut at) = (from.seq, 0);
        while at < lines.len() {
            let row = whole_lines(&lines[at..], ROW_BYTES);
            let (len, last) = (row.len(), seq + count(row));
            rows.push((seq + 1, last, lines.slice(at..at + len)));
            (seq, at) = (last, at + len);
        }
        rows
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// As many whole lines as `most` bytes hold, and at least one.
fn whole_lines(lines: &[u8], most: usize) -> &[u8] {
    if lines.len() <= most {
        return lines;
    }
    let end = memchr::memrchr(b'\n', &lines[..most]).or_else(|| memchr::memchr(b'\n', lines));
    &lines[..end.map_or(lines.len(), |end| end + 1)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(lengths: &[usize]) -> (Segments, Vec<u8>) {
        let (mut segments, mut whole) = (Segments::default(), Vec::new());
        for (index, length) in lengths.iter().enumerate() {
            let mut line = vec![b'a' + (index % 26) as u8; *length];
            line.push(b'\n');
            assert_eq!(segments.line(|out, _| out.extend_from_slice(&line)), index as u64 + 1);
            whole.extend_from_slice(&line);
        }
        (segments, whole)
    }

    proptest! {
        #[test]
        fn from_any_place_the_rest_is_read_in_whole_lines(
            lengths in prop::collection::vec(0..9000usize, 1..60),
            from in 0..60u64,
            most in 1..70_000usize,
        ) {
            let (segments, whole) = filled(&lengths);
            let mut at = segments.locate(from.min(lengths.len() as u64)).unwrap();
            let start = at.offset as usize;
            let mut out = BytesMut::new();
            while at.offset < segments.end().offset {
                let before = out.len();
                at = segments.read(at, segments.end().offset, most, &mut out).unwrap();
                prop_assert!(out.len() > before);
                prop_assert_eq!(segments.locate(at.seq), Some(at));
            }
            prop_assert_eq!(&out[..], &whole[start..]);
        }

        #[test]
        fn rows_hold_every_line_once(
            lengths in prop::collection::vec(0..90_000usize, 1..20),
            cut in 0..20u64,
        ) {
            let (segments, whole) = filled(&lengths);
            let cut = segments.locate(cut.min(lengths.len() as u64)).unwrap();
            let mut rows = segments.rows(Mark::default(), cut);
            rows.extend(segments.rows(cut, segments.end()));
            let mut seq = 0;
            for (first, last, lines) in &rows {
                prop_assert_eq!(*first, seq + 1);
                prop_assert_eq!(*last, seq + count(lines));
                seq = *last;
            }
            prop_assert_eq!(rows.iter().flat_map(|(.., lines)| lines.to_vec()).collect::<Vec<_>>(), whole);
        }
    }

    #[test]
    fn what_is_let_go_is_found_no_more_and_the_rest_stays() {
        let (mut segments, whole) = filled(&[20_000; 12]);
        segments.let_go(segments.end().offset, 50_000);
        assert!(segments.locate(0).is_none());
        let from = segments.locate(10).unwrap();
        assert_eq!(segments.between(from.offset, segments.end().offset), whole[from.offset as usize..]);
        assert!(segments.read(Mark::default(), 10, 10, &mut BytesMut::new()).is_none());
    }
}
