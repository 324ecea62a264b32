//! TLS 1.2 and 1.3 below HTTP. Which version of HTTP follows the handshake has settled, and the first bytes tell.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::tell;
use super::certificate::Certificate;
use super::connection::{self, HEAD};
use super::{Held, REFUSAL, Server};
use crate::http::address::Peer;
use crate::seldom::Seldom;

/// What may wait encrypted for a reader who lags, in bytes: a record (RFC 8446, section 5.1). More waits where it does
/// without TLS.
const UNSENT: usize = 16 << 10;

/// How long a connection that there is no place for may take to hear it. The handshake goes to and fro before.
const REFUSAL_UNDER_TLS: Duration = Duration::from_secs(1);

/// What a handshake begins with (RFC 8446, section 5.1). No method of HTTP does.
const HANDSHAKE: u8 = 22;

/// What a client without TLS hears.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 57\r\n\
    connection: close\r\n\r\nThis port speaks TLS: its addresses begin with https://.\n";

/// Serves a connection that has a place, from its handshake to its end, in a task of its own.
pub fn serve(server: &Arc<Server>, certificate: &Certificate, held: Held, stream: TcpStream, peer: Peer) {
    let (this, config) = (server.clone(), certificate.configs().serving.clone());
    server.lifecycle.spawn("connection", async move {
        tokio::select! {
            biased;
            () = Seldom::new(this.dropping.cancelled()) => {}
            () = begin(&this, config, stream, peer) => {}
        }
        drop(held);
    });
}

async fn begin(server: &Server, config: Arc<ServerConfig>, stream: TcpStream, peer: Peer) {
    let shaken = tokio::select! {
        () = server.closing.cancelled() => return,
        // Boxed: it is large, and soon over.
        shaken = Box::pin(shake(config, stream, HEAD)) => shaken,
    };
    match shaken {
        Ok(Some(stream)) => connection::serve(server, stream, peer).await,
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "a handshake of TLS failed"),
    }
}

/// Says `words`, which are HTTP/1.1, to a connection that there is no place for.
pub async fn refuse(certificate: &Certificate, stream: TcpStream, words: &[u8]) {
    let config = certificate.configs().refusing.clone();
    let told = async {
        match shake(config, stream, REFUSAL_UNDER_TLS).await? {
            Some(mut stream) => tell(&mut stream, words).await,
            None => Ok(()),
        }
    };
    let _ = tokio::time::timeout(REFUSAL_UNDER_TLS, told).await;
}

/// Shakes hands within `patience`. `None` for a client that does not speak TLS, and has been told that we do.
// The stream is boxed: it is large, and whoever serves it hands it on.
async fn shake(
    config: Arc<ServerConfig>,
    mut stream: TcpStream,
    patience: Duration,
) -> io::Result<Option<Box<TlsStream<TcpStream>>>> {
    let shaken = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first != [HANDSHAKE] {
            let _ = tokio::time::timeout(REFUSAL, tell(&mut stream, NO_TLS)).await;
            return Ok(None);
        }
        let accept = TlsAcceptor::from(config).accept_with(stream, |tls| tls.set_buffer_limit(Some(UNSENT)));
        Ok(Some(Box::new(accept.await?)))
    };
    tokio::time::timeout(patience, shaken).await?
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_shake_hands_is_let_go() {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let home = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (home.path().join("cert.pem"), home.path().join("key.pem"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
        let certificate = Certificate::open(&cert_file, &key_file).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for said in [&b""[..], b"\x16\x03\x01\x02"] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(said).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let shaken = shake(certificate.configs().serving.clone(), stream, Duration::from_millis(50)).await;
            assert_eq!(shaken.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }
}
