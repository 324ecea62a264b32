//! How connections begin, stall and end.

use super::*;

const ASK: &[u8] = b"GET /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\n\r\n";

const LAST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_reader_that_leaves_or_half_closes_is_gone() {
    let house = House::open().await;
    let mut stream = house.connect().await;
    stream.write_all(ASK).await.unwrap();
    read_until(&mut stream, "first").await;
    assert_eq!(house.gone.available_permits(), 0);
    stream.shutdown().await.unwrap();
    house.let_go().await;
    let mut stream = house.connect().await;
    stream.write_all(ASK).await.unwrap();
    read_until(&mut stream, "first").await;
    drop(stream);
    house.let_go().await;
    house.close().await;
}

#[tokio::test]
async fn a_reader_that_takes_no_byte_is_gone() {
    let house = House::with(Settings { reader_stall: Duration::from_millis(200), ..settings() }).await;
    let mut stream = house.connect().await;
    stream.write_all(b"GET /v1/flood HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    house.let_go().await;
    drop(stream);
    house.close().await;
}

#[tokio::test]
async fn a_client_that_never_begins_keeps_no_server_from_ending() {
    let house = House::open().await;
    let silent = house.connect().await;
    let mut half = house.connect().await;
    half.write_all(b"PRI * HT").await.unwrap();
    let mut idle = house.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut idle, "\r\n\r\nok").await;
    house.lifecycle.soft().cancel();
    assert!(house.lifecycle.finished(PATIENCE).await);
    drop((silent, half, idle));
}

#[tokio::test]
async fn an_open_stream_ends_with_the_grace_and_no_new_connection_is_taken() {
    let house = House::with(Settings { grace: Duration::from_millis(300), ..settings() }).await;
    let mut stream = house.connect().await;
    stream.write_all(ASK).await.unwrap();
    read_until(&mut stream, "first").await;
    let began = tokio::time::Instant::now();
    house.lifecycle.soft().cancel();
    let refused = async { while TcpStream::connect(house.address).await.is_ok() {} };
    within(refused).await;
    house.let_go().await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(house.lifecycle.finished(PATIENCE).await);
}

#[tokio::test]
async fn the_listener_stays_open_for_the_drain_delay() {
    let house = House::with(Settings { drain_delay: Duration::from_millis(500), ..settings() }).await;
    house.lifecycle.soft().cancel();
    let answer = house.raw(LAST).await;
    assert!(answer.ends_with("ok"), "{answer}");
    assert!(house.lifecycle.finished(PATIENCE).await);
}

#[tokio::test]
async fn bytes_that_are_no_request_get_a_plain_4xx() {
    let house = House::open().await;
    assert!(house.raw(b"\x16\x03\x01 hello\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let huge = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    assert!(house.raw(huge.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    house.close().await;
}

#[tokio::test]
async fn small_pieces_of_a_head_are_put_together() {
    let house = House::open().await;
    let mut stream = house.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in b"PRAISE /v1/echo HTTP/1.1\r\nhost: localhost\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    read_until(&mut stream, "method_not_allowed").await;
    house.close().await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let house = House::with(Settings { max_connections: 1, ..settings() }).await;
    let mut first = house.connect().await;
    first.write_all(ASK).await.unwrap();
    read_until(&mut first, "first").await;
    let answer = house.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"too_many_connections\""), "{answer}");
    drop(first);
    house.let_go().await;
    let asked = async { while !house.raw(LAST).await.ends_with("ok") {} };
    within(asked).await;
    house.close().await;
}

#[tokio::test]
async fn a_reader_of_http_2_that_takes_no_byte_is_gone_alone() {
    let house = House::with(Settings { reader_stall: Duration::from_millis(200), ..settings() }).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut flood = within(client.get(house.url("/v1/flood")).send()).await.unwrap();
    assert_eq!(within(flood.chunk()).await.unwrap().unwrap(), "first\n");
    let mut quiet = within(client.get(house.url("/v1/chat/stream")).send()).await.unwrap();
    assert_eq!(within(quiet.chunk()).await.unwrap().unwrap(), "first\n");
    // The flood is let go, and what only has nothing to say is not.
    house.let_go().await;
    let other = within(client.get(house.url("/healthz")).send()).await.unwrap();
    assert_eq!(other.text().await.unwrap(), "ok");
    assert!(tokio::time::timeout(Duration::from_millis(300), quiet.chunk()).await.is_err());
    assert_eq!(house.gone.available_permits(), 0);
    // The end of the server is the end of every stream, wherever its client is.
    house.lifecycle.hard().cancel();
    house.let_go().await;
    house.close().await;
    drop((flood, quiet));
}
