//! What is read, and what is refused, byte by byte.

use super::*;
use crate::upstream::transport::raw::exchange::{HEAD_BYTES, INTERIMS};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// What becomes of an answer, however it is cut: its body, or why there is none.
async fn body(answer: impl AsRef<[u8]>) -> (Result<String, String>, bool) {
    let answer = answer.as_ref();
    let (whole, kept) = ours(&[answer]).await;
    // In two pieces, cut everywhere, and byte by byte.
    let cuts: Vec<Vec<&[u8]>> = if answer.len() < 200 {
        let halves = (1..answer.len()).map(|at| vec![&answer[..at], &answer[at..]]);
        halves.chain([answer.chunks(1).collect()]).collect()
    } else {
        vec![answer.chunks(1000).collect()]
    };
    for cut in cuts {
        let (again, kept_again) = ours(&cut).await;
        let text = |seen: &Result<Seen, Unanswered>| format!("{seen:?}");
        assert_eq!(text(&again), text(&whole), "{:?}", String::from_utf8_lossy(answer));
        // What comes too late is found when the connection is next looked at.
        assert!(kept_again || !kept, "{:?}", String::from_utf8_lossy(answer));
    }
    let told = match whole {
        Ok(Seen { broken: Some(cause), .. }) => Err(cause),
        Ok(seen) => Ok(String::from_utf8(seen.body).unwrap()),
        Err(Unanswered { garbled, cause }) => Err(format!("{}{cause}", if garbled { "garbled: " } else { "" })),
    };
    (told, kept)
}

async fn assert_read(answer: impl AsRef<[u8]>, expected: &str, kept: bool) {
    assert_eq!(body(answer).await, (Ok(expected.to_owned()), kept));
}

async fn assert_refused(answer: impl AsRef<[u8]>, cause: &str) {
    let answer = answer.as_ref();
    let (told, kept) = body(answer).await;
    let told = told.expect_err(&String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    assert!(told.contains(cause) && !kept, "{told:?} is not {cause:?}");
}

#[tokio::test]
async fn a_body_ends_where_its_head_says() {
    assert_read("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello", true).await;
    assert_read("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\nContent-Length: 5\r\n\r\nhello", "hello", true).await;
    assert_read("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", true).await;
    assert_read("HTTP/1.1 200\r\n\r\nhello", "hello", false).await;
    assert_read("HTTP/1.1 204 No\r\n\r\n", "", true).await;
    assert_read(format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"), "hello", true).await;
    assert_read(format!("{CHUNKED}0\r\n\r\n"), "", true).await;
    assert_read(
        format!("{CHUNKED}05 ;a=\"b;c\"\r\nhello\r\nA\r\n, world...\r\n000\t\r\n\r\n"),
        "hello, world...",
        true,
    )
    .await;
    assert_read(format!("{CHUNKED}1\r\na\r\n0\r\nx: y\r\nz: \r\n\r\n"), "a", true).await;
}

#[tokio::test]
async fn a_connection_is_kept_only_where_both_sides_wish() {
    let answer = |version: &str, field: &str| format!("HTTP/{version} 200 OK\r\n{field}content-length: 1\r\n\r\na");
    assert_read(answer("1.1", "connection: close\r\n"), "a", false).await;
    assert_read(answer("1.1", "connection: keep-alive\r\nconnection: x, Close\r\n"), "a", false).await;
    assert_read(answer("1.0", ""), "a", false).await;
    assert_read(answer("1.0", "connection: Keep-Alive\r\n"), "a", true).await;
    assert_read(answer("1.0", "connection: keep-alive, close\r\n"), "a", false).await;
    // A body that must not be there may follow all the same.
    assert_read("HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", "", false).await;
}

#[tokio::test]
async fn bytes_after_the_end_are_nobodys() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nx".to_owned(),
        format!("{CHUNKED}1\r\na\r\n0\r\n\r\n\r\n"),
    ] {
        let (seen, kept) = ours(&[answer.as_bytes()]).await;
        assert!(seen.unwrap().broken.is_none() && !kept, "{answer}");
    }
}

