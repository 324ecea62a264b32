//! Tidegate: a streaming chat gateway that passes every token on at once and keeps a true record of the answer.
//!
//! The map of the house, from the ground up; a floor uses those below it and none above.
//!
//! - [`domain`]: pure types and rules.
//! - [`lifecycle`]: how a server's tasks begin and end; [`meter`]: what it counts; [`trace`]: what it tells a collector;
//!   [`latest`]: what is replaced in use.
//! - [`upstream`]: the models behind the gateway; [`wire`]: how events are framed; [`store`]: the record; [`cluster`]: what
//!   replicas tell each other besides it.
//! - [`identity`]: whether somebody is who they say they are; [`access`]: who asks.
//! - [`turn`]: the heart, one log with many readers.
//! - [`http`]: the public door.
//! - [`config`]: what a server is told before it starts; [`cli`]: the commands of the program.
//!
//! [`serve`] puts it together, for the program and for its tests alike.

pub mod access;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod domain;
pub mod http;
pub mod identity;
pub mod latest;
pub mod lifecycle;
pub mod meter;
pub mod seldom;
pub mod store;
pub mod trace;
pub mod turn;
pub mod upstream;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::access::Access;
use crate::cluster::Cluster;
use crate::config::{AuthMode, Config};
use crate::domain::clock::Clock;
use crate::domain::price::Prices;
use crate::domain::window::Windows;
use crate::http::address::Proxies;
use crate::http::app::App;
use crate::http::cors::Origins;
use crate::http::health::SCRAPES;
use crate::http::server::certificate::Certificate;
use crate::identity::applications::Applications;
use crate::identity::pepper::Pepper;
use crate::latest::Latest;
use crate::lifecycle::Lifecycle;
use crate::meter::Meter;
use crate::store::Store;
use crate::trace::Tracer;
use crate::turn::Turns;
use crate::upstream::{Ticks, Upstreams};

/// How long a server that ends waits for the last answers to leave, beyond its time of grace.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a server that ends waits for the collector to take its last traces.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// Connections to a listener of the metrics' own.
const METRICS_CONNECTIONS: usize = 64;

/// What a server is made of besides its settings. A test hands in its own.
pub struct Parts {
    /// Where the time comes from.
    pub clock: Clock,
    /// The record.
    pub store: Store,
    /// What is shared with other replicas besides the record, if anything is.
    pub cluster: Option<Cluster>,
    /// The models. Whoever has a clone may replace them.
    pub upstreams: Latest<Upstreams>,
    /// What they cost. Whoever has a clone may replace them.
    pub prices: Latest<Prices>,
    /// What to speak TLS with, if at all. Whoever has a clone may replace it.
    pub certificate: Option<Certificate>,
    /// Who shares the gateway. Whoever has a clone may replace them.
    pub applications: Latest<Applications>,
    /// What keys and tokens are made with; needed where callers must say who they are.
    pub pepper: Option<Pepper>,
    /// What is counted.
    pub meter: Meter,
    /// Where traces go.
    pub tracer: Tracer,
    /// Where metrics are shown, if not with everything else.
    pub metrics: Option<TcpListener>,
}

impl Parts {
    /// What `config` asks for, with the machine's clock; what must wait for itself does so within `life`.
    ///
    /// # Errors
    /// [`OpenError`]: a setting that cannot be, a file that another process serves, a database that does not answer.
    pub async fn open(config: &Config, life: &Lifecycle) -> Result<Self, OpenError> {
        let ticks = Ticks::default();
        let upstreams = Latest::new(upstreams(config, ticks.clone())?);
        let prices = Latest::new(prices(config));
        let certificate = certificate(config)?;
        let applications = Latest::new(applications(config)?);
        let pepper = match config.auth.mode {
            AuthMode::Off => None,
            AuthMode::Required => Some(access::pepper(&config.auth.pepper_file).map_err(OpenError::Setting)?),
        };
        let meter = Meter::default();
        let tracer = tracer(config, life).await?;
        let (database, stream) = (&config.database, &config.stream);
        let store = Store::open(&database.url, stream.durability, config.limits.database(), meter.clone()).await?;
        let cluster = cluster(config)?;
        let metrics = match config.metrics.listen {
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(|error| OpenError::Metrics(address, error))?)
            }
            None => None,
        };
        let clock = Clock::System;
        // Not vital: without it all connections are read whenever something comes.
        life.spawn("ticks", ticks.run(life.hard().clone()));
        Ok(Self { clock, store, cluster, upstreams, prices, certificate, applications, pepper, meter, tracer, metrics })
    }
}

