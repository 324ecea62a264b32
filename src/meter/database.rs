//! Uses of the database.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Histograms, Labelled};

/// What the database is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// A transaction that writes.
    Write,
}

impl Access {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Uses of one server's database. The time of each holds the wait for a connection.
pub(super) struct Database {
    duration: Histograms<Labelled>,
    failures: Family<Labelled, Counter>,
}

/// From a tenth of a millisecond to seven seconds.
fn seconds() -> Histogram {
    Histogram::new((0..17).map(|power| 0.0001 * 2_f64.powi(power)))
}

impl Default for Database {
    fn default() -> Self {
        Self { duration: Family::new_with_constructor(seconds), failures: Family::default() }
    }
}

impl Database {
    #[rustfmt::skip] // A table: one line each.
    pub(super) fn enter(&self, own: &mut Registry) {
        // A figure that is to rise begins at zero.
        for access in [Access::Read, Access::Write] {
            drop(self.failures.get_or_create(&[("access", access.as_str())]));
        }
        own.register_with_unit("database_duration", "Time of one use of the database, with the wait for a connection", Unit::Seconds, self.duration.clone());
        own.register("database_failures", "Uses of the database that failed or took too long", self.failures.clone());
    }

    pub(super) fn count(&self, access: Access, took: Duration, failed: bool) {
        let label = [("access", access.as_str())];
        self.duration.get_or_create(&label).observe(took.as_secs_f64());
        if failed {
            self.failures.get_or_create(&label).inc();
        }
    }
}
