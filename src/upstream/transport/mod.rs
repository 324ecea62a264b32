//! The one seam over HTTP: JSON out, a status and the bytes of a body back.
//!
//! What it never does: follow a redirect, send a request twice, take a proxy from the environment, or end a healthy
//! stream by a total deadline. A connection the provider has closed while it was idle is replaced before anything is
//! sent on it.
//!
//! There are two ways. Calls go over HTTP/1.1, one connection each, on our own client (`raw`): a delta costs it one
//! read and nothing that is copied or kept. With `http2` or a `proxy` in the settings they go through reqwest
//! (`client`), as does everything that is no stream. HTTP/2 is not the default since it puts all calls on one
//! connection, and beyond the provider's limit on streams (RFC 9113, section 5.1.2) they would wait for each other.

mod body;
mod client;
mod envelope;
pub mod raw;

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use reqwest::Client;
use tokio_stream::StreamExt;
use url::Url;

pub use self::body::Body;
use self::raw::Raw;
use self::raw::ticks::Ticks;
use super::settings::Settings;
use super::setup::SetupError;
use crate::domain::secret::Secret;

/// Idle connections kept to one upstream, on either way.
const IDLE_CONNECTIONS: usize = 256;
/// Who we say we are.
const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
/// Of what an upstream says went wrong, so much is logged…
const EXCERPT_BYTES: usize = 2 << 10;
/// …and so long is waited for its body.
const EXCERPT_PATIENCE: Duration = Duration::from_millis(250);
/// A header's value shorter than this is taken for no secret, and may be logged when an upstream says it back.
const SECRET_BYTES: usize = 8;

/// The way to one upstream.
#[derive(Debug)]
pub struct Transport {
    client: Client,
    /// For calls, where HTTP/1.1 without a proxy will do.
    raw: Option<Raw>,
    /// Without a user and a password: those are in the headers.
    base: Url,
    /// Sent along with everything. Those of the settings count over our own.
    headers: HeaderMap,
    secrets: Vec<Secret>,
}

/// The head of an answer, and the rest of it to come.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Unanswered {
    /// What came was not HTTP. Otherwise there was no connection, or it ended before an answer.
    pub garbled: bool,
    /// For the log.
    pub cause: String,
}

impl Unanswered {
    fn garbled(cause: impl Into<String>) -> Self {
        Self { garbled: true, cause: cause.into() }
    }
}

impl Transport {
    /// A way to the upstream with these settings and this key. A connection may take `connect` to open.
    ///
    /// # Errors
    /// The setting that is wrong.
    pub fn new(
        settings: &Settings,
        secret: Option<Secret>,
        connect: Duration,
        ticks: Ticks,
    ) -> Result<Self, SetupError> {
        let base = envelope::base_url(settings)?;
        let client = client::client(settings, &base, connect)?;
        let is_plain = !settings.http2 && settings.proxy.is_none();
        let raw = is_plain.then(|| Raw::new(settings, &base, connect, ticks)).transpose()?;
        let (base, mut headers) = envelope::credentials(&client, base)?;
        headers.extend(envelope::headers(settings, secret.as_ref())?);
        let values = settings.headers.values().filter(|value| value.reveal().len() >= SECRET_BYTES).cloned();
        let secrets = values.chain(secret).collect();
        Ok(Self { client, raw, base, headers, secrets })
    }

