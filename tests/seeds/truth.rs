//! What every event is, by the word of all its readers: a seq has one meaning.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Instant;

use crate::support::Frame;

/// An event as it was shown.
#[derive(Clone)]
pub struct Shown {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// When a reader first had it.
    pub at: Instant,
}

/// All events of all turns that any reader has seen.
#[derive(Default)]
pub struct Truth(Mutex<HashMap<String, BTreeMap<u64, Shown>>>);

impl Truth {
    /// Notes what a reader sees. Fails when another has seen something else under that number.
    pub fn note(&self, turn: &str, seq: u64, frame: &Frame) {
        let two = {
            let mut turns = self.0.lock().unwrap();
            let events = turns.entry(turn.to_owned()).or_default();
            let shown = events.entry(seq).or_insert_with(|| Shown { bytes: frame.bytes.clone(), at: Instant::now() });
            (shown.bytes != frame.bytes).then(|| shown.bytes.clone())
        };
        if let Some(other) = two {
            let (one, other) = (String::from_utf8_lossy(&frame.bytes), String::from_utf8_lossy(&other));
            panic!("{turn}: event {seq} has two meanings: {one} and {other}\n{}", self.tell(turn, seq));
        }
    }

    /// All that was shown of a turn.
    pub fn of(&self, turn: &str) -> BTreeMap<u64, Shown> {
        self.0.lock().unwrap().get(turn).cloned().unwrap_or_default()
    }

    /// How many events there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(BTreeMap::len).sum()
    }

    /// How many turns were being shown at the same time, at most.
    pub fn most_live(&self) -> usize {
        let turns = self.0.lock().unwrap();
        let spans = turns.values().filter_map(|events| {
            let shown = || events.values().map(|shown| shown.at);
            Some([(shown().min()?, 1), (shown().max()?, -1)])
        });
        let mut steps: Vec<(Instant, i64)> = spans.flatten().collect();
        steps.sort();
        let live = steps.iter().scan(0, |live, (_, step)| {
            *live += step;
            Some(*live)
        });
        usize::try_from(live.max().unwrap_or_default()).unwrap()
    }

    /// The events of a turn around `seq`, for people.
    pub fn tell(&self, turn: &str, seq: u64) -> String {
        let mut told = String::new();
        for (seq, shown) in self.of(turn).range(seq.saturating_sub(6)..=seq.saturating_add(6)) {
            let ago = shown.at.elapsed().as_millis();
            let _ = writeln!(told, "  {seq} ({ago} ms ago): {}", String::from_utf8_lossy(&shown.bytes));
        }
        told
    }
}