/// The upstreams that `config` asks for; their fast connections are read at `ticks`.
///
/// # Errors
/// [`OpenError::Setting`].
pub fn upstreams(config: &Config, ticks: Ticks) -> Result<Upstreams, OpenError> {
    Upstreams::new(&config.upstreams, &config.limits, ticks).map_err(|error| OpenError::Setting(error.to_string()))
}

/// The prices that `config` has, before those of well-known models.
pub fn prices(config: &Config) -> Prices {
    Prices::new(&config.prices, &config::known::prices())
}

/// The certificate that `config` names, read.
///
/// # Errors
/// [`OpenError::Setting`].
pub fn certificate(config: &Config) -> Result<Option<Certificate>, OpenError> {
    let files = config.tls.files();
    let opened = files.map(|(cert, key)| Certificate::open(cert, key)).transpose();
    opened.map_err(|error| OpenError::Setting(error.to_string()))
}

/// The applications that `config` asks for.
///
/// # Errors
/// [`OpenError::Setting`].
pub fn applications(config: &Config) -> Result<Applications, OpenError> {
    Applications::new(&config.applications).map_err(OpenError::Setting)
}

/// The Redis that `config` names. A SQLite file has one process, whose turns nobody else shows.
fn cluster(config: &Config) -> Result<Option<Cluster>, OpenError> {
    let Some(url) = &config.cluster.redis_url else { return Ok(None) };
    if config.database.url.starts_with("sqlite:") {
        tracing::warn!("`cluster.redis_url` is of little use with SQLite: no other replica can share its file");
    }
    let opened = Cluster::new(url).map(Some);
    opened.map_err(|_| OpenError::Setting("`cluster.redis_url` is not an address of Redis".to_owned()))
}

