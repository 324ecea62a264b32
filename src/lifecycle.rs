//! Signals → soft token → hard token → tracked tasks. The only place that spawns.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio_stream::wrappers::SignalStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a signal asks for.
#[derive(Clone, Copy)]
enum Word {
    /// To stop; the signal's name.
    Stop(&'static str),
    /// To read the settings again.
    Reload,
}

/// `word` whenever the signal comes.
fn words(kind: SignalKind, word: Word) -> io::Result<impl Stream<Item = Word> + Unpin> {
    Ok(SignalStream::new(signal(kind)?).map(move |()| word))
}

/// The life of one server: its tasks, the two words that end them, and the one that has settings read again.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    tasks: TaskTracker,
    soft: CancellationToken,
    curfew: CancellationToken,
    hard: CancellationToken,
    /// The vital task that panicked first.
    broken: Arc<OnceLock<&'static str>>,
    reload: Arc<Notify>,
}

impl Lifecycle {
    /// A server that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that [`Lifecycle::finished`] waits for. A panic ends that task alone, and is logged.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        // No async block: it would have room for the task twice, before and while it runs.
        self.tasks.spawn(AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if ended.is_err() {
                tracing::error!(task = name, "a task panicked");
            }
        }));
    }

    /// The same for a task without which the rest is of no use: a panic stops the server, in order.
    pub fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (soft, broken) = (self.soft.clone(), self.broken.clone());
        self.tasks.spawn(AssertUnwindSafe(task).catch_unwind().map(move |ended| {
            if ended.is_err() {
                tracing::error!(task = name, "a task panicked that nothing goes on without");
                let _first = broken.set(name);
                soft.cancel();
            }
        }));
    }

    /// Runs `work` to its end, even if whoever waits here stops waiting. A panic inside is the caller's.
    pub async fn whole<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.tasks.spawn(work).await.map_err(JoinError::try_into_panic) {
            Ok(value) => value,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // Only the runtime's own end cancels a task that nobody aborts, and then this is over too.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// Runs work that would hold up other tasks; `None` when it panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.tasks.spawn_blocking(work).await.ok()
    }

    /// The vital task whose panic stops the server, if one does.
    pub fn broken(&self) -> Option<&'static str> {
        self.broken.get().copied()
    }

    /// Cancelled when nothing new is to begin.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when the time of grace is over: what still runs is to end, in order.
    pub fn curfew(&self) -> &CancellationToken {
        &self.curfew
    }

    /// Cancelled when nobody waits any more.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Waits for the word to read the settings again. One that comes while nobody waits is kept; several are one.
    pub async fn told_to_reload(&self) {
        self.reload.notified().await;
    }

    /// Runs `server` to its end and turns the process's signals into its words: the first SIGTERM or SIGINT is the soft
    /// one, the second the hard one, and further ones change nothing; SIGHUP is the one to reload.
    ///
    /// # Errors
    /// When signals cannot be listened to; then `server` has not begun.
    pub async fn under_signals<T>(&self, server: impl Future<Output = T>) -> io::Result<T> {
        let terminate = words(SignalKind::terminate(), Word::Stop("SIGTERM"))?;
        let interrupt = words(SignalKind::interrupt(), Word::Stop("SIGINT"))?;
        let hangup = words(SignalKind::hangup(), Word::Reload)?;
        let mut words = terminate.merge(interrupt).merge(hangup);
        let mut server = pin!(server);
        loop {
            tokio::select! {
                end = &mut server => return Ok(end),
                Some(word) = words.next() => match word {
                    Word::Stop(signal) => self.stop(signal),
                    Word::Reload => self.reload.notify_one(),
                }
            }
        }
    }

    fn stop(&self, signal: &'static str) {
        if self.soft.is_cancelled() {
            tracing::warn!(signal, "told to stop again: ending what still runs");
            self.hard.cancel();
        } else {
            tracing::info!(signal, "told to stop");
            self.soft.cancel();
        }
    }

    /// Waits until every task has ended, at most `patience`; says whether they all did.
    pub async fn finished(&self, patience: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }
}
