//! What is counted: one registry for each server, in the text format of OpenMetrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::domain::turn::Status;

/// The counters of one server. Cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    finished: Family<[(&'static str, &'static str); 1], Counter>,
    duration: Histogram,
    first_token: Histogram,
    commit: Histogram,
    rows: Counter,
    failures: Counter,
    live: Gauge,
    readers: Gauge,
    unsaved: Gauge,
    lag: Gauge<f64, AtomicU64>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

impl Default for Meter {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 20));
        let inner = Inner {
            registry: Mutex::new(Registry::with_prefix("tidegate")),
            finished: Family::default(),
            duration: seconds(),
            first_token: seconds(),
            commit: seconds(),
            rows: Counter::default(),
            failures: Counter::default(),
            live: Gauge::default(),
            readers: Gauge::default(),
            unsaved: Gauge::default(),
            lag: Gauge::default(),
        };
        {
            let mut registry = inner.registry.lock();
            registry.register("turns_finished", "Turns that ended, by status", inner.finished.clone());
            registry.register_with_unit(
                "turn_duration",
                "From a turn's start to its end",
                Unit::Seconds,
                inner.duration.clone(),
            );
            registry.register_with_unit(
                "turn_first_token",
                "From a turn's start to its first delta or reasoning",
                Unit::Seconds,
                inner.first_token.clone(),
            );
            registry.register_with_unit(
                "journal_commit",
                "Time of one commit of the journal",
                Unit::Seconds,
                inner.commit.clone(),
            );
            registry.register("journal_rows", "Rows the journal has written", inner.rows.clone());
            registry.register("journal_failures", "Commits of the journal that failed", inner.failures.clone());
            registry.register("turns_live", "Turns that are queued or running here", inner.live.clone());
            registry.register("readers", "Open streams, and requests that wait for an answer", inner.readers.clone());
            registry.register_with_unit(
                "journal_lag",
                "How long the oldest event waits that is not saved yet",
                Unit::Seconds,
                inner.lag.clone(),
            );
            registry.register_with_unit("unsaved", "Events not saved yet", Unit::Bytes, inner.unsaved.clone());
        }
        Self(Arc::new(inner))
    }
}

impl Meter {
    /// A turn ended, so, after so many milliseconds.
    pub fn turn_finished(&self, status: Status, duration_ms: u64, first_token_ms: Option<u64>) {
        self.0.finished.get_or_create(&[("status", status.as_str())]).inc();
        self.0.duration.observe(Duration::from_millis(duration_ms).as_secs_f64());
        if let Some(first_token_ms) = first_token_ms {
            self.0.first_token.observe(Duration::from_millis(first_token_ms).as_secs_f64());
        }
    }

    /// The journal wrote so many rows in so long.
    pub fn journal_commit(&self, took: Duration, rows: usize) {
        self.0.commit.observe(took.as_secs_f64());
        self.0.rows.inc_by(rows as u64);
    }

    /// The journal could not write.
    pub fn journal_failure(&self) {
        self.0.failures.inc();
    }

    /// A reader came, who counts until this is dropped.
    pub fn reader(&self) -> Counted {
        self.0.readers.inc();
        Counted(self.clone())
    }

    /// All of it, as OpenMetrics text; the three figures are taken now.
    pub fn text(&self, live_turns: usize, unsaved_bytes: u64, lag: Duration) -> String {
        self.0.lag.set(lag.as_secs_f64());
        self.0.live.set(i64::try_from(live_turns).unwrap_or(i64::MAX));
        self.0.unsaved.set(i64::try_from(unsaved_bytes).unwrap_or(i64::MAX));
        let mut text = String::new();
        let _infallible = encode(&mut text, &self.0.registry.lock());
        text
    }
}

/// A reader that is counted.
#[derive(Debug)]
pub struct Counted(Meter);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.readers.dec();
    }
}
