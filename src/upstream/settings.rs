//! One upstream, as the settings describe it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domain::secret::Secret;

/// Which provider an upstream speaks as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// OpenAI's chat completions, and whatever speaks like it.
    Openai,
    /// Built in, deterministic, offline.
    Demo,
}

impl Kind {
    /// The provider's name in OpenTelemetry's conventions (`gen_ai.provider.name`).
    pub fn provider(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Demo => "demo",
        }
    }
}

/// One upstream. Times are in seconds; an absent one is taken from `[limits]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its name in logs and metrics.
    pub name: String,
    /// Which provider it speaks as.
    pub kind: Kind,
    /// Where it is, such as `https://api.openai.com/v1`; not for `demo`.
    pub base_url: Option<String>,
    /// Its API key.
    pub api_key: Option<Secret>,
    /// The environment variable that holds its API key.
    pub api_key_env: Option<String>,
    /// The file that holds its API key.
    pub api_key_file: Option<PathBuf>,
    /// The models it serves, by our names for them, as globs.
    #[serde(default = "everything")]
    pub models: Vec<String>,
    /// Our model name → theirs.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Headers sent along.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Fields set in the request's body, over our own.
    #[serde(default)]
    pub extra_body: Map<String, Value>,
    /// The proxy to go through; it may hold a password.
    pub proxy: Option<Secret>,
    /// A PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Speak HTTP/2 from the first byte, even without TLS.
    #[serde(default)]
    pub http2: bool,
    /// The longest its connection may take to open.
    pub connect_s: Option<u64>,
    /// The longest it may think before its first token.
    pub first_token_s: Option<u64>,
    /// The longest it may be silent after that.
    pub idle_s: Option<u64>,
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}