    /// Sends JSON to a path below the base URL, for the span that `traceparent` names. Ready with the head of the answer, whatever its status.
    ///
    /// # Errors
    /// When there is no answer. Nothing is sent again.
    pub async fn post(&self, path: &[&str], json: Vec<u8>, traceparent: Option<&str>) -> Result<Reply, Unanswered> {
        let url = self.url(path);
        let mut headers = self.headers("text/event-stream", true);
        if let Some(traceparent) = traceparent.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.entry(crate::trace::HEADER).or_insert(traceparent);
        }
        let Some(raw) = &self.raw else {
            return client::send(self.client.request(Method::POST, url).headers(headers).body(json)).await;
        };
        let (status, headers, body) = raw.post(url, headers, json).await?;
        Ok(Reply { status, headers, body: Body::Raw(body) })
    }

    /// Asks for the JSON at a path below the base URL.
    ///
    /// # Errors
    /// When there is no answer. Nothing is asked again.
    pub async fn get(&self, path: &[&str]) -> Result<Reply, Unanswered> {
        let request = self.client.request(Method::GET, self.url(path));
        client::send(request.headers(self.headers("application/json", false))).await
    }

    /// `text` without this upstream's secrets, and not much of it: for the log.
    pub fn for_log(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.reveal(), "…");
        }
        text.truncate(text.floor_char_boundary(EXCERPT_BYTES));
        text
    }

    /// The start of a body that nobody else will read: for the log.
    pub async fn excerpt(&self, body: &mut Body) -> String {
        // Twice as much as is logged, so that no secret is cut where it would not be known.
        const MOST: usize = 2 * EXCERPT_BYTES;
        let mut read = Vec::new();
        let reading = async {
            while let Some(Ok(bytes)) = body.next().await {
                read.extend_from_slice(&bytes[..bytes.len().min(MOST - read.len())]);
                if read.len() == MOST {
                    break;
                }
            }
        };
        // A body that does not come in time is logged as far as it came.
        let _ = tokio::time::timeout(EXCERPT_PATIENCE, reading).await;
        self.for_log(&String::from_utf8_lossy(&read))
    }

    /// What goes along with a request for an answer of this type.
    fn headers(&self, accept: &'static str, is_json: bool) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 4);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if is_json {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.extend(self.headers.clone());
        headers
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // A base URL that can have no path was refused with the settings.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

#[cfg(test)]
impl Transport {
    /// Sends calls through the general client as well.
    pub fn by_client(&mut self) {
        self.raw = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_upstream_says_back_is_logged_without_secrets() {
        let settings = json!({
            "name": "a", "kind": "openai", "base_url": "http://127.0.0.1:1",
            "headers": {"api-key": "0123456789", "x-team": "tide"},
        });
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let transport =
            Transport::new(&settings, Some("sk-secret".into()), Duration::from_secs(1), Ticks::default()).unwrap();
        assert_eq!(transport.for_log("bad key sk-secret (0123456789) of tide"), "bad key … (…) of tide");
        assert_eq!(transport.for_log(&"é".repeat(10_000)).len(), EXCERPT_BYTES);
    }

    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBdTCCARugAwIBAgIULGoNMAKDdCtHIQeWg2QFWq8vO54wCgYIKoZIzj0EAwIw\n\
DzENMAsGA1UEAwwEdGlkZTAgFw0yNjExMjEwNjExMDBaGA8yMTI2MTAyODA2MTEw\n\
MFowDzENMAsGA1UEAwwEdGlkZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCIF\n\
Ps/LXFTY64SUAyJOLCkY62ZfQros4MZU99oAAsvzHVXhkOXVcwYz8G7b8jUpzjxY\n\
g94rcv7Yw2o2qzS7wuGjUzBRMB0GA1UdDgQWBBSSRjaz53k4VFnQNqGvWdXcsFpE\n\
BzAfBgNVHSMEGDAWgBSSRjaz53k4VFnQNqGvWdXcsFpEBzAPBgNVHRMBAf8EBTAD\n\
AQH/MAoGCCqGSM49BAMCA0gAMEUCIB7WzgiCN+ekFl5rw/lZSeTuA/F+iCvacOIC\n\
NaKhIdTWAiEA1Edr95Ow2Y/4udQbLcTCS5UpVVIJCm0S/aFSGR4WmZg=\n\
-----END CERTIFICATE-----\n\
";

    #[test]
    fn further_authorities_are_read_from_a_file() {
        for (text, is_good) in [(CERTIFICATE, true), ("no certificate", false), ("", false)] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let settings = json!({"name": "a", "kind": "openai", "base_url": "https://h", "ca_file": file.path()});
            let settings: Settings = serde_json::from_value(settings).unwrap();
            let made = Transport::new(&settings, None, Duration::from_secs(1), Ticks::default());
            assert_eq!(
                made.map_err(|error| error.setting().to_owned()).err(),
                (!is_good).then(|| "ca_file".to_owned())
            );
        }
    }

    #[test]
    fn a_path_is_put_below_the_base_url() {
        for (base, expected) in [
            ("http://h", "http://h/a/b"),
            ("http://h/v1/", "http://h/v1/a/b"),
            ("http://h/v1?x=1", "http://h/v1/a/b?x=1"),
        ] {
            let settings = json!({"name": "a", "kind": "openai", "base_url": base});
            let settings: Settings = serde_json::from_value(settings).unwrap();
            let transport = Transport::new(&settings, None, Duration::from_secs(1), Ticks::default()).unwrap();
            assert_eq!(transport.url(&["a", "b"]).as_str(), expected);
        }
    }
}
