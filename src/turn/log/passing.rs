//! A log that is passed on: what other replicas have not had of it, and a copy of one that is written elsewhere.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Closing, Filing, Inner, Log};
use crate::cluster::piece::LAST_WORD;
use crate::domain::event::Finished;
use crate::domain::stream::Durability;
use crate::turn::segments::{Row, Segments};

/// How often it is said how long a turn's stream is to be kept.
const KEPT_ANEW: Duration = Duration::from_secs(60);

/// What is to be passed on next.
#[derive(Debug)]
pub struct Passing {
    /// Each at most about 64 KiB, cut between lines.
    pub rows: Vec<Row>,
    /// They are the last, and the turn's end is saved.
    pub ended: bool,
    /// It has not been said for a while how long they are to be kept.
    pub anew: bool,
}

impl Log {
    /// What readers may see and was not passed on; from now on it is. What memory has let go of meanwhile is left out.
    pub fn pass_on(&self) -> Option<Passing> {
        let mut inner = self.inner.lock();
        let to = inner.visible(self.durability);
        if inner.is_closed() || inner.passed.offset >= to.offset {
            return None;
        }
        let from = inner.segments.held_from(inner.passed);
        let rows = inner.segments.rows(from, to);
        inner.passed = to;
        let anew = inner.kept_at.is_none_or(|since| since.elapsed() >= KEPT_ANEW);
        if anew {
            inner.kept_at = Some(Instant::now());
        }
        Some(Passing { rows, ended: matches!(inner.closing, Some(Closing::Ended)), anew })
    }

    /// A copy of a log that is written elsewhere, from behind the event `after`; it keeps the newest `memory` bytes. Newcomers are
    /// shown what is saved of it, the others all.
    pub fn copy(after: u64, memory: usize) -> Self {
        let segments = Segments::after(after);
        let end = segments.end();
        let inner =
            Inner { segments, taken: end, saved: end, filing: end, filed: end, passed: end, ..Inner::default() };
        Self { inner: inner.into(), durability: Durability::Relaxed, memory, filing: Filing::AT_ONCE, is_copy: true }
    }

    /// Adds what was passed on to a copy: the lines of the events `first` to `last`. False when some before them are missing.
    pub fn copy_in(&self, first: u64, last: u64, lines: &Bytes) -> bool {
        let mut inner = self.inner.lock();
        let end = inner.segments.end().seq;
        if last <= end {
            return true;
        }
        let count = memchr::memchr_iter(b'\n', lines).count() as u64;
        if first > end + 1 || count != last + 1 - first {
            return false;
        }
        let known = usize::try_from(end + 1 - first).unwrap_or(usize::MAX);
        let skip =
            known.checked_sub(1).map_or(Some(0), |nth| memchr::memchr_iter(b'\n', lines).nth(nth).map(|at| at + 1));
        let Some(skip) = skip else { return false };
        inner.segments.append(&lines[skip..]);
        let end = inner.segments.end();
        inner.segments.let_go(end.offset, self.memory as u64);
        inner.waiting.wake();
        true
    }

    /// The events of a copy up to `seq` are saved.
    pub fn copy_saved(&self, seq: u64) {
        let mut inner = self.inner.lock();
        let end = inner.segments.end();
        let to = if seq >= end.seq { Some(end) } else { inner.segments.locate(seq) };
        if let Some(to) = to.filter(|to| to.offset > inner.saved.offset) {
            inner.saved = to;
            if inner.waiting.has_newcomers() {
                inner.waiting.wake();
            }
        }
    }

    /// Who writes a copy is heard of: whoever is here is shown all of it.
    pub fn hear(&self) {
        let mut inner = self.inner.lock();
        inner.heard = Some(Instant::now());
        if inner.waiting.has_newcomers() {
            inner.waiting.welcome();
            inner.waiting.wake();
        }
    }

    /// Whether who writes a copy was heard of in the `time` before now.
    pub fn was_heard_within(&self, time: Duration) -> bool {
        self.inner.lock().was_heard_within(time)
    }

    /// Whether all of a copy is known to be saved.
    pub fn is_saved(&self) -> bool {
        self.inner.lock().is_saved()
    }

