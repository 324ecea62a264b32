//! How late the event loop is: a timer that should ring ten times a second, and the time by which it does not.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::Meter;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// A timer of the event loop has a grain of a millisecond: less than two are none.
pub(super) fn histogram() -> Histogram {
    Histogram::new([0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
}

/// Looks for ever.
pub async fn watch(meter: Meter) {
    loop {
        let due = Instant::now() + EVERY;
        tokio::time::sleep_until(due).await;
        meter.0.stall.observe(due.elapsed().as_secs_f64());
    }
}
