//! What the command is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::gateway::api::Wire;
use crate::work::Work;

/// Measures gateways beside nginx; `benches/README.md` says how to read it.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Only these works
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Work>,
    /// Where Tidegate keeps its record
    #[arg(long, value_delimiter = ',', default_values = ["relaxed", "strict", "postgres", "cluster"])]
    pub databases: Vec<Database>,
    /// How Tidegate is asked to answer
    #[arg(long, default_value = "ndjson")]
    pub wire: Wire,
    /// A tenth of everything, to see whether it works: the figures say nothing
    #[arg(long)]
    pub quick: bool,
    /// The core of the gateway
    #[arg(long, default_value_t = 0)]
    pub gateway_core: usize,
    /// The core of the fake model and its users
    #[arg(long, default_value_t = 1)]
    pub bench_core: usize,
    /// Where the figures go
    #[arg(long, default_value = "target/bench/beside.json")]
    pub json: PathBuf,
    /// Drives the gateway that listens there instead of Tidegate; it is to have the fake model as its upstream
    #[arg(long, requires = "upstream_port")]
    pub url: Option<SocketAddr>,
    /// Where that gateway takes OpenAI's chat completions
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    /// That gateway's process, whose CPU and memory are measured
    #[arg(long)]
    pub pid: Option<u32>,
    /// The fake model's port; 0 = any
    #[arg(long, default_value_t = 0)]
    pub upstream_port: u16,
    /// What `cargo bench` passes on, and `cargo test --all-targets` does not
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// Where Tidegate keeps its record, and how surely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Database {
    /// SQLite, shown at once and saved within 100 ms
    Relaxed,
    /// SQLite, saved and then shown
    Strict,
    /// PostgreSQL, `relaxed`
    Postgres,
    /// The same, and a Redis for its replicas
    Cluster,
}

impl Database {
    /// Whether it is a server's.
    pub fn is_server(self) -> bool {
        matches!(self, Self::Postgres | Self::Cluster)
    }

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Strict => "strict",
            Self::Postgres => "postgres",
            Self::Cluster => "cluster",
        }
    }
}
