//! Connections under TLS.

use std::io;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::http::server::certificate::Certificate;

const ASK: &[u8] = b"GET /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\n\r\n";

const LAST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// A certificate as a server has it, and as a client does.
fn certificate() -> (Certificate, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let home = TempDir::new().unwrap();
    let (cert_file, key_file) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    (Certificate::open(&cert_file, &key_file).unwrap(), cert.der().clone())
}

/// A server that speaks TLS, and the certificate that its clients know.
async fn open(settings: Settings) -> (House, CertificateDer<'static>) {
    let (certificate, known) = certificate();
    (House::with(Settings { certificate: Some(certificate), ..settings }).await, known)
}

async fn connect(house: &House, known: &CertificateDer<'static>, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(known.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, house.connect().await)).await
}

async fn first(stream: &mut TlsStream<TcpStream>) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"first\n\r\n") {
        assert!(within(stream.read_buf(&mut seen)).await.unwrap() > 0, "{}", String::from_utf8_lossy(&seen));
    }
}

#[tokio::test]
async fn the_handshake_settles_the_version_of_http() {
    let (house, known) = open(settings()).await;
    let url = house.url("/healthz").replace("http://", "https://");
    let root = reqwest::Certificate::from_der(&known).unwrap();
    let client = || reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]);
    for (client, version) in [(client(), http::Version::HTTP_2), (client().http1_only(), http::Version::HTTP_11)] {
        let client = client.build().unwrap();
        for _ in 0..2 {
            let answer = within(client.get(&url).send()).await.unwrap();
            assert_eq!((answer.version(), answer.text().await.unwrap().as_str()), (version, "ok"));
        }
    }
    for (offered, chosen) in
        [(&[&b"http/1.1"[..], b"h2"][..], Some(&b"h2"[..])), (&[b"http/1.0"], Some(b"http/1.0")), (&[], None)]
    {
        let stream = connect(&house, &known, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    let refused = connect(&house, &known, &[b"smtp"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    house.close().await;
}

#[tokio::test]
async fn a_reader_that_leaves_half_closes_or_breaks_off_is_gone() {
    let (house, known) = open(settings()).await;
    for end in ["half closes", "leaves", "breaks off"] {
        let mut stream = connect(&house, &known, &[]).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        first(&mut stream).await;
        assert_eq!(house.gone.available_permits(), 0, "before it {end}");
        match end {
            // With a close_notify and with a FIN, …
            "half closes" => stream.shutdown().await.unwrap(),
            // … without either half of it, …
            "leaves" => drop(stream.into_inner().0),
            // … and with neither.
            _ => stream.into_inner().0.set_zero_linger().unwrap(),
        }
        house.let_go().await;
    }
    house.close().await;
}

#[tokio::test]
async fn a_reader_that_takes_no_byte_is_gone() {
    let (house, known) = open(Settings { reader_stall: Duration::from_millis(200), ..settings() }).await;
    let mut stream = connect(&house, &known, &[]).await.unwrap();
    stream.write_all(b"GET /v1/flood HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    house.let_go().await;
    drop(stream);
    house.close().await;
}

#[tokio::test]
async fn a_client_without_tls_is_told_so() {
    let (house, known) = open(settings()).await;
    let answer = house.raw(LAST).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
    // What begins like a handshake and is none is closed.
    let mut stream = house.connect().await;
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    within(stream.read_to_end(&mut Vec::new())).await.unwrap();
    // And the next client is served.
    let mut stream = connect(&house, &known, &[]).await.unwrap();
    stream.write_all(LAST).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.expect("it ends with a close_notify");
    assert!(answer.ends_with("ok"), "{answer}");
    house.close().await;
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_keeps_no_server_from_ending() {
    let (house, known) = open(settings()).await;
    let silent = house.connect().await;
    let mut half = house.connect().await;
    half.write_all(b"\x16\x03\x01").await.unwrap();
    let shaken = connect(&house, &known, &[]).await.unwrap();
    house.lifecycle.soft().cancel();
    assert!(house.lifecycle.finished(PATIENCE).await);
    drop((silent, half, shaken));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_whatever_it_offers() {
    let (house, known) = open(Settings { max_connections: 1, ..settings() }).await;
    let mut inside = connect(&house, &known, &[]).await.unwrap();
    inside.write_all(ASK).await.unwrap();
    first(&mut inside).await;
    for offered in [&[][..], &[&b"h2"[..], b"http/1.1"]] {
        let mut stream = connect(&house, &known, offered).await.unwrap();
        assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.write_all(LAST).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"too_many_connections\""), "{answer}");
    }
    drop(inside);
    house.let_go().await;
    house.close().await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_handshakes_and_open_connections_go_on() {
    let (in_use, old) = certificate();
    let house = House::with(Settings { certificate: Some(in_use.clone()), ..settings() }).await;
    let mut before = connect(&house, &old, &[]).await.unwrap();
    let (new, known) = certificate();
    in_use.replace(&new);
    assert!(connect(&house, &old, &[]).await.is_err());
    let mut after = connect(&house, &known, &[]).await.unwrap();
    for stream in [&mut before, &mut after] {
        stream.write_all(ASK).await.unwrap();
        first(stream).await;
    }
    drop((before, after));
    house.let_go().await;
    house.let_go().await;
    house.close().await;
}
