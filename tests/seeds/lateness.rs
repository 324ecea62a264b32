//! How late the machine makes everything, so that no promise in milliseconds is held against a machine that is busy.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::Task;

/// How often it is felt.
const EVERY: Duration = Duration::from_millis(5);

/// Feels how late timers are while it lives.
pub struct Lateness {
    felt: Arc<Mutex<Vec<(Instant, Duration)>>>,
    _task: Task<()>,
}

impl Lateness {
    /// From now on.
    pub fn feel() -> Self {
        let felt = Arc::new(Mutex::new(Vec::new()));
        let beats = felt.clone();
        let feel = async move {
            loop {
                let begun = Instant::now();
                tokio::time::sleep(EVERY).await;
                let late = begun.elapsed().saturating_sub(EVERY + Duration::from_millis(2));
                if !late.is_zero() {
                    beats.lock().unwrap().push((begun, late));
                }
            }
        };
        Self { felt, _task: Task::start(feel) }
    }

    /// By how much all timers between two moments were late together.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        let felt = self.felt.lock().unwrap();
        felt.iter().filter(|(at, late)| *at <= to && *at + *late >= from).map(|(_, late)| *late).sum()
    }

    /// The worst.
    pub fn worst(&self) -> Duration {
        self.felt.lock().unwrap().iter().map(|(_, late)| *late).max().unwrap_or_default()
    }
}
