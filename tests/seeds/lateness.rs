//! How late the machine makes everything, so that no promise in milliseconds is held against a machine that is busy.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Client, Request, Task};

/// How often timers are felt, and replicas.
const TIMERS: Duration = Duration::from_millis(5);
const REPLICAS: Duration = Duration::from_millis(40);
/// A replica that takes longer for next to nothing is not busy: it was stopped, or is gone.
const BUSY: Duration = Duration::from_millis(1000);

/// When something was felt, and how late it was.
type Felt = Arc<Mutex<Vec<(Instant, Duration)>>>;

/// Feels how late timers are, and each replica, while it lives.
pub struct Lateness {
    timers: Felt,
    replicas: Vec<Felt>,
    _tasks: Vec<Task<()>>,
}

impl Lateness {
    /// From now on.
    pub fn feel(clients: &[Client]) -> Self {
        let (timers, replicas) = (Felt::default(), clients.iter().map(|_| Felt::default()).collect::<Vec<_>>());
        let mut tasks = vec![Task::start(feel_timers(timers.clone()))];
        for (client, felt) in clients.iter().zip(&replicas) {
            tasks.push(Task::start(feel_replica(client.clone(), felt.clone())));
        }
        Self { timers, replicas, _tasks: tasks }
    }

    /// By how much all timers between two moments were late together.
    pub fn of_timers(&self, from: Instant, to: Instant) -> Duration {
        between(&self.timers, from, to).iter().sum()
    }

    /// How late that makes a thing for which one of the replicas (any, where none is named) waits so often for the machine: so many
    /// times the mean of what next to nothing took there, and the worst.
    pub fn of(&self, replicas: &[usize], from: Instant, to: Instant, waits: u32) -> Duration {
        let late = |(number, felt): (usize, &Felt)| {
            let felt =
                if replicas.is_empty() || replicas.contains(&number) { between(felt, from, to) } else { Vec::new() };
            let mean = felt.iter().sum::<Duration>() / u32::try_from(felt.len()).unwrap().max(1);
            mean * waits + felt.into_iter().max().unwrap_or_default()
        };
        let worst = self.replicas.iter().enumerate().map(late).max().unwrap_or_default();
        worst + self.of_timers(from, to)
    }

    /// The worst of all timers.
    pub fn worst(&self) -> Duration {
        self.timers.lock().unwrap().iter().map(|(_, late)| *late).max().unwrap_or_default()
    }
}

fn between(felt: &Felt, from: Instant, to: Instant) -> Vec<Duration> {
    let felt = felt.lock().unwrap();
    felt.iter().filter(|(at, late)| *at <= to && *at + *late >= from).map(|(_, late)| *late).collect()
}

async fn feel_timers(felt: Felt) {
    loop {
        let begun = Instant::now();
        tokio::time::sleep(TIMERS).await;
        let late = begun.elapsed().saturating_sub(TIMERS + Duration::from_millis(2));
        if !late.is_zero() {
            felt.lock().unwrap().push((begun, late));
        }
    }
}

async fn feel_replica(client: Client, felt: Felt) {
    loop {
        let begun = Instant::now();
        let asked = tokio::time::timeout(BUSY, client.try_send(Request::get("/healthz"))).await;
        if asked.is_ok_and(|reply| reply.is_ok()) {
            felt.lock().unwrap().push((begun, begun.elapsed()));
        }
        tokio::time::sleep(REPLICAS).await;
    }
}