    /// Whether something of a copy is withheld from newcomers.
    pub fn withholds(&self) -> bool {
        let inner = self.inner.lock();
        !inner.is_saved() && inner.waiting.has_newcomers()
    }

    /// Whether one who comes to a copy now is shown all of it.
    pub fn shows_all(&self) -> bool {
        let inner = self.inner.lock();
        inner.is_saved() || inner.was_heard_within(LAST_WORD)
    }

    /// Ends a copy whose last line is the turn's end, and saved like all before.
    pub fn copy_ended(&self) {
        self.copy_saved(u64::MAX);
        let _first = self.shut(Closing::Ended);
    }

    /// Tells a copy's readers of an end that is not saved.
    pub fn copy_unsaved(&self, finished: Finished) {
        let _first = self.shut(Closing::Unsaved(Box::new(finished)));
    }

    /// A copy to which nothing is added any more, although the turn may go on: its readers go back to the record.
    /// False when it has ended. What is withheld from newcomers stays so.
    pub fn tear(&self) -> bool {
        self.shut(Closing::Torn)
    }

    fn shut(&self, closing: Closing) -> bool {
        let mut inner = self.inner.lock();
        let is_open = inner.closing.is_none();
        inner.closing.get_or_insert(closing);
        inner.waiting.wake();
        is_open
    }

    /// Whether its readers were told of an end that is not saved.
    pub fn is_unsaved(&self) -> bool {
        matches!(self.inner.lock().closing, Some(Closing::Unsaved(_)))
    }

