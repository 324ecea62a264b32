//! Connections: kept, replaced, closed, and never asked twice.

use super::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

async fn assert_hello(transport: &Transport) {
    assert_eq!(rest(post(transport).await.unwrap()).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_was_read() {
    let (url, life) = server(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..3 {
            request(&mut stream).await;
            stream.write_all(ANSWER.as_bytes()).await.unwrap();
        }
        let (mut other, _) = listener.accept().await.unwrap();
        request(&mut other).await;
        other.write_all(ANSWER.as_bytes()).await.unwrap();
    })
    .await;
    let transport = transport(&url, json!({}));
    assert_hello(&transport).await;
    assert_hello(&transport).await;
    let reply = post(&transport).await.unwrap();
    // The first connection still has an answer to read.
    assert_hello(&transport).await;
    assert_eq!(rest(reply).await.unwrap(), "hello");
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn a_connection_that_was_closed_or_has_bytes_is_replaced() {
    let (closed, is_closed) = oneshot::channel();
    let (wrote, has_written) = oneshot::channel();
    let (url, life) = server(async |listener| {
        drop(serve(&listener, ANSWER).await);
        closed.send(()).unwrap();
        let mut talkative = serve(&listener, ANSWER).await;
        talkative.write_all(b"HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        wrote.send(()).unwrap();
        serve(&listener, ANSWER).await;
    })
    .await;
    let transport = transport(&url, json!({}));
    assert_hello(&transport).await;
    is_closed.await.unwrap();
    assert_hello(&transport).await;
    has_written.await.unwrap();
    assert_hello(&transport).await;
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn a_request_that_may_have_been_read_is_not_sent_again() {
    let (url, life) = server(async |listener| {
        let mut stream = serve(&listener, ANSWER).await;
        request(&mut stream).await;
        drop(stream);
        let (mut next, _) = listener.accept().await.unwrap();
        let mut first = [0];
        next.read_exact(&mut first).await.unwrap();
        assert_eq!(first, *b"!", "the request was sent again");
    })
    .await;
    let transport = transport(&url, json!({}));
    assert_hello(&transport).await;
    let unanswered = post(&transport).await.unwrap_err();
    assert!(!unanswered.garbled, "{unanswered:?}");
    // Whoever comes next is the test itself.
    let mut next = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    next.write_all(b"!").await.unwrap();
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn what_the_settings_close_is_not_kept() {
    let (url, life) = server(async |listener| {
        for _ in 0..2 {
            let mut stream = serve(&listener, ANSWER).await;
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the client hangs up");
        }
    })
    .await;
    let transport = transport(&url, json!({"headers": {"Connection": "close"}}));
    assert_hello(&transport).await;
    assert_hello(&transport).await;
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn letting_go_of_a_body_closes_its_connection_at_once() {
    let (url, life) = server(async |listener| {
        let mut stream = serve(&listener, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
    })
    .await;
    let mut reply = post(&transport(&url, json!({}))).await.unwrap();
    assert_eq!(reply.body.next().await.unwrap().unwrap(), "hello".as_bytes());
    drop(reply);
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn giving_up_on_an_answer_closes_its_connection() {
    let (url, life) = server(async |listener| {
        let mut stream = serve(&listener, "").await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    })
    .await;
    let transport = transport(&url, json!({}));
    assert!(tokio::time::timeout(Duration::from_millis(50), transport.post(&["x"], Vec::new(), None)).await.is_err());
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn a_server_that_will_not_say_more_is_understood() {
    let (url, _life) = server(async |listener| {
        for answer in [ANSWER, "HTTP/1.1 200 OK\r\n\r\nhello", ""] {
            let mut stream = serve(&listener, answer).await;
            // It still listens: only its own half is closed.
            stream.shutdown().await.unwrap();
            let _ = stream.read(&mut [0]).await;
        }
    })
    .await;
    let transport = transport(&url, json!({"headers": {"Connection": "close"}}));
    assert_hello(&transport).await;
    assert_hello(&transport).await;
    assert!(!post(&transport).await.unwrap_err().garbled);
}

/// More than the buffers between two processes take.
fn large() -> Vec<u8> {
    vec![b' '; 32 << 20]
}

#[tokio::test]
async fn an_answer_may_come_before_all_of_the_request_has_gone() {
    let (url, life) = server(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too much\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        serve(&listener, ANSWER).await;
    })
    .await;
    let transport = transport(&url, json!({}));
    let reply = transport.post(&["x"], large(), None).await.unwrap();
    assert_eq!(reply.status, 413);
    assert_eq!(rest(reply).await.unwrap(), "hello");
    // On a connection with half a request nothing else can be asked.
    assert_hello(&transport).await;
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn the_request_goes_on_while_its_answer_comes() {
    let (url, life) = server(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await.unwrap();
        request(&mut stream).await;
        stream.write_all(b"llo").await.unwrap();
        request(&mut stream).await;
        stream.write_all(ANSWER.as_bytes()).await.unwrap();
    })
    .await;
    let transport = transport(&url, json!({}));
    let reply = transport.post(&["x"], vec![b' '; 8 << 20], None).await.unwrap();
    assert_eq!(rest(reply).await.unwrap(), "hello");
    assert_hello(&transport).await;
    assert!(life.finished(HANG_LIMIT).await);
}

#[tokio::test]
async fn a_server_that_does_not_read_is_waited_for_as_long_as_the_caller_wishes() {
    let (gave_up, begin) = oneshot::channel();
    let (url, life) = server(async |listener| {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; 1 << 20];
        begin.await.unwrap();
        while let Ok(1..) = stream.read(&mut read).await {}
    })
    .await;
    let transport = transport(&url, json!({}));
    let patience = Duration::from_millis(50);
    assert!(tokio::time::timeout(patience, transport.post(&["x"], large(), None)).await.is_err());
    gave_up.send(()).unwrap();
    assert!(life.finished(HANG_LIMIT).await, "the connection stays open");
}
