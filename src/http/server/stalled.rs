//! A reader of one HTTP/2 stream that takes no byte. Flow control is the stream's own there, so the socket goes on
//! while the body is just not asked for more; only somebody beside it can notice.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lifecycle::Lifecycle;

/// The longest piece that is handed on at once: what was handed on stays until the connection ends, taken or not.
pub const PIECE: usize = 16 << 10;

/// A body that is let go once its reader has not asked for more within `stall` of the last piece.
pub struct Stalled {
    inner: Arc<Mutex<Inner>>,
    _over: DropGuard,
}

struct Inner {
    body: Body,
    /// What has come of the body and is not handed on.
    rest: Bytes,
    /// Since when the reader has not taken what it was handed, nor asked for anything.
    untaken: Option<Instant>,
    gone: bool,
}

/// Watches a body, unless it is small.
pub fn watch(body: Body, stall: Duration, lifecycle: &Lifecycle) -> Body {
    if body.size_hint().exact().is_some_and(|size| size <= PIECE as u64) {
        return body;
    }
    let untaken = Some(Instant::now());
    let inner = Arc::new(Mutex::new(Inner { body, rest: Bytes::new(), untaken, gone: false }));
    let over = CancellationToken::new();
    let (watched, ended) = (inner.clone(), over.clone());
    lifecycle.spawn("stalled reader", async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = let_go(&watched, stall) => {}
        }
    });
    Body::new(Stalled { inner, _over: over.drop_guard() })
}

async fn let_go(inner: &Mutex<Inner>, stall: Duration) {
    loop {
        let since = inner.lock().untaken.unwrap_or_else(Instant::now);
        tokio::time::sleep_until(since + stall).await;
        let mut inner = inner.lock();
        if inner.untaken == Some(since) {
            inner.gone = true;
            drop(std::mem::take(&mut inner.body));
            inner.rest = Bytes::new();
            return;
        }
    }
}

impl HttpBody for Stalled {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut inner = self.inner.lock();
        if inner.gone {
            return Poll::Ready(Some(Err(axum::Error::new("the reader takes no byte"))));
        }
        if inner.rest.is_empty() {
            match Pin::new(&mut inner.body).poll_frame(cx).map_ok(Frame::into_data) {
                Poll::Ready(Some(Ok(Ok(data)))) => inner.rest = data,
                Poll::Ready(Some(Ok(Err(other)))) => return Poll::Ready(Some(Ok(other))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    inner.untaken = None;
                    return Poll::Pending;
                }
            }
        }
        inner.untaken = Some(Instant::now());
        let len = inner.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(inner.rest.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.inner.lock();
        inner.rest.is_empty() && inner.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.lock();
        if inner.rest.is_empty() { inner.body.size_hint() } else { SizeHint::default() }
    }
}
