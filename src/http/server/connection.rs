//! One connection, from its first byte to its last.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::sniff::{Version, sniff};
use super::watched::Watched;
use super::{Server, http1, http2};
use crate::http::address::Peer;

/// The longest a client may take to send the head of a request, from the end of the one before it.
pub const HEAD: Duration = Duration::from_secs(30);

/// The largest head of a request, in bytes, beyond which comes the plain 431 of the HTTP layer (it looks between two
/// reads, so that one of up to twice as much may pass). Also what may wait in our own memory for a reader who lags, beyond
/// which its body is asked for no more (hyper has one bound for both), and what is kept of requests that come too early,
/// while a stream is told.
pub const BUFFER: usize = 64 << 10;

/// Serves a connection with this peer to its end. Dropping this drops every answer on it.
pub async fn serve<S>(server: &Server, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut watched = Watched::new(stream, server.reader_stall);
    let version = tokio::select! {
        () = server.closing.cancelled() => return,
        sniffed = tokio::time::timeout(HEAD, sniff(&mut watched)) => match sniffed {
            Ok(Ok(version)) => version,
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let ended = match version {
        Version::Http1 => http1::serve(server, watched, peer).await,
        // Boxed: it is large, and most connections are not this one.
        Version::Http2 => Box::pin(http2::serve(server, watched, peer)).await.map_err(Into::into),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
