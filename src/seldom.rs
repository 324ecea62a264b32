//! A future that is looked at only when it asks to be.
//!
//! Whoever waits for several things looks at all of them whenever one has come. A turn is woken for every delta, and for
//! its stop, its deadline and its last reader's leaving once: looked at each time, they would cost a delta more than its
//! line does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// A future that is polled once, and then only when it was woken itself.
pub struct Seldom<F> {
    inner: Pin<Box<F>>,
    alarm: Arc<Alarm>,
    waker: Waker,
}

struct Alarm {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Seldom<F> {
    /// The same future.
    pub fn new(inner: F) -> Self {
        let alarm = Arc::new(Alarm { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { inner: Box::pin(inner), waker: alarm.clone().into(), alarm }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Each time, and before the look at the alarm: one that rings in between wakes the task, and one that rang before
        // may be about to take the waker that was left then.
        this.alarm.task.register(cx.waker());
        if this.alarm.rung.swap(false, Ordering::AcqRel) {
            return this.inner.as_mut().poll(&mut Context::from_waker(&this.waker));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_is_woken_and_not_with_its_neighbours() {
        let polls = Arc::new(AtomicUsize::new(0));
        let (word, mut heard) = oneshot::channel();
        let counted = polls.clone();
        let mut seldom = Seldom::new(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut heard).poll(cx)
        }));
        for _ in 0..100 {
            assert!(futures::poll!(&mut seldom).is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        let said = tokio::join!(seldom, async move {
            tokio::task::yield_now().await;
            word.send(7)
        });
        assert_eq!((said.0, said.1), (Ok(7), Ok(())));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn no_ring_is_lost_whenever_it_comes() {
        const RINGS: usize = 200_000;
        let (rings, bell) = (AtomicUsize::new(0), AtomicWaker::new());
        let heard = Seldom::new(poll_fn(|cx| {
            bell.register(cx.waker());
            if rings.load(Ordering::Acquire) == RINGS { Poll::Ready(()) } else { Poll::Pending }
        }));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..RINGS {
                    rings.fetch_add(1, Ordering::Release);
                    bell.wake();
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let in_time = async { tokio::time::timeout(Duration::from_secs(60), heard).await.is_ok() };
            assert!(runtime.block_on(in_time), "a ring woke nobody");
        });
    }
}
