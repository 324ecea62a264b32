//! Cursors: how far a reader has come, and what it is owed from there.

use std::fmt;

/// The largest integer that every JSON reader holds exactly (RFC 8259, section 6): 2^53 − 1.
pub const MAX: u64 = (1 << 53) - 1;

/// How far recovery jumps: the first seq after a crash is the last saved one plus this.
pub const CRASH_GAP: u64 = 1_000_000;

/// Reads a seq: decimal digits only, at most 2^53 − 1.
pub fn parse(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|seq| *seq <= MAX)
}

/// A feed's cursor: a turn's number in its conversation, and a seq in that turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedCursor {
    /// The turn's number, from 1; 0 stands before the first.
    pub number: u64,
    /// The seq within that turn.
    pub seq: u64,
}

impl FeedCursor {
    /// Reads `N.SEQ`, or `0` for all that is kept.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self { number: 0, seq: 0 });
        }
        let (number, seq) = text.split_once('.')?;
        Some(Self { number: parse(number)?, seq: parse(seq)? })
    }
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { number: 0, .. } => f.write_str("0"),
            Self { number, seq } => write!(f, "{number}.{seq}"),
        }
    }
}

/// What became of a turn's numbering in a crash: the last seq saved before it, and the seq with
/// which recovery went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// S: the last seq saved before the crash.
    pub saved: u64,
    /// R: the first seq after it.
    pub resumed: u64,
}

impl Crash {
    /// The numbering after a crash that found `saved` as the last seq.
    pub fn after(saved: u64) -> Self {
        Self { saved, resumed: saved + CRASH_GAP }
    }
}

/// What the log of a turn looks like to a reader that arrives.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Whether the turn has ended.
    pub finished: bool,
    /// L: the last seq.
    pub last: u64,
    /// Whether its events are still kept.
    pub kept: bool,
    /// Its crash, if it had one.
    pub crash: Option<Crash>,
}

/// What a reader at a cursor is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nothing, for good: it has seen the end.
    Nothing,
    /// A snapshot that stands for everything up to this seq, then the events after it.
    Snapshot(u64),
    /// The events after this seq, and, while the turn lives, those to come.
    Events(u64),
}

impl Extent {
    /// The table of cursors: what a reader at `cursor` is owed.
    pub fn owed(self, cursor: u64) -> Owed {
        if self.finished {
            if cursor == self.last {
                return Owed::Nothing;
            }
            if cursor > self.last || !self.kept {
                return Owed::Snapshot(self.last.saturating_sub(1));
            }
        }
        match self.crash {
            Some(crash) if crash.saved < cursor && cursor < crash.resumed - 1 => Owed::Snapshot(crash.resumed - 1),
            _ => Owed::Events(cursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_decimal_digits_up_to_two_to_the_fifty_third() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("9007199254740991"), Some(MAX));
        for bad in ["", "9007199254740992", "-1", "+1", "1.0", " 1", "1e3", "99999999999999999", "١"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(FeedCursor::parse("3.17"), Some(FeedCursor { number: 3, seq: 17 }));
        assert_eq!(FeedCursor::parse("0"), Some(FeedCursor { number: 0, seq: 0 }));
        for bad in ["", "1", "1.", ".1", "1.2.3", "a.b"] {
            assert_eq!(FeedCursor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_table_of_cursors() {
        let ended = Extent { finished: true, last: 9, kept: true, crash: None };
        assert_eq!(ended.owed(9), Owed::Nothing);
        assert_eq!(ended.owed(10), Owed::Snapshot(8));
        assert_eq!(ended.owed(8), Owed::Events(8));
        let dropped = Extent { kept: false, ..ended };
        assert_eq!(dropped.owed(9), Owed::Nothing);
        assert_eq!(dropped.owed(0), Owed::Snapshot(8));
        let live = Extent { finished: false, ..ended };
        assert_eq!(live.owed(9), Owed::Events(9));
        assert_eq!(live.owed(100), Owed::Events(100));
        let crash = Crash::after(9);
        let recovered = Extent { finished: true, last: crash.resumed, kept: true, crash: Some(crash) };
        assert_eq!(recovered.owed(9), Owed::Events(9));
        assert_eq!(recovered.owed(10), Owed::Snapshot(crash.resumed - 1));
        assert_eq!(recovered.owed(crash.resumed - 2), Owed::Snapshot(crash.resumed - 1));
        assert_eq!(recovered.owed(crash.resumed - 1), Owed::Events(crash.resumed - 1));
        assert_eq!(recovered.owed(crash.resumed), Owed::Nothing);
    }
}
