//! A body on its way.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::framing::{Framing, Then};
use super::pool::Pool;
use super::scratch;
use super::sending::Sending;
use super::socket::Socket;
use crate::upstream::transport::Unanswered;

/// A body on its way. Dropping it closes the connection, unless it was read to its end.
#[derive(Debug)]
pub struct RawBody<S = Socket> {
    /// Until the end.
    socket: Option<S>,
    framing: Framing,
    /// What came together with the head.
    early: Vec<u8>,
    /// The rest of the request.
    sending: Sending,
    /// Where the connection goes when it is fit for another request.
    pool: Option<Arc<Pool<S>>>,
    /// Told once what came before it has been handed on.
    broken: Option<&'static str>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawBody<S> {
    /// The body that begins with `early`. Where `pool` is none the connection carries no other request.
    pub fn new(socket: S, framing: Framing, early: Vec<u8>, sending: Sending, pool: Option<Arc<Pool<S>>>) -> Self {
        let is_over = framing.is_over();
        let surplus = !early.is_empty();
        let mut body = Self { socket: Some(socket), framing, early, sending, pool, broken: None };
        if is_over {
            body.end(surplus);
        }
        body
    }

    /// Lends what comes next to `take`, and gives back what that says; `None` at the body's own end. Nothing is
    /// copied, and nothing is held while nothing comes. What comes with one read is lent at once.
    ///
    /// # Errors
    /// Where it broke off before its end.
    pub fn poll_read<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[u8]) -> R,
    ) -> Poll<Option<Result<R, Unanswered>>> {
        loop {
            if let Some(cause) = self.broken.take() {
                return Poll::Ready(Some(Err(Unanswered::garbled(cause))));
            }
            let Some(socket) = &mut self.socket else { return Poll::Ready(None) };
            // A server that reads no further may still answer.
            self.sending.advance(socket, cx);
            let framing = &mut self.framing;
            let mut read = |bytes: &mut [u8]| {
                let read = framing.read(bytes);
                ((!read.data.is_empty()).then(|| take(&bytes[read.data])), read.then)
            };
            let (taken, then) = if self.early.is_empty() {
                let polled = scratch::read(socket, cx, |bytes| (!bytes.is_empty()).then(|| read(bytes)));
                match std::task::ready!(polled) {
                    Ok(Some(read)) => read,
                    Ok(None) => return Poll::Ready(self.closed().err().map(Err)),
                    Err(error) => {
                        self.socket = None;
                        return Poll::Ready(Some(Err(Unanswered { garbled: false, cause: error.to_string() })));
                    }
                }
            } else {
                read(&mut std::mem::take(&mut self.early))
            };
            match then {
                Then::More => {}
                Then::End { surplus } => self.end(surplus),
                Then::Broken(cause) => {
                    self.socket = None;
                    self.broken = Some(cause);
                }
            }
            if let Some(taken) = taken {
                return Poll::Ready(Some(Ok(taken)));
            }
        }
    }

    /// All of the body has come.
    fn end(&mut self, surplus: bool) {
        let (socket, pool) = (self.socket.take(), self.pool.take());
        // With a request half sent, or bytes that nobody asked for, the next answer's begin would not be known.
        if !surplus
            && let Sending::Gone = self.sending
            && let (Some(socket), Some(pool)) = (socket, pool)
        {
            pool.put(socket);
        }
        (self.early, self.sending) = (Vec::new(), Sending::Gone);
    }

    /// The server closed the connection.
    fn closed(&mut self) -> Result<(), Unanswered> {
        self.socket = None;
        match self.framing {
            Framing::UntilClose => Ok(()),
            Framing::Length(_) | Framing::Chunked(_) => {
                Err(Unanswered { garbled: false, cause: "the connection was closed before the body's end".to_owned() })
            }
        }
    }
}
