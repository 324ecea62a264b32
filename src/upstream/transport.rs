//! The one seam over the HTTP client: JSON out, a status and a stream of bytes back.
//!
//! What it never does: follow a redirect, send a request twice, take a proxy from the environment, or end a healthy
//! stream by a total deadline. Calls go over HTTP/1.1, one connection each, unless `http2` is set: HTTP/2 would put
//! them all on one connection, and beyond the provider's limit on streams (RFC 9113, section 5.1.2) they would wait
//! for each other. A connection the provider has closed while it was idle is replaced before anything is sent on it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body::Body as _;
use reqwest::{Certificate, Client, Proxy};
use tokio_stream::{Stream, StreamExt};
use url::Url;

use super::secret::Secret;
use super::settings::Settings;
use super::setup::SetupError;

/// Idle connections kept to one upstream.
const IDLE_CONNECTIONS: usize = 256;
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
    base: Url,
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

/// A body on its way. Dropping it ends the request.
#[derive(Debug)]
pub struct Body(reqwest::Body);

impl Transport {
    /// A way to the upstream with these settings and this key. A connection may take `connect` to open.
    pub fn new(settings: &Settings, secret: Option<Secret>, connect: Duration) -> Result<Self, SetupError> {
        let base = base_url(settings)?;
        let headers = headers(settings, secret.as_ref())?;
        let client = client(settings, &base, connect)?;
        let values = settings.headers.values().filter(|value| value.reveal().len() >= SECRET_BYTES).cloned();
        let secrets = values.chain(secret).collect();
        Ok(Self { client, base, headers, secrets })
    }

    /// Sends JSON to a path below the base URL. Ready with the head of the answer, whatever its status.
    pub async fn post(&self, path: &[&str], json: Vec<u8>) -> Result<Reply, Unanswered> {
        let request = self.client.request(Method::POST, self.url(path));
        let request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "text/event-stream");
        self.send(request.body(json)).await
    }

    /// Asks for the JSON at a path below the base URL.
    pub async fn get(&self, path: &[&str]) -> Result<Reply, Unanswered> {
        self.send(self.client.request(Method::GET, self.url(path)).header(ACCEPT, "application/json")).await
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

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // A base URL that can have no path was refused by `base_url`.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, Unanswered> {
        // `headers` replaces, so that a header of the settings counts over our own.
        let response = request.headers(self.headers.clone()).send().await.map_err(unanswered)?;
        let (head, body) = http::Response::from(response).into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body: Body(body) })
    }
}

/// The bytes as they come, up to the body's own end; an error where it broke off before that.
impl Stream for Body {
    type Item = Result<Bytes, Unanswered>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(unanswered(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => Some(Ok(bytes)),
                    // Trailers say nothing that we read.
                    Err(_) => continue,
                },
            });
        }
    }
}

fn unanswered(error: reqwest::Error) -> Unanswered {
    // The URL may hold a password.
    let error = error.without_url();
    let mut cause = error.to_string();
    let mut garbled = false;
    let mut next = error.source();
    while let Some(error) = next {
        garbled |= error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        cause = format!("{cause}: {error}");
        next = error.source();
    }
    Unanswered { garbled, cause }
}

fn base_url(settings: &Settings) -> Result<Url, SetupError> {
    let wrong = |problem: &str| SetupError::new("base_url", problem);
    let text = settings.base_url.as_deref().ok_or_else(|| wrong("is missing, such as https://api.openai.com/v1"))?;
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with http:// or https://"));
    }
    Ok(url)
}

fn headers(settings: &Settings, secret: Option<&Secret>) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    if let Some(secret) = secret {
        let value = sensitive(&format!("Bearer {}", secret.reveal()))
            .ok_or_else(|| SetupError::new("api_key", "holds a character that no header can carry"))?;
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &settings.headers {
        let wrong = |problem: &str| SetupError::new(format!("headers.{name}"), problem);
        let key: HeaderName = name.parse().map_err(|_| wrong("is no header name"))?;
        let value = sensitive(value.reveal()).ok_or_else(|| wrong("holds a character that no header can carry"))?;
        headers.insert(key, value);
    }
    Ok(headers)
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn client(settings: &Settings, base: &Url, connect: Duration) -> Result<Client, SetupError> {
    let mut builder = Client::builder()
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .no_proxy();
    builder = if settings.http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
    if let Some(proxy) = &settings.proxy {
        let proxy = Proxy::all(proxy.reveal()).map_err(|_| SetupError::new("proxy", "is no URL of a proxy"))?;
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &settings.ca_file {
        let wrong = |problem: String| SetupError::new("ca_file", problem);
        let pem = std::fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(wrong(format!("{} holds no PEM certificate", path.display())));
        }
        builder = builder.tls_certs_merge(certificates);
    } else if base.scheme() == "http" && settings.proxy.is_none() {
        // Nothing will be verified: the machine need not have any certificates.
        builder = builder.tls_certs_only([]);
    }
    let setting = if settings.ca_file.is_some() { "ca_file" } else { "base_url" };
    builder.build().map_err(|error| {
        let Unanswered { cause, .. } = unanswered(error);
        SetupError::new(setting, format!("no HTTP client can be made for it: {cause}"))
    })
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
        let transport = Transport::new(&settings, Some("sk-secret".into()), Duration::from_secs(1)).unwrap();
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
            let made = Transport::new(&settings, None, Duration::from_secs(1));
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
            let transport = Transport::new(&settings, None, Duration::from_secs(1)).unwrap();
            assert_eq!(transport.url(&["a", "b"]).as_str(), expected);
        }
    }
}
