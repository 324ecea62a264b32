//! What replicas tell each other besides the record: Redis, which is known only here.
//!
//! Nothing is true because Redis says so: it may be slow, gone, or empty at any time, and then the record serves, later. So
//! nothing here is tried twice, and nobody waits for it for long.
//!
//! To add something that replicas share: 1. a file here, with the names of its keys and how they go by themselves, which asks
//! by `ask`, or, where it counts, by a script (`script.rs`, whose failures each replica makes up for by counting for itself); 2. what
//! happens while Redis is away, in whoever uses it; 3. its golden lines, where it is read by other versions of the program.

pub mod follow;
pub mod news;
pub mod piece;
pub mod places;
pub mod rates;
mod script;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, Value};

use follow::Follows;
use script::Counting;

/// How long an answer may take. A machine that is short of everything takes some of it, and Redis is not away for that.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_millis(500);
/// So long nobody asks a Redis that did not answer.
const REST: Duration = Duration::from_millis(500);

/// What is written to see whether there is room.
const PROBE: &str = "tidegate:probe";

/// Redis does not do what it is asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(Arc<str>);

/// What Redis answers.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string().into())
    }
}

/// The Redis that replicas share. Cheap to clone; all clones share one connection, on which requests follow each other without
/// waiting for answers.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    client: Client,
    line: Mutex<Line>,
    /// Held while a connection is made: one does for all who wait.
    connecting: tokio::sync::Mutex<()>,
    follows: Arc<Follows>,
    counting: Counting,
}

#[derive(Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    /// It did not answer, and is left alone until then.
    until: Option<Instant>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its address may hold a password.
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// The Redis at `url` (`redis://` or, over TLS, `rediss://`, with user, password, port and database as in the IANA's
    /// registration of the scheme). It is not asked anything yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(url: &str) -> Result<Self> {
        let client = Client::open(url).map_err(Error::of)?;
        let (line, connecting) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Shared { client, line, connecting, follows: Arc::default(), counting: Counting::default() })))
    }

    /// The version Redis says it is, where it has room for what is written.
    ///
    /// # Errors
    /// It does not answer, or takes nothing down.
    pub async fn ping(&self) -> Result<String> {
        let mut info = redis::pipe();
        info.cmd("INFO").arg("server").cmd("SET").arg(PROBE).arg("").arg("EX").arg(1).ignore();
        let (text,): (String,) = self.ask(&info).await?;
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or_default().to_owned())
    }

    /// Whether it may be asked: it has not failed to answer just now.
    pub fn is_up(&self) -> bool {
        self.0.line.lock().until.is_none_or(|until| until <= Instant::now())
    }

    /// The answers to some requests, which travel together.
    async fn ask<T: FromRedisValue>(&self, requests: &Pipeline) -> Result<T> {
        let asked = async {
            let mut connection = self.connection().await?;
            requests.query_async::<Value>(&mut connection).await.map_err(Failure::from)
        };
        let answered = tokio::time::timeout(CONNECT + PATIENCE, asked).await;
        match answered.unwrap_or_else(|_| Err(Failure::Line(Error::of("it does not answer in time")))) {
            Ok(value) => {
                self.0.line.lock().until = None;
                T::from_redis_value(value).map_err(Error::of)
            }
            Err(Failure::Answer(error)) => Err(error),
            Err(Failure::Line(error)) => {
                self.leave_alone();
                Err(error)
            }
        }
    }

    /// Nobody knows what became of what was asked: drops the connection, and asks nothing for a while.
    fn leave_alone(&self) {
        *self.0.line.lock() = Line { connection: None, until: Some(Instant::now() + REST) };
    }

    async fn connection(&self) -> std::result::Result<MultiplexedConnection, Failure> {
        let _one = loop {
            {
                let line = self.0.line.lock();
                if let Some(connection) = &line.connection {
                    return Ok(connection.clone());
                }
                if line.until.is_some_and(|until| until > Instant::now()) {
                    return Err(Failure::Answer(Error::of("it did not answer a moment ago")));
                }
            }
            match self.0.connecting.try_lock() {
                Ok(one) => break one,
                // Whoever makes it leaves it for the others.
                Err(_) => drop(self.0.connecting.lock().await),
            }
        };
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(PATIENCE));
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.0.line.lock().connection = Some(connection.clone());
        Ok(connection)
    }
}

/// Why a request has no answer.
enum Failure {
    /// Redis answered that it will not.
    Answer(Error),
    /// Nobody knows what became of it, nor of others on the same connection.
    Line(Error),
}

impl From<redis::RedisError> for Failure {
    fn from(error: redis::RedisError) -> Self {
        let is_answer = matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension);
        if is_answer { Self::Answer(Error::of(error)) } else { Self::Line(Error::of(error)) }
    }
}
