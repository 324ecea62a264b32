//! What of a body nobody read. A refusal sent while the client still sends is lost with the connection, so the rest
//! is taken off first, within bounds.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

/// The longest that taking off the rest may last.
const DRAIN: Duration = Duration::from_secs(10);

/// A hold on a request's body that outlasts the handler.
#[derive(Debug)]
pub struct Unread {
    body: Arc<Mutex<Body>>,
    started: Arc<AtomicBool>,
    waits: bool,
}

/// The body as the handler has it.
struct Lent {
    body: Arc<Mutex<Body>>,
    started: Arc<AtomicBool>,
}

/// Lends the body to the handler; nothing when there is none.
pub fn lend(request: &mut Request) -> Option<Unread> {
    if request.body().is_end_stream() {
        return None;
    }
    let waits = request.headers().contains_key(EXPECT);
    let body = Arc::new(Mutex::new(std::mem::take(request.body_mut())));
    let started = Arc::new(AtomicBool::new(false));
    *request.body_mut() = Body::new(Lent { body: body.clone(), started: started.clone() });
    Some(Unread { body, started, waits })
}

impl Unread {
    /// Takes off what is left, at most `most` bytes. Says whether the body came to its end; where it did not, the
    /// connection is of no further use.
    ///
    /// Not even begun when the client waits to be told to send (`Expect: 100-continue`), or says that there is more.
    pub async fn drain(self, most: usize) -> bool {
        let mut body = std::mem::take(&mut *self.body.lock());
        if body.is_end_stream() {
            return true;
        }
        let waits = self.waits && !self.started.load(Ordering::Relaxed);
        if waits || body.size_hint().lower() > most as u64 {
            return false;
        }
        let rest = async {
            let mut taken = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > most {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DRAIN, rest).await.unwrap_or(false)
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.started.store(true, Ordering::Relaxed);
        Pin::new(&mut *self.body.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.lock().size_hint()
    }
}
