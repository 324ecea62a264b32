//! The kit through the public door: a small router of its own, a server on port 0, bytes in, bytes out.

mod answers;
mod connections;
mod refusals;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::accept::{Encoding, negotiate};
use super::address::{Address, Proxies};
use super::body::Json;
use super::cors::Origins;
use super::guard::Guard;
use super::problem::Problem;
use super::query::{Id, Query};
use super::settings::Settings;
use super::{routes, server};
use crate::domain::clock::Clock;
use crate::domain::ids::TurnId;
use crate::lifecycle::Lifecycle;
use crate::meter::Meter;

/// Catches a hang, nothing else.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server under test; it must end with its test.
struct House {
    address: SocketAddr,
    lifecycle: Lifecycle,
    /// A permit for every stream that was let go.
    gone: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    content: String,
    #[serde(default, rename = "limit")]
    _limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    limit: Option<u32>,
}

/// Tells that the stream which holds it was dropped.
struct Told(Arc<Semaphore>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

fn settings() -> Settings {
    Settings {
        public_url: "http://gate.example".parse().unwrap(),
        origins: Origins::new(&["https://shop.example".to_owned()], None),
        proxies: Proxies::new(&["127.0.0.1".to_owned()]),
        auth_off: true,
        max_body_bytes: 1000,
        reader_stall: Duration::from_secs(60),
        certificate: None,
        max_connections: 100,
        drain_delay: Duration::ZERO,
        grace: Duration::from_secs(30),
    }
}

/// One line at once, then `more` as long as the reader takes it.
fn stream(gone: &Arc<Semaphore>, more: Option<&'static [u8]>) -> Response {
    let told = Told(gone.clone());
    let first = futures::stream::iter([Bytes::from_static(b"first\n")]);
    let rest = futures::stream::unfold(told, move |told| async move {
        match more {
            Some(bytes) => Some((Bytes::from_static(bytes), told)),
            None => futures::future::pending().await,
        }
    });
    Body::from_stream(first.chain(rest).map(Ok::<_, std::io::Error>)).into_response()
}

fn resources(gone: Arc<Semaphore>) -> Router {
    let (quiet, flood) = (gone.clone(), gone);
    Router::new()
        .route("/v1/echo", post(async |Json { value, parsed }: Json<Payload>| format!("{}|{parsed}", value.content)))
        .route("/v1/optional", post(async |body: Option<Json<Payload>>| body.is_some().to_string()))
        .route(
            "/v1/turns/{id}",
            get(async |Id(id): Id<TurnId>, Query(page): Query<Page>| format!("{id} {:?}", page.limit)),
        )
        .route(
            "/v1/pick",
            get(async |headers: HeaderMap| negotiate(&headers, &Encoding::ALL).map(|chosen| chosen.content_type)),
        )
        .route("/v1/address", get(async |Extension(Address(address)): Extension<Address>| address.to_string()))
        .route("/v1/boom", get(async || -> Problem { panic!("a secret") }))
        .route("/v1/unread", post(async || "thanks"))
        .route(
            "/v1/chat/stream",
            routes::no_head("GET, POST", get(async move || stream(&quiet, None)).post(async || "posted")),
        )
        .route("/v1/flood", get(async move || stream(&flood, Some(&[b'x'; 4096]))))
        .route("/healthz", get(async || "ok"))
}

impl House {
    async fn open() -> Self {
        Self::with(settings()).await
    }

    async fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lifecycle, gone) = (Lifecycle::new(), Arc::new(Semaphore::new(0)));
        let app = routes::assemble(Guard::new(&settings, Clock::System, Meter::default()), resources(gone.clone()));
        let (clock, within) = (Clock::System, lifecycle.clone());
        lifecycle.spawn("server", async move {
            server::serve(listener, app, &settings, clock, Meter::default(), within).await
        });
        Self { address, lifecycle, gone }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Waits until a stream was let go.
    async fn let_go(&self) {
        within(self.gone.acquire()).await.unwrap().forget();
    }

    /// Ends the server, and fails if anything of it is left.
    async fn close(self) {
        self.lifecycle.soft().cancel();
        self.lifecycle.hard().cancel();
        assert!(self.lifecycle.finished(PATIENCE).await, "a task was left behind");
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Reads until `text` has come.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let mut bytes = [0; 1024];
        let len = within(stream.read(&mut bytes)).await.unwrap();
        assert!(len > 0, "closed after {seen:?}");
        seen.push_str(std::str::from_utf8(&bytes[..len]).unwrap());
    }
    seen
}
