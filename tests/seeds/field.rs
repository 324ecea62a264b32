//! What all clients of a seed have in common.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::balancer::Balancer;
use super::calamities::Calamities;
use super::truth::Truth;
use crate::support::{Client, Gate, Reply, Request, Stream};

/// How long a client waits for an answer's head, or for any sign of life in a stream, before it takes the connection for
/// dead. The heartbeat is a second.
pub const DEAD: Duration = Duration::from_millis(2500);

/// What all clients of a seed have in common.
pub struct Field {
    /// The seed.
    pub seed: u64,
    /// When it began.
    pub begun: Instant,
    /// What was shown.
    pub truth: Truth,
    /// What happened.
    pub calamities: Calamities,
    /// Before the replicas.
    pub balancer: Balancer,
    /// Each replica, and no other.
    pub direct: Vec<Client>,
    /// The conversations.
    pub conversations: Vec<String>,
    /// Once it is open, every answer comes to its end at once.
    pub hurry: Gate,
    /// Set when whoever still reads has waited for too long.
    pub enough: watch::Sender<bool>,
}

impl Field {
    /// Sends through the balancer, and reads the head of the answer; `None` when the connection fails or seems dead.
    /// With it goes the replica that answered.
    pub async fn open(&self, request: Request) -> Option<(Stream, Option<usize>)> {
        let opened = tokio::time::timeout(DEAD, self.balancer.client().try_open(request)).await;
        let stream = opened.ok()?.ok()?;
        let replica = self.balancer.behind(stream.port());
        Some((stream, replica))
    }

    /// Sends through the balancer, and reads the whole answer; `None` when the connection fails or seems dead.
    pub async fn send(&self, request: Request, patience: Duration) -> Option<Reply> {
        tokio::time::timeout(patience, self.balancer.client().try_send(request)).await.ok()?.ok()
    }

    /// Whether there has been enough of waiting.
    pub fn is_enough(&self) -> bool {
        *self.enough.borrow()
    }

    /// Waits until so many milliseconds have passed since the seed began.
    pub async fn until(&self, ms: u64) {
        tokio::time::sleep_until((self.begun + Duration::from_millis(ms)).into()).await;
    }
}
