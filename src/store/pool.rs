//! How each of the two databases is opened, and a body run on it.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Executor};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::lines::{Front, Lines};
use super::places::Places;
use super::writer::Writer;
use super::{Error, Result, migrate};
use crate::domain::owner::Owner;
use crate::domain::stream::Durability;
use crate::meter::Meter;
use crate::meter::database::Access;

/// Runs a body on a connection that reads; the body is compiled once for each database. `first` does not queue with the others on
/// PostgreSQL.
macro_rules! read {
    ($store:expr, $conn:ident => $body:expr) => {
        $crate::store::pool::read!($store, false, $conn => $body)
    };
    ($store:expr, first, $conn:ident => $body:expr) => {
        $crate::store::pool::read!($store, true, $conn => $body)
    };
    ($store:expr, $first:literal, $conn:ident => $body:expr) => {
        $store
            .within(
                $crate::meter::database::Access::Read,
                tokio::time::Instant::now() + $store.patience,
                Box::pin(async {
                    match &$store.pool {
                        $crate::store::pool::Pool::Sqlite { read, .. } => {
                            let mut held = read.acquire().await?;
                            let $conn = &mut *held;
                            $body
                        }
                        $crate::store::pool::Pool::Postgres { pool, first } => {
                            let mut held = if $first { first } else { pool }.acquire().await?;
                            let $conn = &mut *held;
                            $body
                        }
                    }
                }),
            )
            .await
    };
}

/// Runs a body in a transaction that may write. It is committed if the body gives `Ok(Commit(value))`, and
/// rolled back otherwise; where it cannot be begun, that is [`super::Error::NotBegun`]. The body is compiled once for each
/// database. `first` stands before all who queue.
/// The body's statements are those of [`super::transaction::Transaction`]. It gets its room, some 20 KiB, when it is its
/// turn: thousands may wait for theirs.
macro_rules! write {
    ($store:expr, $conn:ident => $body:expr) => {
        $crate::store::pool::write!($store, false, $conn => $body)
    };
    ($store:expr, first, $conn:ident => $body:expr) => {
        $crate::store::pool::write!($store, true, $conn => $body)
    };
    ($store:expr, $first:literal, $conn:ident => $body:expr) => {{
        let until = tokio::time::Instant::now() + $store.patience;
        $store.within(
            $crate::meter::database::Access::Write,
            until,
            Box::pin(async {
                match &$store.pool {
                    $crate::store::pool::Pool::Sqlite { write, queue, .. } => {
                        let begun = async {
                            let place = if $first { None } else { queue.acquire().await.ok() };
                            Ok((place, write.begin().await?))
                        };
                        let (_place, mut held) = $crate::store::pool::begun(until, begun).await?;
                        let work = async {
                            let $conn = &mut held;
                            let done: $crate::store::Result<$crate::store::pool::Done<_>> = async { $body }.await;
                            $crate::store::pool::settle!(held, done)
                        };
                        Box::pin(work).await
                    }
                    $crate::store::pool::Pool::Postgres { pool, first } => {
                        let pool = if $first { first } else { pool };
                        let held = $crate::store::pool::begun(until, pool.begin()).await?;
                        let mut held = $crate::store::transaction::PostgresTransaction::new(held);
                        let work = async {
                            let $conn = &mut held;
                            let done: $crate::store::Result<$crate::store::pool::Done<_>> = async { $body }.await;
                            $crate::store::pool::settle!(held, done)
                        };
                        Box::pin(work).await
                    }
                }
            }),
        )
        .await
    }};
}

macro_rules! settle {
    ($held:ident, $done:ident) => {
        match $done? {
            $crate::store::pool::Done::Commit(value) => {
                $held.commit().await?;
                Ok(value)
            }
            $crate::store::pool::Done::Rollback(value) => {
                $held.rollback().await?;
                Ok(value)
            }
        }
    };
}

/// What `begin` gives, if it does by then; otherwise nothing has been asked of the database.
pub(super) async fn begun<T>(until: Instant, begin: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    let begun = tokio::time::timeout_at(until, begin).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    begun.map_err(Error::NotBegun)
}

/// How a transaction's body came out.
pub(super) enum Done<T> {
    /// Keep it.
    Commit(T),
    /// Undo it, and still answer.
    Rollback(T),
}

pub(super) use {read, settle, write};

/// How many statements may be read at once.
const READERS: u32 = 4;
/// How many connections one replica takes of a PostgreSQL server.
const CONNECTIONS: u32 = 14;
/// How many it takes besides for those who stand first: the journal, the lease's renewal, who looks for dead replicas, who takes
/// turns over, who looks what others want, who tells others of readers here.
const FIRST: u32 = 6;

