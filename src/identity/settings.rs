//! What an application is, as the settings say it: `[[applications]]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::domain::quota::Quotas;
use crate::domain::secret::Secret;

/// An application (tenant).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Application {
    /// Its name; no two have the same.
    pub name: String,
    /// Whether visitors may use it.
    pub visitors: bool,
    /// What signs its users' tokens with HS256.
    pub jwt_secret: Option<Secret>,
    /// A variable that holds it.
    pub jwt_secret_env: Option<String>,
    /// A file that holds it.
    pub jwt_secret_file: Option<PathBuf>,
    /// Where the keys are that sign its users' tokens (RFC 7517).
    pub jwks_url: Option<String>,
    /// Who must have issued a token (`iss`).
    pub jwt_issuer: Option<String>,
    /// For whom it must be (`aud`).
    pub jwt_audience: Option<String>,
    /// For how many days a conversation is kept in which nothing happens; 0: for ever.
    pub retention_days: u64,
    /// What of it may be used.
    pub limits: Quotas,
    /// Its widgets.
    pub widgets: Vec<Widget>,
}

impl Default for Application {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            visitors: true,
            jwt_secret: None,
            jwt_secret_env: None,
            jwt_secret_file: None,
            jwks_url: None,
            jwt_issuer: None,
            jwt_audience: None,
            retention_days: 0,
            limits: Quotas::default(),
            widgets: Vec::new(),
        }
    }
}

/// A widget: a public key, and the pages it stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Widget {
    /// Its key: `wk_…`. No secret: every visitor's browser knows it.
    pub key: String,
    /// Exact origins of the pages it may be used from.
    pub origins: Vec<String>,
    /// The models its visitors may name, as globs; empty: all.
    pub models: Vec<String>,
}
