//! A body on its way, by either way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use tokio_stream::Stream;

use super::Unanswered;
use super::client::unanswered;
use super::raw::body::RawBody;

/// A body on its way. Dropping it ends the request.
#[derive(Debug)]
pub enum Body {
    /// On a connection of our own.
    Raw(RawBody),
    /// From the general client.
    Client(reqwest::Body),
}

impl Body {
    /// Lends what comes next to `take`, and gives back what that says; `None` at the body's own end.
    ///
    /// # Errors
    /// Where it broke off before its end.
    pub fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]) -> R,
    ) -> Poll<Option<Result<R, Unanswered>>> {
        let client = match self {
            Self::Raw(raw) => return raw.poll_read(cx, take),
            Self::Client(client) => client,
        };
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut *client).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(unanswered(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => Some(Ok(take(&bytes))),
                    // Trailers say nothing that we read.
                    Err(_) => continue,
                },
            });
        }
    }
}

/// The bytes as they come, each a copy: for what is read once in a while.
impl Stream for Body {
    type Item = Result<Bytes, Unanswered>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_read(cx, Bytes::copy_from_slice)
    }
}