/// How long a transaction may be left alone before a PostgreSQL server undoes it. A replica that freezes in the middle of one holds
/// its rows, its own among them: nobody could take its turns over. What still runs is here again within milliseconds.
const IDLE: Duration = Duration::from_secs(1);

/// Where a commit moves SQLite's log into the database itself: 64 MiB, which the task of `checkpoint.rs` reaches only
/// where the writers leave it no gap.
const LOG_PAGES: &str = "16000";

#[derive(Clone)]
pub(super) enum Pool {
    /// One writer, since SQLite has but one; readers beside it. All but those who stand first queue for it, so
    /// that a crowd of admissions does not keep the journal waiting.
    Sqlite { write: Arc<Writer>, read: SqlitePool, queue: Arc<Semaphore> },
    /// Those who stand first have connections of their own, for the same reason.
    Postgres { pool: PgPool, first: PgPool },
}

/// The record: cheap to clone, shared by all who read or write it.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: Pool,
    pub(super) patience: Duration,
    pub(super) places: Arc<Places>,
    /// Those who write a conversation: its owner, and its id or the name of its session.
    writers: Arc<Lines<(Owner, String)>>,
    meter: Meter,
    _lock: Option<Arc<File>>,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of ours.
    #[error("`database.url`: {0}")]
    Url(String),
    /// Another process serves this file.
    #[error("`database.url`: {} is served by another process", .0.display())]
    Held(PathBuf),
    /// The file cannot be made or locked.
    #[error("`database.url`: {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The database refused.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("the database's migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Store {
    /// Opens the database at `url`, for this process alone if it is a file, and applies the migrations.
    /// No use of it takes longer than `patience`, nor does standing in line for one; each is counted by `meter`.
    ///
    /// # Errors
    /// When the URL is not one of ours, the file is served by another process, or the database refuses.
    pub async fn open(
        url: &str,
        durability: Durability,
        patience: Duration,
        meter: Meter,
    ) -> std::result::Result<Self, OpenError> {
        let (pool, lock) = if let Some(path) = sqlite_path(url) {
            let lock = lock(&path)?;
            (sqlite(&path, durability, patience).await?, Some(Arc::new(lock)))
        } else {
            (postgres(url, durability, patience).await?, None)
        };
        migrate::apply(&pool).await?;
        Ok(Self { pool, patience, places: Arc::default(), writers: Arc::default(), meter, _lock: lock })
    }

    /// Opens the database beside whoever serves it, and applies the migrations.
    ///
    /// # Errors
    /// When the URL is not one of ours, or the database refuses.
    pub async fn beside(url: &str, patience: Duration) -> std::result::Result<Self, OpenError> {
        let pool = match sqlite_path(url) {
            Some(path) => sqlite(&path, Durability::Strict, patience).await?,
            None => postgres(url, Durability::Strict, patience).await?,
        };
        migrate::apply(&pool).await?;
        Ok(Self {
            pool,
            patience,
            places: Arc::default(),
            writers: Arc::default(),
            meter: Meter::default(),
            _lock: None,
        })
    }

    /// Whether other replicas may share this database.
    pub fn is_shared(&self) -> bool {
        matches!(self.pool, Pool::Postgres { .. })
    }

    /// Asks the database whether it is there, and which version it is; it queues like most others do.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ping(&self) -> Result<String> {
        let sql = match self.pool {
            Pool::Sqlite { .. } => "select sqlite_version()",
            Pool::Postgres { .. } => "select current_setting('server_version')",
        };
        read!(self, conn => Ok(sqlx::query_scalar(sql).fetch_one(conn).await?))
    }

    /// How a sweep chooses its rows, behind their `select`: what somebody else has at this moment is not waited for, nor taken
    /// after that. SQLite has one writer.
    pub(super) fn unless_locked(&self) -> &'static str {
        if self.is_shared() { "for update skip locked" } else { "" }
    }

    /// What the database calls itself: `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        match self.pool {
            Pool::Sqlite { .. } => "sqlite",
            Pool::Postgres { .. } => "postgres",
        }
    }

    /// Waits until nobody else of this process writes the owner's conversation on somebody's behalf, by its id or the name of its
    /// session: who waits for its row takes a connection that others could have. SQLite has one writer, and nothing of this.
    ///
    /// # Errors
    /// [`Error::Crowded`] when that is not so within `patience`.
    pub(super) async fn line(&self, owner: &Owner, conversation: &str) -> Result<Option<Front<'_, (Owner, String)>>> {
        if !self.is_shared() {
            return Ok(None);
        }
        let front = self.writers.wait((owner.clone(), conversation.to_owned()));
        let front = tokio::time::timeout(self.patience, front).await.ok().flatten();
        front.map(Some).ok_or(Error::Crowded)
    }

    /// Gives up on `work` at `until`, and counts it. It lies in a box: a turn that waits for its upstream carries
    /// no room for its queries.
    pub(super) async fn within<T, F>(&self, access: Access, until: Instant, work: Pin<Box<F>>) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let begun = Instant::now();
        let done = tokio::time::timeout_at(until, work).await.unwrap_or(Err(Error::Slow(self.patience)));
        let failed = match &done {
            Ok(_) | Err(Error::Unchanged | Error::Crowded) => false,
            Err(Error::Unavailable(_) | Error::NotBegun(_) | Error::Slow(_) | Error::Corrupt(_)) => true,
        };
        self.meter.database_used(access, begun.elapsed(), failed);
        done
    }

    /// Closes every connection; what is under way is finished first.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Pool {
    async fn close(&self) {
        match self {
            Self::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres { pool, first } => {
                first.close().await;
                pool.close().await;
            }
        }
    }
}

