//! What a server is told before it starts: built-in default < file (TOML) < environment < flag.
//!
//! To add a setting: 1. a field here, or in the settings of the floor that reads it; 2. its line in [`keys`];
//! 3. a sentence in [`check`] if some values are impossible. Tests compare the three. 4. where SIGHUP
//! is to take it anew, its section in [`changes`], and its value in `cli/reload.rs`.

pub mod changes;
pub mod check;
pub mod environment;
pub mod error;
pub mod example;
pub mod keys;
pub mod known;
pub mod load;
mod secrets;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::error::ConfigError;
pub use self::load::{Flags, Loaded, load};
use crate::domain::limits::Limits;
use crate::domain::price::Price;
use crate::domain::stream::Stream;
use crate::domain::window::Window;
use crate::identity::settings::Application;
use crate::upstream::settings::{Kind, Settings};

/// Everything a server is told before it starts. One that came out of [`load()`] is known to be possible.
// Keys that are known and not supported yet are left out here, so serde must not refuse them: `tree` does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach it, without a slash at the end; absent: the bound address.
    pub public_url: Option<String>,
    /// The model where a request names none; an upstream serves it.
    pub default_model: String,
    /// The system prompt where a conversation has none of its own; may be empty.
    pub instructions: String,
    /// What to speak TLS with.
    pub tls: Tls,
    /// Where the record is kept.
    pub database: Database,
    /// How replicas share turns.
    pub cluster: Cluster,
    /// Who may call.
    pub auth: Auth,
    /// The applications that share the gateway; at least one.
    pub applications: Vec<Application>,
    /// Whose pages may call.
    pub cors: Cors,
    /// What stands before the gateway.
    pub http: Http,
    /// Where metrics are shown.
    pub metrics: Metrics,
    /// Where traces go.
    pub otel: Otel,
    /// How logs look.
    pub log: Log,
    /// How long conversations last.
    pub conversations: Conversations,
    /// How turns are shown and kept.
    pub stream: Stream,
    /// Every bound.
    pub limits: Limits,
    /// How much of a conversation a model is sent.
    pub window: Window,
    /// The models behind the gateway, tried in order; at least one.
    pub upstreams: Vec<Settings>,
    /// What models cost, before what is [`known`].
    pub prices: Vec<Price>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            default_model: "demo".to_owned(),
            instructions: String::new(),
            tls: Tls::default(),
            database: Database::default(),
            cluster: Cluster::default(),
            auth: Auth::default(),
            applications: vec![Application::default()],
            cors: Cors::default(),
            http: Http::default(),
            metrics: Metrics::default(),
            otel: Otel::default(),
            log: Log::default(),
            conversations: Conversations::default(),
            stream: Stream::default(),
            limits: Limits::default(),
            window: Window::default(),
            upstreams: vec![Settings {
                name: "demo".to_owned(),
                kind: Kind::Demo,
                base_url: None,
                api_key: None,
                api_key_env: None,
                api_key_file: None,
                models: vec!["demo".to_owned()],
                rename: Default::default(),
                headers: Default::default(),
                extra_body: Default::default(),
                proxy: None,
                ca_file: None,
                http2: false,
                connect_s: None,
                first_token_s: None,
                idle_s: None,
            }],
            prices: Vec::new(),
        }
    }
}

/// What to speak TLS with: `[tls]`. Both files or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// The certificate and its chain, in PEM.
    pub cert_file: Option<PathBuf>,
    /// The certificate's key, in PEM.
    pub key_file: Option<PathBuf>,
}

impl Tls {
    /// Certificate and key; `None` without TLS.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.cert_file.as_deref().zip(self.key_file.as_deref())
    }
}

/// Where the record is kept: `[database]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Database {
    /// `sqlite:…`, `postgres://…` or `postgresql://…`. May hold a password: not for logs.
    pub url: String,
}

impl Default for Database {
    fn default() -> Self {
        Self { url: "sqlite://tidegate.db".to_owned() }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// How replicas share turns: `[cluster]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// `redis://…` or `rediss://…`: where replicas pass live turns on. May hold a password: not for logs.
    pub redis_url: Option<String>,
    /// Seconds a turn stays with a replica that does not renew it; at least 1.
    pub lease_s: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { redis_url: None, lease_s: 10 }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("lease_s", &self.lease_s).finish_non_exhaustive()
    }
}

/// Who may call: `[auth]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// Whether callers must say who they are.
    pub mode: AuthMode,
    /// Lets auth be off on an address that others can reach.
    pub allow_public_off: bool,
    /// The server's own secret.
    pub pepper_file: PathBuf,
    /// How long a visitor's token is good, in seconds.
    pub visitor_token_s: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::default(),
            allow_public_off: false,
            pepper_file: PathBuf::from("pepper"),
            visitor_token_s: 30 * 24 * 3600,
        }
    }
}

/// Whether callers must say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Anybody who reaches the port may call.
    #[default]
    Off,
    /// Nobody may without a key, a token or a widget.
    Required,
}

/// Whose pages may call: `[cors]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cors {
    /// Exact origins as browsers send them (RFC 6454, section 6.2).
    pub allowed_origins: Vec<String>,
}

/// What stands before the gateway: `[http]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Http {
    /// Addresses and networks (CIDR) of the proxies whose word on who the client is counts.
    pub trusted_proxies: Vec<String>,
}

/// Where metrics are shown, and to whom: `[metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// An address of their own; port 0 takes a free one. Absent: `/metrics` of the main one.
    pub listen: Option<SocketAddr>,
    /// The application whose admin keys read them at the main one; absent: the only one there is.
    pub application: Option<String>,
}

/// Where traces go: `[otel]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Otel {
    /// The base address of a collector that takes OTLP over HTTP; absent: there are none.
    pub endpoint: Option<String>,
}

/// How logs look: `[log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Their format.
    pub format: LogFormat,
}

/// How long conversations last: `[conversations]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conversations {
    /// Seconds of silence after which one has ended; 0 = never.
    pub expire_after_s: u64,
}

/// The format of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For people: one line each, in colours on a terminal.
    Pretty,
    /// For programs: one JSON object a line.
    Json,
}
