//! What a seed came to, in figures.

use std::fmt;
use std::time::Duration;

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The seed.
    pub seed: u64,
    /// Whether there was a Redis.
    pub redis: bool,
    /// Turns that were admitted.
    pub turns: usize,
    /// The most that were open at once, as far as was seen.
    pub live: usize,
    /// Events that readers saw, each once however many saw it.
    pub events: usize,
    /// Faults.
    pub faults: usize,
    /// How often a reader came back with its cursor.
    pub resumes: usize,
    /// Events that were shown and lost, as promise 4 allows.
    pub lost: usize,
    /// Turns that a fault interrupted.
    pub interrupted: usize,
    /// Turns that somebody stopped.
    pub stopped: usize,
    /// Turns that were interrupted where only the machine was late.
    pub unprovoked: usize,
    /// How long turns were open after the last fault.
    pub settled: Duration,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6} {:>5} {:>6} {:>5} {:>7} {:>6} {:>8} {:>5} {:>11} {:>8} {:>10} {:>8.1} {:>7.1}",
            self.seed,
            if self.redis { "yes" } else { "no" },
            self.turns,
            self.live,
            self.events,
            self.faults,
            self.resumes,
            self.lost,
            self.interrupted,
            self.stopped,
            self.unprovoked,
            self.settled.as_secs_f64(),
            self.took.as_secs_f64()
        )
    }
}

impl Tally {
    /// The names of the figures.
    pub const HEAD: &str =
        "  seed redis  turns  live  events faults  resumes  lost interrupted  stopped unprovoked settled_s  took_s";

    /// The sum of many; what is not a sum is the most.
    pub fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.live = self.live.max(other.live);
        self.events += other.events;
        self.faults += other.faults;
        self.resumes += other.resumes;
        self.lost += other.lost;
        self.interrupted += other.interrupted;
        self.stopped += other.stopped;
        self.unprovoked += other.unprovoked;
        self.settled = self.settled.max(other.settled);
        self.took += other.took;
    }
}
