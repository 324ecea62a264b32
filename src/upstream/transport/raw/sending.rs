//! A request on its way out.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::HeaderMap;
use tokio::io::AsyncWrite;
use url::Url;

/// A request on its way out. Its bytes are let go of as soon as all of them have gone.
pub enum Sending {
    /// On its way.
    Going {
        /// All of it.
        bytes: Vec<u8>,
        /// So much of that has gone.
        gone: usize,
    },
    /// All of it has gone.
    Gone,
    /// The connection takes no more of it.
    Failed(io::Error),
}

/// The request holds a key and what people wrote: neither is for a log.
impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Going { bytes, gone } => write!(f, "Going({} bytes left)", bytes.len() - gone),
            Self::Gone => f.write_str("Gone"),
            Self::Failed(error) => write!(f, "Failed({error})"),
        }
    }
}

impl Sending {
    /// A POST of `body` to `url`, with these headers and its length (RFC 9112, section 3).
    pub fn post(url: &Url, headers: &HeaderMap, body: &[u8]) -> Self {
        const HEAD: usize = 512;
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        let parts = ["POST ", url.path(), url.query().map_or("", |_| "?"), url.query().unwrap_or(""), " HTTP/1.1\r\n"];
        bytes.extend_from_slice(parts.concat().as_bytes());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Self::Going { bytes, gone: 0 }
    }

    /// Sends what the socket takes; wakes the task when it may take more.
    pub fn advance<S: AsyncWrite + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) {
        if let Self::Going { bytes, gone } = self
            && let Poll::Ready(result) = poll_send(bytes, gone, socket, cx)
        {
            *self = result.map_or_else(Self::Failed, |()| Self::Gone);
        }
    }
}

fn poll_send<S>(bytes: &[u8], gone: &mut usize, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    S: AsyncWrite + Unpin,
{
    while *gone < bytes.len() {
        let size = ready!(Pin::new(&mut *socket).poll_write(cx, &bytes[*gone..]))?;
        if size == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *gone += size;
    }
    Pin::new(socket).poll_flush(cx)
}
