//! Tidegate: a streaming chat gateway that passes every token on at once and keeps a true record of the answer.
//!
//! The map of the house, from the ground up; a floor uses those below it and none above.
//!
//! - [`domain`]: pure types and rules.
//! - [`lifecycle`]: how a server's tasks begin and end.
//! - [`upstream`]: the models behind the gateway.
//! - [`http`]: the public door.
//! - [`store`]: the record.
//! - [`config`]: what a server is told before it starts.
//! - [`cli`]: the commands of the program.

pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod meter;
pub mod store;
pub mod turn;
pub mod upstream;
pub mod wire;

use std::time::Duration;

use tokio::net::TcpListener;

use crate::config::Config;
use crate::domain::clock::Clock;
use crate::lifecycle::Lifecycle;

/// What a server is made of besides its settings. A test hands in its own.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where the time comes from.
    pub clock: Clock,
}

impl Parts {
    /// What `config` asks for, with the machine's clock.
    pub async fn open(_config: &Config) -> Result<Self, OpenError> {
        Ok(Self { clock: Clock::System })
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

/// Why a server ended without being asked to, or not cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Tasks that did not end although they were told to.
    #[error("some tasks did not end when told to")]
    Unfinished,
}

/// Serves `listener` until `shutdown` says to stop: the one door, for the program and for its tests.
pub async fn serve(
    config: Config,
    _parts: Parts,
    listener: TcpListener,
    shutdown: Lifecycle,
) -> Result<(), ServeError> {
    shutdown.soft().cancelled().await;
    drop(listener);
    tokio::select! {
        finished = shutdown.finished(Duration::from_secs(config.limits.grace_s)) => {
            if finished { Ok(()) } else { Err(ServeError::Unfinished) }
        }
        () = shutdown.hard().cancelled() => Err(ServeError::Unfinished),
    }
}

/// Brings the database up to this program's migrations.
pub async fn migrate(_config: &Config) -> Result<(), OpenError> {
    Err(OpenError::Failed("`migrate` is not supported yet".to_owned()))
}
