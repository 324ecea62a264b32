//! Ticks: the moments at which connections are looked at that bring more than anybody can see.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// From one tick to the next, while somebody waits for it.
pub const TICK: Duration = Duration::from_micros(250);

/// The ticks of a server. A clone has the same.
///
/// They come from one task ([`Ticks::run`]), and as long as that does not run there are none: nobody is made to wait.
#[derive(Clone, Debug, Default)]
pub struct Ticks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// A task makes them.
    are_made: bool,
    count: u64,
    waiting: Vec<Waker>,
}

impl Ticks {
    /// The task: makes a tick whenever one is waited for, until `end`. Where the system has no timer that is fine enough there
    /// are none.
    pub async fn run(self, end: CancellationToken) {
        let timer = match timer::Timer::new() {
            Ok(timer) => timer,
            Err(error) => {
                return tracing::warn!(%error, "without a timer fast connections are read as the slow ones are");
            }
        };
        let _made = Making::begin(&self.0);
        let mut woken = Vec::new();
        let ticking = async {
            loop {
                self.0.asked.notified().await;
                if let Err(error) = timer.sleep(TICK).await {
                    return tracing::warn!(%error, "fast connections are read as the slow ones are: their timer fails");
                }
                self.0.tick(&mut woken);
            }
        };
        tokio::select! {
            () = end.cancelled() => {}
            () = ticking => {}
        }
    }

    /// Whether there are any.
    pub fn are_made(&self) -> bool {
        self.0.state.lock().are_made
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.state.lock().count
    }

    /// Waits until there were more than `before`; how many. At once where there are none.
    pub fn poll_after(&self, before: u64, cx: &mut Context<'_>) -> Poll<u64> {
        let mut state = self.0.state.lock();
        if state.count > before || !state.are_made {
            return Poll::Ready(state.count);
        }
        if state.waiting.is_empty() {
            self.0.asked.notify_one();
        }
        // Whoever is looked at again meanwhile waits once.
        if !state.waiting.last().is_some_and(|last| last.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Shared {
    /// Makes one; `woken` is the room for who waited for it.
    fn tick(&self, woken: &mut Vec<Waker>) {
        {
            let mut state = self.state.lock();
            state.count += 1;
            std::mem::swap(&mut state.waiting, woken);
        }
        woken.drain(..).for_each(Waker::wake);
    }
}

/// That a task makes them. Whoever waits for one when it ends is woken.
struct Making<'t>(&'t Shared);

impl<'t> Making<'t> {
    fn begin(shared: &'t Shared) -> Self {
        shared.state.lock().are_made = true;
        Self(shared)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.state.lock().are_made = false;
        self.0.tick(&mut Vec::new());
    }
}

/// A timer that is finer than the runtime's, which counts milliseconds.
#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "what takes its place is unsafe, for owners that might close what they own; `OwnedFd` does not"
        )]
        pub fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
        }

        /// Setting it forgets when it last went off (timerfd_create(2)), so that nothing has to be read.
        pub async fn sleep(&self, time: Duration) -> io::Result<()> {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let it_value = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: zero, it_value })?;
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::io;
    use std::time::Duration;

    pub enum Timer {}

    impl Timer {
        pub fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub async fn sleep(&self, _time: Duration) -> io::Result<()> {
            match *self {}
        }
    }
}