fn sqlite_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))?;
    Some(PathBuf::from(path))
}

/// Holds the file for as long as the process lives; the kernel lets go when it dies. Under whatever name it was
/// asked for: the lock lies beside the file itself, and a file of two names is refused, since SQLite would keep two
/// journals of it (sqlite.org/howtocorrupt.html, section 2.6). Nobody else on the machine may read what is made here.
fn lock(path: &Path) -> std::result::Result<File, OpenError> {
    let failed = |path: &Path, error| OpenError::File { path: path.to_owned(), error };
    let open = |path: &Path| {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        file.map_err(|error| failed(path, error))
    };
    let links = open(path)?.metadata().map_err(|error| failed(path, error))?.nlink();
    if links > 1 {
        return Err(failed(path, std::io::Error::other("the file has several names (hard links)")));
    }
    let path = path.canonicalize().map_err(|error| failed(path, error))?;
    let mut name = path.clone().into_os_string();
    name.push(".lock");
    let file = open(Path::new(&name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Held(path)),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(Path::new(&name), error)),
    }
}

async fn sqlite(path: &Path, durability: Durability, patience: Duration) -> std::result::Result<Pool, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL outlives the process, FULL outlives the power (sqlite.org/pragma.html#pragma_synchronous).
        .synchronous(match durability {
            Durability::Relaxed => SqliteSynchronous::Normal,
            Durability::Strict => SqliteSynchronous::Full,
        })
        .busy_timeout(patience);
    // What is erased within a page is overwritten (sqlite.org/pragma.html#pragma_secure_delete). Whole pages that become free are
    // only where somebody is forgotten (`Store::forget_traces`): the tail frees some with each commit.
    let writing = options.clone().pragma("wal_autocheckpoint", LOG_PAGES).pragma("secure_delete", "fast");
    let write = Arc::new(Writer::open(writing).await?);
    let read = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(READERS)
        .acquire_timeout(patience)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.read_only(true))
        .await?;
    Ok(Pool::Sqlite { write, read, queue: Arc::new(Semaphore::new(1)) })
}

async fn postgres(url: &str, durability: Durability, patience: Duration) -> std::result::Result<Pool, OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| OpenError::Url(error.to_string()))?;
    let options = match durability {
        // As the server is set up; its default survives a power cut.
        Durability::Relaxed => options,
        Durability::Strict => options.options([("synchronous_commit", "on")]),
    };
    // Nobody waits for a statement any longer; the server is not to work on it, nor to hold its rows.
    let bounds: Arc<str> = format!(
        "set lock_timeout = {0}; set statement_timeout = {0}; set idle_in_transaction_session_timeout = {1}",
        patience.as_millis(),
        IDLE.min(patience).as_millis()
    )
    .into();
    let sized = |most| {
        let bounds = bounds.clone();
        PgPoolOptions::new().max_connections(most).acquire_timeout(patience).after_connect(move |conn, _| {
            let bounds = bounds.clone();
            Box::pin(async move { conn.execute(AssertSqlSafe(&*bounds)).await.map(drop) })
        })
    };
    // A ping before every commit would cost it a round trip; each connection that has died fails one try.
    let first = sized(FIRST).min_connections(1).test_before_acquire(false).connect_with(options.clone()).await?;
    Ok(Pool::Postgres { pool: sized(CONNECTIONS).connect_with(options).await?, first })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_held_under_every_name_it_has() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let held = lock(&at("a.db")).unwrap();
        assert_eq!(held.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        symlink(at("a.db"), at("link.db")).unwrap();
        for name in ["a.db", "link.db"] {
            assert!(matches!(lock(&at(name)), Err(OpenError::Held(_))), "{name}");
        }
        drop(held);
        drop(lock(&at("link.db")).unwrap());
        std::fs::hard_link(at("a.db"), at("hard.db")).unwrap();
        assert!(matches!(lock(&at("a.db")), Err(OpenError::File { .. })));
    }
}
