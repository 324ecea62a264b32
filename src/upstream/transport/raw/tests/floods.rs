//! More than anybody can see: read at ticks, and all of it.

use tokio::io::AsyncWrite;

use super::tls::authority;
use super::*;

/// Chunks of one answer.
const CHUNKS: usize = 20_000;

/// Two answers on one connection, a write for each chunk.
async fn flood(mut stream: impl AsyncReadExt + AsyncWrite + Unpin) {
    for _ in 0..2 {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for number in 0..CHUNKS {
            stream.write_all(format!("5\r\n{number:05}\r\n").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn assert_whole(transport: &Transport) {
    let all: String = (0..CHUNKS).map(|number| format!("{number:05}")).collect();
    for _ in 0..2 {
        assert!(rest(post(transport).await.unwrap()).await.unwrap() == all, "in order, and all of it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_comes_whole_and_its_connection_is_kept() {
    let (url, life) = server(async |listener| {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        flood(stream).await;
    })
    .await;
    assert_whole(&transport(&url, json!({}))).await;
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_comes_whole_under_tls() {
    let (ca, acceptor) = authority();
    let (url, life) = server(async move |listener| {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        flood(acceptor.accept(stream).await.unwrap()).await;
    })
    .await;
    assert_whole(&transport(&url.replace("http", "https"), json!({"ca_file": ca.path()}))).await;
    assert!(life.finished(HANG_LIMIT).await);
}
