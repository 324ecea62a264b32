//! Whether this process has slept: stopped, or starved of its machine, for as long as its leases last.
//!
//! A process that wakes does not know that its turns may be another's by now, and the model goes on talking to it. So turns look at how
//! late it is before they show anything, and after a sleep they wait until the database has answered anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::Turns;

/// When the process was awake last, and whether it may believe that its turns are still its own.
#[derive(Debug)]
pub struct Awake {
    begun: Instant,
    /// In milliseconds since `begun`.
    last: AtomicU64,
    lease: Duration,
    woken: Notify,
    /// When the database answered last whether the leases hold.
    answered: watch::Sender<Instant>,
}

impl Awake {
    /// Awake now. Where one process has the database for itself its leases always hold, and last for ever.
    pub fn new(lease: Duration) -> Self {
        let (begun, last, woken) = (Instant::now(), AtomicU64::new(0), Notify::new());
        Self { begun, last, lease, woken, answered: watch::Sender::new(begun) }
    }

    /// Notes that the database has answered whether the leases hold; if not, the turns know by now.
    pub fn answered(&self) {
        self.answered.send_replace(Instant::now());
    }

    /// Whether it has answered that within so much time.
    pub fn was_answered_within(&self, time: Duration) -> bool {
        self.answered.borrow().elapsed() < time
    }

    /// Whether the process has slept, and it is not known yet whether the leases hold.
    pub fn slept(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last) >= self.lease
    }

    /// Waits until it is known.
    pub async fn confirmed(&self) {
        while self.slept() {
            let woken = self.woken.notified();
            if self.slept() {
                woken.await;
            }
        }
    }

    fn mark(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
        self.woken.notify_waiters();
    }
}

/// The task. It ends when the process signs off, or with the lifecycle's hard token.
pub async fn run(turns: Turns) {
    let over = turns.signed_off.clone();
    let awake = async {
        let mut answered = turns.awake.answered.subscribe();
        loop {
            tokio::time::sleep(turns.awake.lease / 8).await;
            if turns.awake.slept() {
                tracing::warn!("the process has slept for as long as its leases last");
                // The first answer may be to what was asked before the sleep.
                for _ in 0..2 {
                    answered.mark_unchanged();
                    turns.doubt.notify_one();
                    let _changed = answered.changed().await;
                }
            }
            turns.awake.mark();
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = awake => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_slept_once_nothing_was_noted_for_a_lease() {
        let awake = Awake { begun: Instant::now() - Duration::from_secs(5), ..Awake::new(Duration::from_secs(1)) };
        assert!(awake.slept());
        awake.mark();
        assert!(!awake.slept());
    }
}
