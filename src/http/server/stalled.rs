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

/// A body that is let go once its reader has not asked for more within `stall` of the last frame.
pub struct Stalled {
    inner: Arc<Mutex<Inner>>,
    _over: DropGuard,
}

struct Inner {
    body: Body,
    /// When the frame came that the reader has not taken yet.
    untaken: Option<Instant>,
    gone: bool,
}

/// Watches a body of unknown length; one whose end is known holds nothing that matters.
pub fn watch(body: Body, stall: Duration, lifecycle: &Lifecycle) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let inner = Arc::new(Mutex::new(Inner { body, untaken: None, gone: false }));
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
        let frame = Pin::new(&mut inner.body).poll_frame(cx);
        inner.untaken = matches!(frame, Poll::Ready(Some(_))).then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.lock().body.size_hint()
    }
}
