//! Figures: what one run gives, and what is made of those of several rounds.

use std::collections::BTreeMap;

use crate::clock::MILLISECOND;

/// What one run gives, by name.
#[derive(Clone, Debug, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Notes a figure.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// A figure, if it was noted.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All of them.
    pub fn all(&self) -> &BTreeMap<String, f64> {
        &self.0
    }

    /// Notes what times in ascending order say, in milliseconds.
    pub fn times(&mut self, name: &str, sorted: &[u64]) {
        for (part, of_hundred) in [("p50", 50.0), ("p99", 99.0), ("max", 100.0)] {
            self.set(format!("{name}_{part}_ms"), percentile(sorted, of_hundred) as f64 / MILLISECOND as f64);
        }
    }
}

/// The value that so many of a hundred do not pass.
pub fn percentile(sorted: &[u64], of_hundred: f64) -> u64 {
    let rank = (sorted.len() as f64 * of_hundred / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// In ascending order.
pub fn sorted(times: &[u64]) -> Vec<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// The values of several rounds.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// The one in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Rounds {
    /// Of these; `None` when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
        Some(Self { median: f64::midpoint(values[low], values[high]), min, max })
    }
}
