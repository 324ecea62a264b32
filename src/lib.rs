//! Tidegate: a streaming chat gateway that passes every token on at once and keeps a true record of the answer.
//!
//! The map of the house, from the ground up; a floor uses those below it and none above.
//!
//! - [`domain`]: pure types and rules.
//! - [`lifecycle`]: how a server's tasks begin and end; [`meter`]: what it counts.
//! - [`upstream`]: the models behind the gateway; [`wire`]: how events are framed; [`store`]: the record.
//! - [`turn`]: the heart, one log with many readers.
//! - [`http`]: the public door.
//! - [`config`]: what a server is told before it starts; [`cli`]: the commands of the program.
//!
//! [`serve`] puts it together, for the program and for its tests alike.

pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod meter;
pub mod seldom;
pub mod store;
pub mod turn;
pub mod upstream;
pub mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::config::Config;
use crate::domain::clock::Clock;
use crate::http::app::App;
use crate::lifecycle::Lifecycle;
use crate::meter::Meter;
use crate::store::Store;
use crate::turn::Turns;
use crate::upstream::Upstreams;

/// How long a server that ends waits for the last answers to leave, beyond its time of grace.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a server is made of besides its settings. A test hands in its own.
pub struct Parts {
    /// Where the time comes from.
    pub clock: Clock,
    /// The record.
    pub store: Store,
    /// The models.
    pub upstreams: Upstreams,
}

impl Parts {
    /// What `config` asks for, with the machine's clock.
    ///
    /// # Errors
    /// [`OpenError`]: a setting that cannot be, a file that another process serves, a database that does not answer.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let upstreams =
            Upstreams::new(&config.upstreams, &config.limits).map_err(|error| OpenError::Setting(error.to_string()))?;
        let store = Store::open(&config.database.url, config.stream.durability, config.limits.database()).await?;
        Ok(Self { clock: Clock::System, store, upstreams })
    }
}

/// Why a server's parts cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting asks for what cannot be: one line that names it.
    #[error("{0}")]
    Setting(String),
    /// Another `serve` holds the SQLite file: one line that names it.
    #[error("{0}")]
    Held(String),
    /// Anything else, such as a database that does not answer.
    #[error("{0}")]
    Failed(String),
}

impl From<store::OpenError> for OpenError {
    fn from(error: store::OpenError) -> Self {
        let line = error.to_string();
        match error {
            store::OpenError::Url(_) | store::OpenError::File { .. } => Self::Setting(line),
            store::OpenError::Held(_) => Self::Held(line),
            store::OpenError::Database(_) | store::OpenError::Migrate(_) => Self::Failed(line),
        }
    }
}

/// Why a server ended without being asked to, or not cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The record cannot be made ready.
    #[error("the database: {0}")]
    Store(#[from] store::Error),
    /// The listener is broken.
    #[error("the listener: {0}")]
    Listener(#[from] std::io::Error),
    /// Tasks that did not end although they were told to.
    #[error("some tasks did not end when told to")]
    Unfinished,
}

/// Serves `listener` until `shutdown` says to stop: the one door, for the program and for its tests.
///
/// # Errors
/// [`ServeError`]: it could not begin, or it did not end cleanly.
pub async fn serve(config: Config, parts: Parts, listener: TcpListener, shutdown: Lifecycle) -> Result<(), ServeError> {
    let Parts { clock, store, upstreams } = parts;
    let settings = http_settings(&config, &listener)?;
    let grace = Duration::from_secs(config.limits.grace_s);
    let turns = turn::Settings {
        default_model: config.default_model,
        instructions: config.instructions,
        stream: config.stream,
        limits: config.limits,
        lease_s: config.cluster.lease_s,
    };
    let turns = Turns::open(turns, store, upstreams, clock.clone(), shutdown.clone(), Meter::default()).await?;
    let app = App { turns: turns.clone(), since: Arc::new(Instant::now()) };
    let guard = http::guard::Guard::new(&settings, clock.clone());
    let router = http::routes::assemble(guard, http::resources::routes(app));
    let served = http::server::serve(listener, router, &settings, clock, shutdown.clone());
    tokio::join!(served, drain(&turns, grace));
    shutdown.hard().cancel();
    let finished = shutdown.finished(LAST_WORDS).await;
    // A database that is away must not keep the process.
    let _closed = tokio::time::timeout(LAST_WORDS, turns.store.close()).await;
    if finished { Ok(()) } else { Err(ServeError::Unfinished) }
}

fn http_settings(config: &Config, listener: &TcpListener) -> Result<http::settings::Settings, std::io::Error> {
    let bound = format!("http://{}", listener.local_addr()?);
    let public_url = config.public_url.as_deref().unwrap_or(&bound);
    Ok(http::settings::Settings {
        public_url: public_url.parse().map_err(std::io::Error::other)?,
        allowed_origins: config.cors.allowed_origins.clone(),
        auth_off: config.auth.mode == config::AuthMode::Off,
        max_body_bytes: config.limits.max_body_bytes,
        max_connections: http::server::connections_allowed(),
        reader_stall: Duration::from_secs(config.limits.reader_stall_s),
        drain_delay: Duration::from_secs(config.limits.drain_delay_s),
        // What is ended at the end of grace is still told.
        grace: Duration::from_secs(config.limits.grace_s) + LAST_WORDS,
    })
}

/// Once told to stop: turns go on until they end or grace is over, and then are ended.
async fn drain(turns: &Turns, grace: Duration) {
    turns.lifecycle.soft().cancelled().await;
    tokio::select! {
        () = turns.idle() => {}
        () = tokio::time::sleep(grace) => {}
        () = turns.lifecycle.hard().cancelled() => {}
    }
    turns.lifecycle.curfew().cancel();
    if tokio::time::timeout(LAST_WORDS, turns.close()).await.is_err() {
        tracing::warn!("turns are left to be found by recovery");
    }
}

/// Brings the database up to this program's migrations, beside whoever serves it.
///
/// # Errors
/// [`OpenError`].
pub async fn migrate(config: &Config) -> Result<(), OpenError> {
    Ok(Store::migrate(&config.database.url, config.limits.database()).await?)
}
