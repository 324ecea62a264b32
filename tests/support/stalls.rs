//! How long the machine itself keeps a process waiting: what a promise in milliseconds cannot answer for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the watch looks at the clock.
const TICK: Duration = Duration::from_millis(2);

/// A thread that wants to run every few milliseconds, and notes how much later it does.
pub struct Stalls {
    worst: Arc<Mutex<Duration>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    /// Watches from now on.
    pub fn watch() -> Self {
        let (worst, over) = (Arc::new(Mutex::new(Duration::ZERO)), Arc::new(AtomicBool::new(false)));
        let (noted, ended) = (worst.clone(), over.clone());
        let watch = move || {
            while !ended.load(Ordering::Relaxed) {
                let due = Instant::now() + TICK;
                std::thread::sleep(TICK);
                let late = due.elapsed();
                let mut worst = noted.lock().unwrap();
                *worst = late.max(*worst);
            }
        };
        let thread = std::thread::Builder::new().name("stalls".into()).spawn(watch).unwrap();
        Self { worst, over, thread: Some(thread) }
    }

    /// The longest it was kept waiting since it was asked last.
    pub fn worst(&self) -> Duration {
        std::mem::take(&mut self.worst.lock().unwrap())
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
