//! What is counted of streams of one kind.

use super::stamp::Stamp;
use crate::clock::SECOND;

/// A stream that says nothing for so long is stalled: three times the slowest interval.
const STALLED: u64 = 3 * SECOND;

/// What is counted of streams of one kind.
#[derive(Debug, Default)]
pub struct Group {
    /// Each delta: when it was written, and how long it took.
    pub latencies: Vec<(u64, u64)>,
    /// From each question to its answer's head.
    pub heads: Vec<u64>,
    /// From each question to its first delta.
    pub firsts: Vec<u64>,
    /// Answers that came whole.
    pub turns: u64,
    /// Streams that were silent for too long between two deltas.
    pub stalled: u64,
    /// The longest silence between two deltas of a stream.
    pub longest_gap: u64,
    /// When the last of the streams had its first delta.
    pub all_open: u64,
    /// When the first of the streams had its last delta.
    pub first_end: Option<u64>,
    /// When the first delta of all came…
    pub begun: Option<u64>,
    /// …and the last.
    pub last: u64,
}

impl Group {
    /// With room for so many deltas, so that none is waited for while it is made.
    pub fn with_room(deltas: usize) -> Self {
        Self { latencies: Vec::with_capacity(deltas), ..Self::default() }
    }

    /// Notes a delta that came now, `gap` after the one before it.
    pub fn delta(&mut self, stamp: Stamp, now: u64, gap: u64) {
        self.latencies.push((stamp.time, now.saturating_sub(stamp.time)));
        self.last = now;
        self.begun.get_or_insert(now);
        self.longest_gap = self.longest_gap.max(gap);
        self.stalled += u64::from(gap > STALLED);
    }

    /// How many deltas came.
    pub fn deltas(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// The latencies of what was written from then to then, in ascending order.
    pub fn within(&self, from: u64, to: u64) -> Vec<u64> {
        let inside = self.latencies.iter().filter(|(time, _)| (from..=to).contains(time));
        let mut latencies: Vec<u64> = inside.map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        latencies
    }

    /// The same while all streams were open; of all deltas if they never were.
    pub fn steady(&self) -> Vec<u64> {
        let to = self.first_end.unwrap_or(u64::MAX);
        if self.all_open < to { self.within(self.all_open, to) } else { self.within(0, u64::MAX) }
    }

    /// Deltas a second, from the first to the last.
    pub fn rate(&self) -> f64 {
        let took = self.last - self.begun.unwrap_or(self.last);
        self.deltas() as f64 * SECOND as f64 / took.max(1) as f64
    }
}
