//! HTTP/1.1 or HTTP/2: the first bytes tell (RFC 9113, section 3.4).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::watched::Watched;

/// What a client that knows it speaks HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Reads until it is clear, and puts back what was read.
pub async fn sniff<S: AsyncRead + Unpin>(stream: &mut Watched<S>) -> io::Result<Version> {
    let mut seen = [0; PREFACE.len()];
    let mut len = 0;
    let version = loop {
        match stream.read(&mut seen[len..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => len += more,
        }
        if seen[..len] != PREFACE[..len] {
            break Version::Http1;
        }
        if len == PREFACE.len() {
            break Version::Http2;
        }
    };
    stream.put_back(&seen[..len]);
    Ok(version)
}
