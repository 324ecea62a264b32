//! How long an upstream may be silent.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that moves with every delta. Its timer is registered anew only when it fires too early, so that moving
/// the deadline away costs one store.
#[derive(Debug)]
pub struct Patience {
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Ends at `deadline`.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, timer: Box::pin(sleep_until(deadline)) }
    }

    /// Moves the deadline to `patience` from now.
    pub fn renew(&mut self, patience: Duration) {
        self.set(Instant::now() + patience);
    }

    /// Moves the deadline to `patience` from now if that is sooner.
    pub fn shorten(&mut self, patience: Duration) {
        let sooner = Instant::now() + patience;
        if sooner < self.deadline {
            self.set(sooner);
        }
    }

    fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Whether the deadline has passed, by the clock: for whoever never comes to wait, because there is always more.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Ready once the deadline has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.deadline <= self.timer.deadline() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn ended(patience: &mut Patience) -> Duration {
        let start = std::time::Instant::now();
        poll_fn(|cx| patience.poll(cx)).await;
        start.elapsed()
    }

    #[tokio::test]
    async fn a_deadline_moved_away_is_kept() {
        let mut patience = Patience::until(Instant::now() + Duration::from_millis(10));
        patience.renew(Duration::from_millis(60));
        assert!(ended(&mut patience).await.as_millis() >= 60);
    }

    #[tokio::test]
    async fn a_deadline_moved_nearer_is_kept() {
        let mut patience = Patience::until(Instant::now() + Duration::from_secs(1000));
        patience.shorten(Duration::from_millis(20));
        patience.shorten(Duration::from_secs(500));
        let took = ended(&mut patience).await;
        assert!(took.as_millis() >= 20 && took.as_secs() < 100, "{took:?}");
    }
}