#[tokio::test]
async fn interim_answers_are_read_over_within_a_bound() {
    let interim = "HTTP/1.1 103 Early\r\nlink: x\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
    assert_read(format!("HTTP/1.1 100 Continue\r\n\r\n{interim}{answer}"), "a", true).await;
    assert_read(format!("{}{answer}", interim.repeat(INTERIMS)), "a", true).await;
    assert_refused(interim.repeat(INTERIMS + 1), "garbled: too many interim answers").await;
    assert_refused("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "garbled: a change of protocol").await;
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused() {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    for (answer, cause) in [
        (head("content-length: 1\r\ntransfer-encoding: chunked\r\n"), "both a transfer coding and a length"),
        (head("content-length: 1\r\ncontent-length: 2\r\n"), "several that differ"),
        (head("content-length: 1, 2\r\n"), "several that differ"),
        (head("content-length: +1\r\n"), "a length that is none"),
        (head("content-length: 0x1\r\n"), "a length that is none"),
        (head("content-length: \r\n"), "a length that is none"),
        (head("content-length: 1,\r\n"), "a length that is none"),
        (head("content-length: 99999999999999999999\r\n"), "a length that is none"),
        (head("transfer-encoding: gzip, chunked\r\n"), "a transfer coding that is not known"),
        (head("transfer-encoding: chunked, chunked\r\n"), "a transfer coding that is not known"),
        (head("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), "that is not known"),
        (head("transfer-encoding: identity\r\n"), "a transfer coding that is not known"),
        (head("transfer-encoding: xchunked\r\n"), "a transfer coding that is not known"),
        (head("transfer-encoding:\r\n"), "a transfer coding that is not known"),
        (head("x: a\r\n b\r\n"), "cannot be read"),
        (head(" x: a\r\n"), "cannot be read"),
        (head("x : a\r\n"), "cannot be read"),
        (head("x\r\n"), "cannot be read"),
        (head(": a\r\n"), "cannot be read"),
        (head("x: a\rb\r\n"), "cannot be read"),
        (head("x: a\0b\r\n"), "cannot be read"),
        (head("x: a\n"), "does not end as lines do"),
        ("HTTP/1.1 200 OK\n\n".to_owned(), "does not end as lines do"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), "a transfer coding in HTTP/1.0"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(), "is no HTTP"),
        ("HTTP/2.0 200 OK\r\n\r\n".to_owned(), "cannot be read"),
        ("HTTP/1.1 099 OK\r\n\r\n".to_owned(), "the status is none"),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "cannot be read"),
        ("ICY 200 OK\r\n\r\n".to_owned(), "is no HTTP"),
        ("<html></html>".to_owned(), "is no HTTP"),
    ] {
        assert_refused(&answer, "garbled: ").await;
        assert_refused(&answer, cause).await;
    }
}

#[tokio::test]
async fn a_head_has_a_bound() {
    let field = format!("x: {}\r\n", "y".repeat(1000));
    let head = |times: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", field.repeat(times));
    assert_read(head(60), "", true).await;
    assert_refused(head(70), "garbled: the head is too long").await;
    assert_refused("HTTP/1.1 200 ".to_owned() + &"y".repeat(HEAD_BYTES), "garbled: the head is too long").await;
    assert_read(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100)), "", false).await;
    assert_refused(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101)), "garbled: the head cannot").await;
}

#[tokio::test]
async fn a_chunk_that_breaks_the_rules_breaks_the_body() {
    let long = |text: &str| format!("1;{}\r\na\r\n", text.repeat(2000));
    for (chunks, cause) in [
        ("\r\n", "a chunk's size is no number"),
        (" 1\r\na\r\n", "a chunk's size is no number"),
        ("g\r\n", "a chunk's size is no number"),
        ("0x1\r\na\r\n", "a chunk's size is no number"),
        ("-1\r\na\r\n", "a chunk's size is no number"),
        ("+1\r\na\r\n", "a chunk's size is no number"),
        ("1 1\r\na\r\n", "a chunk's size is no number"),
        ("1\na\n", "a chunk's size is no number"),
        ("1\ra\r\n", "does not end as lines do"),
        ("1;x\ny\r\na\r\n", "holds a control character"),
        ("1;x\0\r\na\r\n", "holds a control character"),
        ("1;x\ry\r\na\r\n", "does not end as lines do"),
        ("10000000000000000\r\na", "beyond all bounds"),
        ("1\r\nab\r\n", "longer than its size"),
        ("1\r\na\n", "longer than its size"),
        ("1\r\na\rb", "longer than its size"),
        ("0\r\nx: y\n\r\n", "a trailer does not end"),
        ("0\r\nx: y\r\r\n\r\n", "a trailer does not end"),
        ("0\r\n\rx", "a trailer does not end"),
        ("0\r\n\n", "a trailer does not end"),
        ("0\r\nno field\r\n\r\n", "the trailers cannot be read"),
        ("0\r\n x: y\r\n\r\n", "the trailers cannot be read"),
        (&long("x"), "too long"),
        (&format!("{}1\r\na\r\n", "0".repeat(2000)), "too long"),
        (&format!("0\r\n{}", "x: y\r\n".repeat(5000)), "too long"),
        (&format!("0\r\n{}\r\n", "x: y\r\n".repeat(101)), "the trailers cannot be read"),
    ] {
        assert_refused(format!("{CHUNKED}{chunks}"), cause).await;
    }
}

#[tokio::test]
async fn a_body_cut_short_is_told_with_what_came() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello".to_owned(),
        format!("{CHUNKED}6\r\nhello"),
        format!("{CHUNKED}5\r\nhello"),
        format!("{CHUNKED}5\r\nhello\r\n"),
        format!("{CHUNKED}5\r\nhello\r\n0\r\n"),
        format!("{CHUNKED}5\r\nhello\r\n0\r\n\r"),
        format!("{CHUNKED}5\r\nhello\r\nx\r\n"),
    ] {
        for piece in [1, 1000] {
            let (seen, kept) = ours(&answer.as_bytes().chunks(piece).collect::<Vec<_>>()).await;
            let seen = seen.unwrap();
            assert_eq!((seen.body.as_slice(), seen.broken.is_some(), kept), (b"hello".as_slice(), true, false));
        }
    }
    for answer in ["", "HTTP/1.1 200 OK\r\nx: y\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let unanswered = ours(&[answer.as_bytes()]).await.0.unwrap_err();
        assert!(!unanswered.garbled, "{unanswered:?}");
    }
}

#[tokio::test]
async fn what_comes_with_one_read_is_lent_at_once() {
    let chunks = "1\r\na\r\n2;x\r\nbc\r\n3\r\ndef\r\n".repeat(100);
    let (client, mut server) = tokio::io::duplex(1 << 20);
    server.write_all(CHUNKED.as_bytes()).await.unwrap();
    let (.., mut raw) = exchange(client, sending(), None).await.unwrap();
    server.write_all(chunks.as_bytes()).await.unwrap();
    let lent = poll_fn(|cx| raw.poll_read(cx, <[u8]>::to_vec)).await.unwrap().unwrap();
    assert_eq!(lent, b"abcdef".repeat(100));
}
