//! What the HTTP floor is told.

use std::time::Duration;

use url::Url;

use super::address::Proxies;
use super::cors::Origins;
use super::server::certificate::Certificate;

/// What the HTTP floor is told. The bounds have the names and defaults of [`crate::domain::limits::Limits`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients find the gateway; its host is one we answer to.
    pub public_url: Url,
    /// Whose pages may call.
    pub origins: Origins,
    /// The proxies whose word on who the client is counts.
    pub proxies: Proxies,
    /// Whether anybody may call; then only under a loopback name or [`Settings::public_url`]'s.
    pub auth_off: bool,
    /// The longest request body.
    pub max_body_bytes: usize,
    /// A reader that takes no byte for so long is gone.
    pub reader_stall: Duration,
    /// Speaks TLS with it; without one, plain HTTP.
    pub certificate: Option<Certificate>,
    /// Open connections; one more is told 503 `too_many_connections`. See [`super::server::connections_allowed`].
    pub max_connections: usize,
    /// Between the word to stop and the closing of the listener.
    pub drain_delay: Duration,
    /// From the word to stop until open connections are dropped.
    pub grace: Duration,
}
