//! How long a gateway takes for next to nothing: what the machine and an unoptimised build add to everything.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Client, Request, Task};

/// How often it is felt.
const EVERY: Duration = Duration::from_millis(10);

/// Asks for `/healthz` again and again while it lives.
pub struct Pulse {
    felt: Arc<Mutex<Vec<Duration>>>,
    _task: Task<()>,
}

impl Pulse {
    /// Feels it from now on.
    pub fn of(client: &Client) -> Self {
        let felt = Arc::new(Mutex::new(Vec::new()));
        let (client, beats) = (client.clone(), felt.clone());
        let feel = async move {
            loop {
                let begun = Instant::now();
                if client.try_send(Request::get("/healthz")).await.is_ok() {
                    beats.lock().unwrap().push(begun.elapsed());
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        Self { felt, _task: Task::start(feel) }
    }

    /// How late the machine makes a thing that takes a few round trips: `waits` average beats, and the worst one.
    pub fn late(&self, waits: u32) -> Duration {
        let felt = self.felt.lock().unwrap();
        let mean = felt.iter().sum::<Duration>() / u32::try_from(felt.len()).unwrap().max(1);
        mean * waits + felt.iter().max().copied().unwrap_or_default()
    }
}
