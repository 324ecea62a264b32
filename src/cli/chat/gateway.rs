//! What is asked of the gateway.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;

use crate::cli::Failure;
use crate::domain::ids::ConversationId;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(10);
/// A stream gives a sign of life every `heartbeat_s`, 10 s by default; silence for so long is a dead connection.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest line of an answer that is no problem which is shown, in bytes.
const PLAIN: usize = 200;
/// The longest line there can be; a snapshot holds a whole answer.
const LINE: usize = 256 << 20;

/// A gateway, and the conversation there.
pub struct Gateway {
    client: Client,
    url: Url,
    conversation: Option<String>,
}

/// Why there is no stream.
pub enum Failed {
    /// It would be refused again; the reason.
    Refused(String),
    /// It may be granted later, not before so much time.
    Passing(Duration),
    /// Nobody answers there.
    Unreached,
}

/// A key under which something is asked once.
pub fn fresh_key() -> String {
    format!("chat-{:032x}", fastrand::u128(..))
}

impl Gateway {
    /// A gateway at its URL, and a conversation of it; a new one if there is none yet. It is shown `token` with every request.
    pub fn new(url: Url, conversation: Option<String>, token: Option<HeaderValue>) -> Result<Self, Failure> {
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(Failure::new("`--url`: must begin with http:// or https://"));
        }
        // A question goes where it was sent, and nowhere else.
        let headers = token.map(|token| (AUTHORIZATION, token)).into_iter().collect();
        let client = Client::builder().redirect(Policy::none()).referer(false).default_headers(headers);
        let client = client.connect_timeout(CONNECT).read_timeout(SILENCE).build().map_err(Failure::new)?;
        Ok(Self { client, url, conversation })
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The conversation, once there is one.
    pub fn conversation(&self) -> Option<&str> {
        self.conversation.as_deref()
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        self.client.request(method, url)
    }

    /// Opens the events of a question's turn after `seq`: of the turn, if it is known; else the question is asked, under
    /// `key`.
    pub async fn open(&mut self, question: &str, key: &str, turn: Option<&str>, seq: u64) -> Result<Lines, Failed> {
        let request = if let Some(turn) = turn {
            self.request(Method::GET, &["turns", turn, "events"]).query(&[("after", seq)])
        } else {
            let conversation = self.make(key).await?;
            let path = ["conversations", &conversation, "messages"];
            self.request(Method::POST, &path).header("idempotency-key", key).json(&json!({"content": question}))
        };
        let response = answered(request.header(ACCEPT, "application/x-ndjson")).await?;
        let turn = response.headers().get("turn-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok(Lines { response, turn, rest: Vec::new(), read: 0 })
    }

    /// The conversation, made if need be.
    async fn make(&mut self, key: &str) -> Result<String, Failed> {
        if let Some(id) = &self.conversation {
            return Ok(id.clone());
        }
        let request = self.request(Method::POST, &["conversations"]);
        let response =
            answered(request.header("idempotency-key", format!("{key}-conversation")).json(&json!({}))).await?;
        let made: Value = response.json().await.map_err(|_| Failed::Passing(Duration::ZERO))?;
        // It is offered for pasting into a shell.
        let id = made["id"].as_str().filter(|id| ConversationId::from(*id).uuid().is_some());
        let id = id.ok_or_else(|| Failed::Refused("this is no gateway".to_owned()))?;
        Ok(self.conversation.insert(id.to_owned()).clone())
    }

    /// Stops a turn; how that came out is told by its events.
    pub async fn stop(&self, turn: &str) {
        let _told_by_the_events = self.request(Method::POST, &["turns", turn, "stop"]).send().await;
    }
}

/// Sends a request, and sorts what comes instead of 2xx.
async fn answered(request: RequestBuilder) -> Result<Response, Failed> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_builder() => return Err(Failed::Refused(error.to_string())),
        Err(error) => {
            return Err(match untrusted(&error) {
                Some(why) => Failed::Refused(why),
                None if error.is_connect() => Failed::Unreached,
                None => Failed::Passing(Duration::ZERO),
            });
        }
    };
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(Failed::Passing(Duration::from_secs(after.unwrap_or(0))));
    }
    let said = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&said).unwrap_or_default();
    // What is no problem may be of somebody before the gateway: a line of it says more than the status alone.
    let line = said.lines().next().filter(|line| line.len() <= PLAIN && !line.starts_with('<')).unwrap_or_default();
    let detail =
        problem["detail"].as_str().map_or_else(|| format!("the gateway answered {status}. {line}"), str::to_owned);
    Err(Failed::Refused(detail.trim_end().to_owned()))
}

/// Why the other side is not who it should be, if that is what went wrong: trying again would not help.
fn untrusted(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    let tls = loop {
        let error = cause?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            break tls;
        }
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    };
    let rustls::Error::InvalidCertificate(_) = tls else { return Some(format!("no TLS with this address: {tls}")) };
    Some(format!("{tls}; SSL_CERT_FILE may name a file of further authorities, in PEM"))
}

/// The events of a turn, as lines come.
pub struct Lines {
    response: Response,
    turn: Option<String>,
    rest: Vec<u8>,
    /// How far `rest` has been looked through for a line's end.
    read: usize,
}

impl Lines {
    /// The turn they are of.
    pub fn turn_id(&self) -> Option<&str> {
        self.turn.as_deref()
    }

    /// The next event; nothing when the connection is over, or what comes is no event. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest[self.read..]) {
                let line: Vec<u8> = self.rest.drain(..=self.read + end).collect();
                self.read = 0;
                return serde_json::from_slice(&line).ok();
            }
            self.read = self.rest.len();
            if self.rest.len() > LINE {
                return None;
            }
            self.rest.extend_from_slice(&self.response.chunk().await.ok()??);
        }
    }
}
