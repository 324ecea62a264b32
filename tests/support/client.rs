//! A client of the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http1::{self, Exchange, Outgoing};
use super::{Stream, within};

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One line each.
    Ndjson,
    /// Server-sent events.
    Sse,
}

impl Encoding {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ndjson, Self::Sse];

    /// What goes into `Accept`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }
}

/// A request that is put together by hand.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers besides the client's own.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// The socket's receive buffer in bytes; the system's choice when absent.
    pub window: Option<u32>,
}

impl Request {
    /// A GET.
    pub fn get(target: &str) -> Self {
        Self { method: "GET".into(), target: target.into(), headers: Vec::new(), body: None, window: None }
    }

    /// A POST of JSON.
    pub fn post(target: &str, body: &Value) -> Self {
        let body = Some(body.to_string().into_bytes());
        Self { method: "POST".into(), body, ..Self::get(target) }.header("content-type", "application/json")
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks for this encoding.
    pub fn accept(self, encoding: Encoding) -> Self {
        self.header("accept", encoding.media_type())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON, if the status is this one; otherwise the test fails with the body.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

/// A client.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    http: reqwest::Client,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client of the gateway there.
    pub fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { address, http: http.build().unwrap(), headers: Vec::new() }
    }

    /// The same client; whole answers come over HTTP/2 without TLS (h2c).
    pub fn over_http2(&self) -> Self {
        let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
        Self { http, ..self.clone() }
    }

    /// The same client, sending a header with everything.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// Where it asks.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends, and reads the whole answer.
    pub async fn send(&self, request: Request) -> Reply {
        within(&format!("{} {}", request.method, request.target), self.try_send(request)).await.unwrap()
    }

    /// The same, where the connection may fail.
    pub async fn try_send(&self, request: Request) -> Result<Reply, reqwest::Error> {
        let url = format!("http://{}{}", self.address, request.target);
        let mut builder = self.http.request(request.method.parse().unwrap(), url);
        for (name, value) in self.headers.iter().chain(&request.headers) {
            builder = builder.header(name, value);
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let answer = builder.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Reply { status, headers, bytes: answer.bytes().await?.to_vec() })
    }

    /// GET, with `Accept: application/json`.
    pub async fn get(&self, target: &str) -> Reply {
        self.send(Request::get(target).header("accept", "application/json")).await
    }

    /// POST of JSON, with `Accept: application/json`.
    pub async fn post(&self, target: &str, body: &Value) -> Reply {
        self.send(Request::post(target, body).header("accept", "application/json")).await
    }

    /// Sends, and reads the head of the answer: the body comes event by event, or not at all.
    pub async fn open(&self, request: Request) -> Stream {
        within(&format!("{} {}", request.method, request.target), self.try_open(request)).await.unwrap()
    }

    /// The same, where the connection may fail.
    pub async fn try_open(&self, request: Request) -> std::io::Result<Stream> {
        let headers: Vec<_> = self.headers.iter().chain(&request.headers).cloned().collect();
        let (method, target, window) = (&*request.method, &*request.target, request.window);
        let out = Outgoing { method, target, headers: &headers, body: request.body.as_deref(), window };
        Ok(Stream::new(Exchange::open(self.address, &out).await?, target.contains("events=named")))
    }

    /// Sends and leaves without reading a byte, after so long.
    pub async fn knock(&self, request: Request, linger: Duration) {
        let headers: Vec<_> = self.headers.iter().chain(&request.headers).cloned().collect();
        let (method, target) = (&*request.method, &*request.target);
        let out = Outgoing { method, target, headers: &headers, body: request.body.as_deref(), window: None };
        let socket = http1::send(self.address, &out).await.unwrap();
        if !linger.is_zero() {
            tokio::time::sleep(linger).await;
        }
        drop(socket);
    }

    /// Sends these bytes as they are, and reads what comes until the close.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.address).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            let mut answer = Vec::new();
            // A reset after the answer is no less of an answer.
            let _ = socket.read_to_end(&mut answer).await;
            answer
        };
        within("the answer to raw bytes", exchange).await
    }

    /// A new conversation's id.
    pub async fn conversation(&self) -> String {
        id(&self.post("/v1/conversations", &json!({})).await.expect(201)["id"])
    }

    /// Asks in a conversation, and reads NDJSON.
    pub async fn ask(&self, conversation: &str, content: &str) -> Stream {
        self.ask_as(Encoding::Ndjson, conversation, &json!({ "content": content })).await
    }

    /// Asks in a conversation; the body is the test's.
    pub async fn ask_as(&self, encoding: Encoding, conversation: &str, body: &Value) -> Stream {
        self.open(Request::post(&format!("/v1/conversations/{conversation}/messages"), body).accept(encoding)).await
    }

    /// Asks in a conversation and waits for the answer as JSON.
    pub async fn ask_whole(&self, conversation: &str, content: &str) -> Reply {
        self.post(&format!("/v1/conversations/{conversation}/messages"), &json!({ "content": content })).await
    }

    /// A turn's events after a cursor.
    pub async fn events(&self, encoding: Encoding, turn: &str, after: u64) -> Stream {
        self.open(Request::get(&format!("/v1/turns/{turn}/events?after={after}")).accept(encoding)).await
    }

    /// The newest messages of a conversation, oldest first.
    pub async fn messages(&self, conversation: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/conversations/{conversation}/messages?limit=100")).await.expect(200);
        page["data"].as_array().cloned().unwrap_or_else(|| panic!("no list: {page}"))
    }

    /// The newest message of a conversation.
    pub async fn answer(&self, conversation: &str) -> Value {
        self.messages(conversation).await.pop().expect("a message")
    }

    /// A turn.
    pub async fn turn(&self, turn: &str) -> Value {
        self.get(&format!("/v1/turns/{turn}")).await.expect(200)
    }

    /// Waits until a turn has ended.
    pub async fn ended(&self, turn: &str) -> Value {
        super::eventually("a turn to end", async || {
            let turn = self.turn(turn).await;
            (!matches!(turn["status"].as_str(), Some("queued" | "running"))).then_some(turn)
        })
        .await
    }

    /// How many readers the gateway counts: streams, feeds, and requests that wait for an answer.
    pub async fn readers(&self) -> usize {
        let metrics = self.send(Request::get("/metrics")).await;
        let text = String::from_utf8_lossy(&metrics.bytes);
        let count = text.lines().find_map(|line| line.strip_prefix("tidegate_readers ")?.parse().ok());
        count.unwrap_or_else(|| panic!("no count of readers: {text}"))
    }

    /// Stops a turn.
    pub async fn stop(&self, turn: &str) -> Reply {
        self.post(&format!("/v1/turns/{turn}/stop"), &json!({})).await
    }
}

fn id(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}
