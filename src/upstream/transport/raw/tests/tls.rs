//! Under TLS, with an authority of one's own.

use std::io::Write;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority of one's own, as a file, and a server it vouches for.
pub fn authority() -> (NamedTempFile, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = config.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (file, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn calls_go_over_tls_and_connections_are_kept() {
    let (ca, acceptor) = authority();
    let (url, life) = server(async move |listener| {
        for host in ["localhost", "127.0.0.1"] {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
            for _ in 0..2 {
                assert!(request(&mut stream).await.contains(&format!("host: {host}:")));
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head).await.unwrap();
                for chunk in ["3\r\nhel\r\n", "2\r\nlo", "\r\n0\r\n\r\n"] {
                    stream.write_all(chunk.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await;
    for host in ["localhost", "127.0.0.1"] {
        let url = url.replace("http://127.0.0.1", &format!("https://{host}"));
        let transport = transport(&url, json!({"ca_file": ca.path()}));
        for _ in 0..2 {
            assert_eq!(rest(post(&transport).await.unwrap()).await.unwrap(), "hello");
        }
    }
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn a_body_until_the_end_needs_a_farewell() {
    let (ca, acceptor) = authority();
    let (url, _life) = server(async move |listener| {
        for is_polite in [true, false] {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
            stream.flush().await.unwrap();
            if is_polite {
                stream.shutdown().await.unwrap();
            }
        }
    })
    .await;
    let transport = transport(&url.replace("http", "https"), json!({"ca_file": ca.path()}));
    assert_eq!(rest(post(&transport).await.unwrap()).await.unwrap(), "hello");
    // Anybody on the way could have cut it.
    rest(post(&transport).await.unwrap()).await.unwrap_err();
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_not_asked() {
    let ((_, acceptor), (other, _)) = (authority(), authority());
    let (url, _life) = server(async move |listener| {
        let (stream, _) = listener.accept().await.unwrap();
        assert!(acceptor.accept(stream).await.is_err());
    })
    .await;
    let transport = transport(&url.replace("http", "https"), json!({"ca_file": other.path()}));
    let unanswered = post(&transport).await.unwrap_err();
    assert!(!unanswered.garbled && unanswered.cause.contains("certificate"), "{unanswered:?}");
}
