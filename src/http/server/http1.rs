//! HTTP/1.0 and 1.1: hyper reads the requests and writes the answers, but for the rest of a stream, which goes to the
//! socket by itself (`carry.rs`): for a stream hyper's buffers are most of its memory, and its passes a good part of
//! what a delta costs.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use bytes::BytesMut;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;

use super::Server;
use super::carry::carry;
use super::connection::{BUFFER, HEAD};
use super::watched::Watched;
use crate::http::address::Peer;
use crate::http::stream::{Frames, Handover};
use crate::seldom::Seldom;

/// Serves a connection to its end.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    server: &Server,
    mut watched: Watched<S>,
    peer: Peer,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    loop {
        let Some((frames, io, mut early)) = requests(server, watched, peer).await? else { return Ok(()) };
        watched = io;
        carry(&mut watched, frames, &mut early).await?;
        if server.closing.is_cancelled() {
            return Ok(poll_fn(|cx| Pin::new(&mut watched).poll_shutdown(cx)).await?);
        }
        watched.put_back(&early);
    }
}

/// A stream whose first frames are told, its connection, and what was read too early.
type Handed<S> = (Box<Frames>, Watched<S>, BytesMut);

/// Answers requests, up to and with the first frames of a stream, or to the connection's end. From the word to close
/// on, it takes no further request.
async fn requests<S>(server: &Server, watched: Watched<S>, peer: Peer) -> hyper::Result<Option<Handed<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let blocked = watched.blocked();
    let current = Arc::new(Mutex::new(None::<Handover>));
    let (app, offered) = (server.app.clone(), current.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (app, offered, lasting) = (app.clone(), offered.clone(), is_lasting(&request));
        async move {
            let response = app.oneshot(request.map(Body::new)).await?;
            if lasting && !response.headers().contains_key(CONNECTION) {
                let handover = response.extensions().get::<Handover>().cloned();
                *offered.lock() = handover.inspect(Handover::want);
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    // Boxed: it is large, and gone while a stream is carried.
    let mut connection = Box::new(http.serve_connection(TokioIo::new(watched), service));
    let mut closing = Some(Seldom::new(server.closing.cancelled()));
    let frames = poll_fn(|cx| {
        if let Some(word) = &mut closing
            && Pin::new(word).poll(cx).is_ready()
        {
            closing = None;
            Pin::new(&mut *connection).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(ended.map(|()| None));
        }
        // All that hyper had to say must be with the kernel.
        let handed = if blocked.get() { None } else { current.lock().as_ref().and_then(Handover::take) };
        handed.map_or(Poll::Pending, |frames| Poll::Ready(Ok(Some(frames))))
    });
    let Some(frames) = frames.await? else { return Ok(None) };
    let parts = connection.into_parts();
    // A copy: what is read early is mostly nothing, and hyper's room for it 8 KiB.
    Ok(Some((frames, parts.io.into_inner(), BytesMut::from(&*parts.read_buf))))
}

/// Whether its answer may be chunked, and the connection goes on after it, as it does unless something else is asked
/// (RFC 9112, section 9.3). After a request with both `Transfer-Encoding` and `Content-Length` it must not (section 6.1),
/// and hyper, which sees to that, does not show the second: whatever has the first stays with hyper.
fn is_lasting<B>(request: &Request<B>) -> bool {
    let goes_on = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"keep-alive");
    request.version() == Version::HTTP_11
        && request.method() != Method::HEAD
        && !request.headers().contains_key(TRANSFER_ENCODING)
        && request.headers().get_all(CONNECTION).iter().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_lasts_unless_something_else_is_asked() {
        let request = || Request::get("/").header("host", "localhost");
        let lasts = |request: http::request::Builder| is_lasting(&request.body(()).unwrap());
        assert!(lasts(request()));
        assert!(lasts(request().header(CONNECTION, "Keep-Alive")));
        assert!(!lasts(request().header(CONNECTION, "close")));
        assert!(!lasts(request().header(CONNECTION, "keep-alive").header(CONNECTION, "close")));
        assert!(!lasts(request().header(CONNECTION, "keep-alive, upgrade")));
        assert!(!lasts(request().header(TRANSFER_ENCODING, "chunked")));
        assert!(!lasts(request().version(Version::HTTP_10)));
        assert!(!lasts(request().method(Method::HEAD)));
    }
}
