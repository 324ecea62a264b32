//! Departures: the readers of a replica that is told to stop are sent to others, spread over some seconds, where others can show them
//! what runs here.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::Turns;

/// Over how long they are spread.
const SPREAD: Duration = Duration::from_secs(3);
/// In so many steps.
const STEPS: u8 = 100;

/// How many have been sent away, in hundredths.
#[derive(Debug, Default)]
pub struct Departures(AtomicU8);

/// A reader's place among them.
#[derive(Clone, Copy, Debug)]
pub struct Lot(u8);

impl Lot {
    /// A place by chance.
    pub fn draw() -> Self {
        Self(fastrand::u8(0..STEPS))
    }
}

impl Departures {
    /// Whether whoever has this place is to go.
    pub fn is_due(&self, lot: Lot) -> bool {
        lot.0 < self.0.load(Ordering::Relaxed)
    }
}

impl Turns {
    /// Waits until whoever waits for a turn here, and reads none, is to go: once the process is told to stop; where others can serve
    /// them, at some moment of the next seconds.
    pub(super) async fn time_to_go(&self) {
        self.lifecycle.soft().cancelled().await;
        if self.cluster.is_some() && self.store.is_shared() {
            tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
        }
    }
}

/// The task: once the process is told to stop, one step after the other.
pub async fn run(turns: Turns) {
    turns.lifecycle.soft().cancelled().await;
    for step in 1..=STEPS {
        tokio::select! {
            () = tokio::time::sleep(SPREAD / u32::from(STEPS)) => {}
            () = turns.lifecycle.hard().cancelled() => return,
        }
        turns.departures.0.store(step, Ordering::Relaxed);
        // Those who wait for more look up.
        turns.registry.all().iter().for_each(|live| live.log.rouse());
        turns.mirrors.all().iter().for_each(|mirror| mirror.log.rouse());
    }
}