    /// How long its stream is to be kept is to be said again: it is not sure that it was heard.
    pub fn keep_anew(&self) {
        self.inner.lock().kept_at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::BytesMut;

    use super::*;
    use crate::turn::log::Read;

    fn told(log: &Log, after: u64) -> String {
        let mut out = BytesMut::new();
        let Some(at) = log.locate(after) else { return "gone".to_owned() };
        let place = log.join();
        let _read = log.read(at, usize::MAX, place, Waker::noop(), &mut out);
        log.part(place);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_copy_has_each_event_once_whatever_comes_twice_and_nothing_behind_a_gap() {
        let log = Log::copy(10, 1 << 20);
        log.hear();
        assert!(log.copy_in(9, 12, &Bytes::from("9\n10\n11\n12\n")));
        assert_eq!(told(&log, 10), "11\n12\n");
        assert!(log.copy_in(11, 12, &Bytes::from("11\n12\n")));
        assert!(log.copy_in(12, 14, &Bytes::from("12\n13\n14\n")));
        assert_eq!(told(&log, 10), "11\n12\n13\n14\n");
        assert_eq!(told(&log, 13), "14\n");
        assert_eq!(told(&log, 9), "gone");
        assert!(!log.copy_in(15, 16, &Bytes::from("15\n16\n17\n")), "one more than it says");
        assert_eq!(told(&log, 14), "", "and nothing of it is shown");
        assert!(!log.copy_in(16, 16, &Bytes::from("16\n")), "15 is missing");
        assert!(!log.copy_in(14, 16, &Bytes::from("14\n15\n")), "16 is missing");
    }

    #[test]
    fn a_copy_withholds_what_is_not_saved_from_newcomers_until_it_is_or_its_writer_is_heard_of() {
        let log = Log::copy(10, 1 << 20);
        log.hear();
        let here = log.join();
        // A while later.
        log.inner.lock().heard = None;
        assert!(log.copy_in(11, 14, &Bytes::from("11\n12\n13\n14\n")));
        assert!(!log.withholds(), "nobody is new");
        let newcomer = log.join();
        let told = |place, after| {
            let mut out = BytesMut::new();
            let read = log.read(log.locate(after).unwrap(), usize::MAX, place, Waker::noop(), &mut out);
            assert!(matches!(read, Read::Lines(_)) != out.is_empty(), "{read:?}");
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!((&*told(here, 12), &*told(newcomer, 10)), ("13\n14\n", ""));
        log.copy_saved(12);
        assert_eq!((&*told(newcomer, 10), &*told(newcomer, 13)), ("11\n12\n", ""));
        assert!(log.withholds());
        log.copy_saved(11);
        log.copy_saved(14);
        assert_eq!(told(newcomer, 10), "11\n12\n13\n14\n");
        assert!(log.is_saved() && log.shows_all());
        assert!(log.copy_in(15, 15, &Bytes::from("15\n")));
        assert_eq!((&*told(here, 14), &*told(newcomer, 14)), ("15\n", ""));
        assert!(!log.is_saved() && !log.shows_all());
        log.hear();
        assert_eq!(told(newcomer, 14), "15\n");
        assert!(!log.withholds() && log.shows_all());
        assert_eq!(told(log.join(), 14), "15\n", "whoever comes at that moment is as if here before");
    }

    #[test]
    fn a_copy_that_has_ended_shows_all_and_one_that_is_torn_no_more_than_before() {
        for ended in [true, false] {
            let log = Log::copy(10, 1 << 20);
            let newcomer = log.join();
            assert!(log.copy_in(11, 12, &Bytes::from("11\n12\n")));
            if ended {
                log.copy_ended()
            } else {
                assert!(log.tear())
            }
            let read = log.read(log.locate(10).unwrap(), usize::MAX, newcomer, Waker::noop(), &mut BytesMut::new());
            assert_eq!(matches!(read, Read::Lines(_)), ended);
            assert_eq!(matches!(read, Read::Over(Closing::Torn)), !ended);
        }
    }

    #[test]
    fn an_end_that_is_not_saved_is_told_to_those_who_are_shown_what_comes_before_it() {
        let log = Log::copy(10, 1 << 20);
        log.hear();
        let here = log.join();
        log.inner.lock().heard = None;
        let newcomer = log.join();
        assert!(log.copy_in(11, 11, &Bytes::from("11\n")));
        let end = r#"{"status":"completed","saved":false,"message_id":"msg_1","duration_ms":1}"#;
        log.copy_unsaved(serde_json::from_str(end).unwrap());
        let read = |place, after| {
            let at = log.locate(after).unwrap();
            log.read(at, usize::MAX, place, Waker::noop(), &mut BytesMut::new())
        };
        assert!(matches!(read(here, 10), Read::Lines(_)));
        assert!(matches!(read(here, 11), Read::Over(Closing::Unsaved(_))));
        assert!(matches!(read(newcomer, 10), Read::Over(Closing::Torn)));
    }

    #[test]
    fn a_log_is_passed_on_once_in_rows_and_its_end_last() {
        let log = Log::new(Durability::Relaxed, 1 << 20, Filing::AT_ONCE);
        assert!(log.pass_on().is_none());
        let long = "x".repeat(40_000);
        for _ in 0..3 {
            assert_eq!(log.append(|append| append.delta(&long)).pass, log.appended().seq == 1, "once is enough");
            assert!(!log.append(|append| append.delta("short")).pass);
        }
        let Passing { rows, ended, anew } = log.pass_on().unwrap();
        assert_eq!((rows.len(), ended, anew), (3, false, true));
        assert!(rows.windows(2).all(|two| two[0].1 + 1 == two[1].0) && (rows[0].0, rows[2].1) == (1, 6));
        assert!(log.pass_on().is_none());
        log.seal();
        log.end(b"end\n");
        let Passing { rows, ended, anew } = log.pass_on().unwrap();
        assert_eq!((rows, ended, anew), (vec![(7, 7, Bytes::from("end\n"))], true, false));
        assert!(log.pass_on().is_none());
    }

    #[test]
    fn in_strict_what_is_not_saved_is_not_passed_on() {
        let log = Log::new(Durability::Strict, 1 << 20, Filing::AT_ONCE);
        log.append(|append| append.delta("a"));
        assert!(log.pass_on().is_none());
        let Some(crate::turn::log::Taken::Rows { to, .. }) = log.take(&mut Vec::new(), true) else { panic!() };
        log.saved(to, crate::turn::log::Place::Journal);
        assert_eq!(log.pass_on().unwrap().rows[0].1, 1);
    }
}
