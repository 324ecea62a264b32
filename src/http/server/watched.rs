//! A stream that notices when its reader is gone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a connection that closes over unread bytes goes on taking them, so that its last words arrive.
const LINGER: Duration = Duration::from_secs(1);

/// A stream whose write fails once it has made no progress for `stall`.
pub struct Watched<S> {
    stream: S,
    /// What was read too early.
    early: Bytes,
    stall: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    blocked: Blocked,
    closing: Closing,
}

/// Whether the last write of a stream waits.
#[derive(Clone, Debug, Default)]
pub struct Blocked(Arc<AtomicBool>);

impl Blocked {
    /// Whether it does.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a close has come.
enum Closing {
    No,
    /// Our half is closed; nothing was waiting to be read yet.
    Half,
    /// Something was: it is taken off until then.
    Lingering(Pin<Box<Sleep>>),
}

impl<S> Watched<S> {
    /// Watches a stream.
    pub fn new(stream: S, stall: Duration) -> Self {
        Self { stream, early: Bytes::new(), stall, waiting: None, blocked: Blocked::default(), closing: Closing::No }
    }

    /// Says later whether a write waits.
    pub fn blocked(&self) -> Blocked {
        self.blocked.clone()
    }

    /// Has `bytes` read again, before whatever else is still to be read again.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.early = [bytes, &self.early[..]].concat().into();
    }

    /// Passes on what a write came to, unless it has come to nothing for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if self.waiting.take().is_some() {
                self.blocked.0.store(false, Ordering::Relaxed);
            }
            return result;
        }
        self.blocked.0.store(true, Ordering::Relaxed);
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes no byte")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let len = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early[..len]);
        this.early.advance(len);
        if !this.early.is_empty() {
            return Poll::Ready(Ok(()));
        }
        this.early = Bytes::new();
        // Together with what has come since: a reader that gets its request in two pieces makes room for it twice.
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watch(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Closing::No = this.closing {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.closing = Closing::Half;
        }
        let mut scrap = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    if let Closing::Half = this.closing {
                        this.closing = Closing::Lingering(Box::pin(tokio::time::sleep(LINGER)));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => match &mut this.closing {
                    Closing::Lingering(until) => {
                        ready!(until.as_mut().poll(cx));
                        return Poll::Ready(Ok(()));
                    }
                    Closing::No | Closing::Half => return Poll::Ready(Ok(())),
                },
            }
            // A client that never stops sending is not listened to for longer than one that is silent.
            if let Closing::Lingering(until) = &mut this.closing
                && until.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_gone() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut watched = Watched::new(ours, Duration::from_millis(50));
        let began = tokio::time::Instant::now();
        let error = watched.write_all(&[1; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= Duration::from_millis(50));
        // One that takes a byte has all of the time again.
        theirs.read_exact(&mut [0; 8]).await.unwrap();
        watched.write_all(&[1; 8]).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_put_back_is_read_first() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut watched = Watched::new(ours, Duration::from_secs(60));
        watched.put_back(b"GET ");
        let mut read = [0; 16];
        assert_eq!(watched.read(&mut read).await.unwrap(), 4, "nothing else has come yet");
        watched.put_back(b"GET ");
        theirs.write_all(b"/").await.unwrap();
        assert_eq!(watched.read(&mut read).await.unwrap(), 5, "it comes in one piece");
        assert_eq!(&read[..5], b"GET /");
        watched.put_back(b"GET ");
        assert_eq!(watched.read(&mut read[..3]).await.unwrap(), 3);
        assert_eq!(watched.read(&mut read[3..4]).await.unwrap(), 1);
        assert_eq!(&read[..4], b"GET ");
        watched.put_back(b"T /");
        watched.put_back(b"GE");
        assert_eq!(watched.read(&mut read).await.unwrap(), 5, "what was put back last comes first");
        assert_eq!(&read[..5], b"GET /");
    }
}
