//! A connection, with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// After so many reads the system is told again to gather its acknowledgements. It forgets as soon as one of them has
/// waited for its 40 ms, and then answers each small packet with one: of 200 deltas 20 ms apart it acknowledged all when
/// it was never told, 181 when it was told once, 108 when it was told so often, and 105 when it was told each time.
const READS: u8 = 16;

/// A connection to an upstream. Dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// Up to [`READS`].
    reads: u8,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// A connection in the clear.
    pub fn plain(tcp: TcpStream) -> Self {
        Self { stream: Stream::Plain(tcp), reads: 0 }
    }

    /// A connection under TLS.
    pub fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self { stream: Stream::Tls(Box::new(tls)), reads: 0 }
    }

    /// Whether it is open and nothing has come on it. The system is asked: the runtime may not have heard yet that
    /// the other side has gone.
    pub fn is_quiet(&self) -> bool {
        if let Stream::Tls(tls) = &self.stream
            // It wants nothing more while it holds something unread, and after the other side's farewell.
            && !tls.get_ref().1.wants_read()
        {
            return false;
        }
        let mut byte = [0_u8];
        matches!(recv(self.tcp(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Err(Errno::AGAIN))
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Lets the system gather what it acknowledges. Where it cannot, nothing is lost but time.
    fn delay_acks(&self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(self.tcp(), false);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        ready!(match &mut socket.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        })?;
        if socket.reads == 0 {
            socket.delay_acks();
        }
        socket.reads = (socket.reads + 1) % READS;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
