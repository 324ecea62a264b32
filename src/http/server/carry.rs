//! The rest of a stream, from its second frame on: chunks straight to the socket (RFC 9112, section 7.1). A stream that
//! waits holds no buffer.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::BUFFER;
use super::watched::Watched;
use crate::http::stream::Frames;

/// Room for a chunk's size, as up to eight hex digits, and a line end.
const SIZE: usize = 10;

/// The chunk that ends the body.
const LAST: &[u8] = b"0\r\n\r\n";

/// A thread keeps so much room for the chunks it writes.
const ROOM: usize = 128 << 10;

/// The most that is read at once of what a client says too early.
const EARLY: usize = 1 << 10;

thread_local! {
    /// Where chunks are made: what the socket takes at once needs no room of its own.
    static CHUNK: Cell<BytesMut> = Cell::new(BytesMut::new());
}

/// Tells `frames` to their end. What the client says meanwhile is added to `early`.
///
/// # Errors
/// When the client is gone, or takes no byte for too long.
pub async fn carry<S>(watched: &mut Watched<S>, frames: Box<Frames>, early: &mut BytesMut) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut carrier = Carrier { watched, early, frames, unsent: BytesMut::new(), over: false };
    poll_fn(|cx| carrier.poll(cx)).await
}

struct Carrier<'a, S> {
    watched: &'a mut Watched<S>,
    early: &'a mut BytesMut,
    frames: Box<Frames>,
    /// What the socket did not take at once.
    unsent: BytesMut,
    /// The last chunk is made.
    over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.listen(cx)?;
        loop {
            while !self.unsent.is_empty() {
                let sent = ready!(Pin::new(&mut *self.watched).poll_write(cx, &self.unsent))?;
                self.unsent.advance(sent);
                if self.unsent.is_empty() {
                    self.unsent = BytesMut::new();
                }
            }
            ready!(Pin::new(&mut *self.watched).poll_flush(cx))?;
            if self.over {
                return Poll::Ready(Ok(()));
            }
            let mut room = CHUNK.take();
            room.clear();
            let told = self.tell(cx, &mut room);
            if room.capacity() <= ROOM {
                CHUNK.set(room);
            }
            ready!(told)?;
        }
    }

    /// Notices a client that is gone, and keeps what another says, as far as there is room.
    fn listen(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.early.len() < BUFFER {
            let mut bytes = [MaybeUninit::uninit(); EARLY];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            let Poll::Ready(read) = Pin::new(&mut *self.watched).poll_read(cx, &mut bytes) else { break };
            read?;
            if bytes.filled().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.early.extend_from_slice(bytes.filled());
        }
        Ok(())
    }

    /// Makes the next chunk in `room` and sends what the socket takes of it.
    fn tell(&mut self, cx: &mut Context<'_>, room: &mut BytesMut) -> Poll<io::Result<()>> {
        let chunk = ready!(self.chunk(cx, room));
        let sent = match Pin::new(&mut *self.watched).poll_write(cx, chunk) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        self.unsent.extend_from_slice(&chunk[sent..]);
        Poll::Ready(Ok(()))
    }

    fn chunk<'r>(&mut self, cx: &mut Context<'_>, room: &'r mut BytesMut) -> Poll<&'r [u8]> {
        room.put_bytes(0, SIZE);
        ready!(self.frames.poll(cx, room));
        let mut len = room.len() - SIZE;
        if len == 0 {
            self.over = true;
            return Poll::Ready(LAST);
        }
        room.put_slice(b"\r\n");
        room[SIZE - 2..SIZE].copy_from_slice(b"\r\n");
        let mut start = SIZE - 2;
        while len > 0 {
            start -= 1;
            room[start] = b"0123456789abcdef"[len % 16];
            len /= 16;
        }
        Poll::Ready(&room[start..])
    }
}