/// Where traces go that `config` asks for.
async fn tracer(config: &Config, life: &Lifecycle) -> Result<Tracer, OpenError> {
    let Some(endpoint) = config.otel.endpoint.clone() else { return Ok(Tracer::default()) };
    let opened = life.blocking(move || Tracer::open(&endpoint)).await;
    let opened = opened.unwrap_or_else(|| Err("it panicked".to_owned()));
    opened.map_err(|error| OpenError::Setting(format!("`otel.endpoint`: {error}")))
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
    /// The metrics' own address cannot be had.
    #[error("`metrics.listen`: cannot listen on {0}: {1}")]
    Metrics(SocketAddr, std::io::Error),
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
    /// A part without which nothing goes on broke: what lived was ended in order.
    #[error("the task `{0}` panicked, and nothing goes on without it")]
    Broken(&'static str),
    /// Tasks that did not end although they were told to.
    #[error("some tasks did not end when told to")]
    Unfinished,
}

/// Serves `listener` until `shutdown` says to stop: the one door, for the program and for its tests.
///
/// # Errors
/// [`ServeError`]: it could not begin, or it did not end cleanly.
pub async fn serve(config: Config, parts: Parts, listener: TcpListener, shutdown: Lifecycle) -> Result<(), ServeError> {
    let Parts { clock, store, cluster, upstreams, prices, certificate, applications, pepper, meter, tracer, metrics } =
        parts;
    let required = config.auth.mode == AuthMode::Required;
    let origins = Origins::new(&config.cors.allowed_origins, required.then(|| applications.clone()));
    let settings = http_settings(&config, certificate, origins, &listener)?;
    let overseer = config.metrics.application;
    let who = access::Settings { required, visitor_token_s: config.auth.visitor_token_s, overseer };
    let kept = applications.clone();
    let access = Access::open(who, store.clone(), cluster.clone(), clock.clone(), applications, pepper, &shutdown);
    let grace = Duration::from_secs(config.limits.grace_s);
    let turns = turn::Settings {
        default_model: config.default_model,
        instructions: config.instructions,
        stream: config.stream,
        limits: config.limits,
        lease_s: config.cluster.lease_s,
        prices,
        windows: Windows::new(&config.window, &config::known::windows()),
        summary_model: config.window.summary_model,
        expire_after_s: config.conversations.expire_after_s,
        applications: kept,
    };
    let (own_clock, lifecycle, own_meter) = (clock.clone(), shutdown.clone(), meter.clone());
    let parts = turn::Parts { store, cluster, upstreams, clock: own_clock, lifecycle, meter: own_meter, tracer };
    let turns = Turns::open(turns, parts).await?;
    let (stalls, over) = (meter.clone(), shutdown.hard().clone());
    shutdown.spawn("event loop", async move {
        tokio::select! {
            () = over.cancelled() => {}
            () = meter::stall::watch(stalls) => {}
        }
    });
    let app = App {
        turns: turns.clone(),
        access,
        origins: Origins::new(&config.cors.allowed_origins, None),
        own_origin: settings.public_url.origin().ascii_serialization().into(),
        since: Arc::new(Instant::now()),
        scrapes: Arc::new(Semaphore::new(SCRAPES)),
        checkups: Arc::default(),
    };
    let with_metrics = metrics.is_none();
    if let Some(listener) = metrics {
        show_metrics(&app, listener, settings.clone())?;
    }
    let guard = http::guard::Guard::new(&settings, clock.clone(), meter.clone());
    let router = http::routes::assemble(guard, http::resources::routes(app, with_metrics));
    let served = http::server::serve(listener, router, &settings, clock, meter, shutdown.clone());
    tokio::join!(served, drain(&turns, grace));
    // The collector may be slow, or gone; whoever said to stop twice does not wait for it.
    let patience = if shutdown.hard().is_cancelled() { Duration::ZERO } else { LAST_TRACES };
    shutdown.hard().cancel();
    let finished = shutdown.finished(LAST_WORDS).await;
    // Whoever makes spans has ended.
    let tracer = turns.tracer.clone();
    let _sent = shutdown.blocking(move || tracer.close(patience)).await;
    // A database that is away must not keep the process.
    let _closed = tokio::time::timeout(LAST_WORDS, turns.store.close()).await;
    match shutdown.broken() {
        Some(task) => Err(ServeError::Broken(task)),
        None if finished => Ok(()),
        None => Err(ServeError::Unfinished),
    }
}

/// Shows metrics on a listener of their own until everything else has ended: whoever watches sees the drain too.
fn show_metrics(app: &App, listener: TcpListener, settings: http::settings::Settings) -> Result<(), ServeError> {
    tracing::info!("metrics are at http://{}/metrics", listener.local_addr()?);
    let settings = http::settings::Settings {
        // Scrapers come under any name, and there is nothing here that a stranger's page could change.
        auth_off: false,
        certificate: None,
        max_connections: METRICS_CONNECTIONS,
        drain_delay: settings.grace,
        ..settings
    };
    let turn::House { clock, meter, lifecycle, .. } = &*app.turns;
    let guard = http::guard::Guard::new(&settings, clock.clone(), meter.clone());
    let router = http::routes::guarded(guard, http::resources::metrics(app.clone()));
    let (clock, meter, life) = (clock.clone(), meter.clone(), lifecycle.clone());
    lifecycle.spawn("metrics", async move {
        http::server::serve(listener, router, &settings, clock, meter, life).await;
    });
    Ok(())
}

fn http_settings(
    config: &Config,
    certificate: Option<Certificate>,
    origins: Origins,
    listener: &TcpListener,
) -> Result<http::settings::Settings, std::io::Error> {
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let bound = format!("{scheme}://{}", listener.local_addr()?);
    let public_url = config.public_url.as_deref().unwrap_or(&bound);
    Ok(http::settings::Settings {
        public_url: public_url.parse().map_err(std::io::Error::other)?,
        origins,
        proxies: Proxies::new(&config.http.trusted_proxies),
        auth_off: config.auth.mode == AuthMode::Off,
        max_body_bytes: config.limits.max_body_bytes,
        certificate,
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
    Store::beside(&config.database.url, config.limits.database()).await?.close().await;
    Ok(())
}
