//! A place in a script where it waits for the test.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

/// A place in a script where it waits for the test. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    permits: Arc<Semaphore>,
    arrivals: Arc<watch::Sender<usize>>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(0)), arrivals: Arc::new(watch::Sender::new(0)) }
    }

    /// Waits until a script stands before it.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until scripts have come to it `times` times in all.
    pub async fn reached_by(&self, times: usize) {
        let mut arrivals = self.arrivals.subscribe();
        let arrived = arrivals.wait_for(|count| *count >= times);
        super::within("a script to reach its gate", arrived).await.unwrap();
    }

    /// Lets so many arrivals through, now or later.
    pub fn pass(&self, times: usize) {
        self.permits.add_permits(times);
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.permits.close();
    }

    /// Waits to be let through.
    pub async fn wait(&self) {
        self.arrivals.send_modify(|count| *count += 1);
        if let Ok(permit) = self.permits.acquire().await {
            permit.forget();
        }
    }

    /// Waits until it is open to everybody.
    pub async fn opened(&self) {
        while let Ok(permit) = self.permits.acquire().await {
            drop(permit);
            tokio::task::yield_now().await;
        }
    }
}
