//! One connection, from its first byte to its last.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

use super::sniff::{Version, sniff};
use super::stalled;
use super::watched::Watched;
use super::{Server, http1};
use crate::lifecycle::Lifecycle;

/// The longest a client may take to send the head of a request, from the end of the one before it.
pub const HEAD: Duration = Duration::from_secs(30);

/// The largest head of a request, beyond which comes the plain 431 of the HTTP layer (it looks between two reads, so
/// that one of up to twice as much may pass); and what may wait in our own
/// memory for a reader who lags, beyond which its body is asked for no more. In bytes; hyper has one bound for both.
pub const BUFFER: usize = 64 << 10;

/// How often a silent HTTP/2 connection is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// Requests that may be open on one HTTP/2 connection.
const H2_STREAMS: u32 = 256;

/// Serves a connection to its end. Dropping this drops every answer on it.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(server: &Server, stream: S) {
    let mut watched = Watched::new(stream, server.reader_stall);
    let version = tokio::select! {
        () = server.closing.cancelled() => return,
        sniffed = tokio::time::timeout(HEAD, sniff(&mut watched)) => match sniffed {
            Ok(Ok(version)) => version,
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let ended = match version {
        Version::Http1 => http1::serve(server, watched).await,
        Version::Http2 => {
            let mut http = http2::Builder::new(Spawner(server.lifecycle.clone()));
            http.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
            http.max_concurrent_streams(H2_STREAMS).max_header_list_size(BUFFER as u32).max_send_buf_size(BUFFER);
            let (stall, lifecycle) = (server.reader_stall, server.lifecycle.clone());
            let service = server.app.clone();
            let service = service.map_request(|request: http::Request<Incoming>| request.map(Body::new));
            let service = service
                .map_response(move |answer: Response| answer.map(|body| stalled::watch(body, stall, &lifecycle)));
            // Boxed: it is large, and most connections are not this one.
            let service = TowerToHyperService::new(service);
            let mut connection = Box::pin(http.serve_connection(TokioIo::new(watched), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = server.closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            ended.map_err(Into::into)
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Runs the requests of an HTTP/2 connection as tasks of the server.
#[derive(Clone)]
struct Spawner(Lifecycle);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, task: F) {
        self.0.spawn("request", task);
    }
}
