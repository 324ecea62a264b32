//! A collector of OpenTelemetry: takes spans by OTLP over HTTP, and keeps them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1;
use prost::Message;
use tokio::net::TcpListener;

use super::{Task, eventually};

/// A span that came.
#[derive(Clone, Debug)]
pub struct Span {
    /// What it says of itself.
    pub span: v1::Span,
    /// The service it came from.
    pub service: String,
}

impl Span {
    /// The trace it is in, in hex.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its id, in hex.
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The span above it, in hex; empty where there is none.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// One of its attributes, as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        attribute(&self.span.attributes, key)
    }

    /// From its start to its end, in milliseconds.
    pub fn millis(&self) -> u64 {
        (self.span.end_time_unix_nano - self.span.start_time_unix_nano) / 1_000_000
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    let AnyValue { value } = found.value.clone()?;
    Some(match value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other @ (Value::ArrayValue(_)
        | Value::KvlistValue(_)
        | Value::BytesValue(_)
        | Value::StringValueStrindex(_)) => {
            panic!("an attribute of another type: {other:?}")
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// The collector. Dropped, it is gone.
pub struct Collector {
    address: SocketAddr,
    spans: Spans,
    asked: Arc<AtomicUsize>,
    _server: Task<()>,
}

impl Collector {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Spans::default();
        let app = axum::Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        let server = Task::start(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, spans, asked: Arc::default(), _server: server }
    }

    /// One that sends whoever comes to the other, and takes nothing itself.
    pub async fn before(other: &Self) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, target) = (listener.local_addr().unwrap(), format!("{}/v1/traces", other.url()));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let away = post(async move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Redirect::temporary(&target)
        });
        let app = axum::Router::new().route("/v1/traces", away);
        let server = Task::start(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, spans: Spans::default(), asked, _server: server }
    }

    /// How often it has sent somebody away.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    /// Waits until so many have come.
    pub async fn wait_for(&self, count: usize) -> Vec<Span> {
        eventually("spans to come", async || Some(self.spans()).filter(|spans| spans.len() >= count)).await
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = spans.lock().unwrap();
    for resource in request.resource_spans {
        let service = attribute(&resource.resource.unwrap_or_default().attributes, "service.name").unwrap_or_default();
        let came = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(came.map(|span| Span { span, service: service.clone() }));
    }
    StatusCode::OK
}
