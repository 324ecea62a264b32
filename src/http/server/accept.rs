//! Accepting, whatever the number of descriptors.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use super::{REFUSAL, Server, tls};
use crate::http::address::Peer;
use crate::seldom::Seldom;

/// How long to leave the listener alone when it can give nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may hold of one connection's answers, in bytes (it doubles this for its own needs). Small, so that
/// a reader who takes nothing is noticed and costs little.
const SEND_BUFFER: usize = 128 << 10;

/// Accepts for ever.
pub async fn run(server: &Arc<Server>, listener: TcpListener) {
    let mut spare = spare();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => admit(server, stream, Peer(from.ip())),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE) => {
                    tracing::warn!("no file descriptor is left for a connection");
                    drop(spare.take());
                    if let Ok(Ok((stream, _))) = tokio::time::timeout(PAUSE, listener.accept()).await {
                        // Under TLS it takes longer; whoever waits behind it may not.
                        let _ = tokio::time::timeout(REFUSAL, refuse(server, stream)).await;
                    } else {
                        tokio::time::sleep(PAUSE).await;
                    }
                    spare = self::spare();
                }
                Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR) => {}
                _ => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// A descriptor to give up when there is no other, so that a client can be told.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn admit(server: &Arc<Server>, stream: TcpStream, peer: Peer) {
    if let Err(error) = prepare(&stream, server.reader_stall) {
        tracing::debug!(%error, "a connection closed before it began");
        return;
    }
    if let Ok(place) = server.places.clone().try_acquire_owned() {
        let held = (place, server.meter.connection());
        if let Some(certificate) = &server.certificate {
            return tls::serve(server, certificate, held, stream, peer);
        }
        let this = server.clone();
        server.lifecycle.spawn("connection", async move {
            tokio::select! {
                biased;
                () = Seldom::new(this.dropping.cancelled()) => {}
                () = connection::serve(&this, stream, peer) => {}
            }
            drop(held);
        });
    } else if let Ok(refusal) = server.refusals.clone().try_acquire_owned() {
        let this = server.clone();
        server.lifecycle.spawn("refusal", async move {
            refuse(&this, stream).await;
            drop(refusal);
        });
    }
}

/// No delay of small writes, a bounded send buffer, and an end to who acknowledges nothing (Linux tcp(7):
/// `TCP_USER_TIMEOUT`, in milliseconds).
fn prepare(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER)?;
    let stall = u32::try_from(stall.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, stall)?;
    Ok(())
}

/// Says 503.
async fn refuse(server: &Server, mut stream: TcpStream) {
    let words = server.refusal();
    match &server.certificate {
        None => {
            let _ = tokio::time::timeout(REFUSAL, tell(&mut stream, &words)).await;
        }
        Some(certificate) => Box::pin(tls::refuse(certificate, stream, &words)).await,
    }
}

/// Says `words` once the client has said something, and stays until they are heard: closing over unread bytes would
/// take them back.
pub async fn tell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) -> io::Result<()> {
    let mut heard = [0; 1024];
    let _ = stream.read(&mut heard).await?;
    stream.write_all(words).await?;
    stream.shutdown().await?;
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}
