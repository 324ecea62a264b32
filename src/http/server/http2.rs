//! HTTP/2: all of it is hyper's, each stream a task.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

use super::Server;
use super::connection::BUFFER;
use super::stalled;
use super::watched::Watched;
use crate::http::address::Peer;
use crate::lifecycle::Lifecycle;

/// How often a silent HTTP/2 connection is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// Requests that may be open on one HTTP/2 connection.
const H2_STREAMS: u32 = 100;

/// Serves a connection to its end.
pub async fn serve<S>(server: &Server, watched: Watched<S>, peer: Peer) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http2::Builder::new(Spawner(server.lifecycle.clone()));
    http.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
    http.max_concurrent_streams(H2_STREAMS).max_header_list_size(BUFFER as u32).max_send_buf_size(stalled::PIECE);
    let (stall, lifecycle) = (server.reader_stall, server.lifecycle.clone());
    let service = server.app.clone().map_request(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.map(Body::new)
    });
    let service =
        service.map_response(move |answer: Response| answer.map(|body| stalled::watch(body, stall, &lifecycle)));
    let mut connection = pin!(http.serve_connection(TokioIo::new(watched), TowerToHyperService::new(service)));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = server.closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Runs the requests of an HTTP/2 connection as tasks of the server.
#[derive(Clone)]
struct Spawner(Lifecycle);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, task: F) {
        self.0.spawn("request", task);
    }
}
