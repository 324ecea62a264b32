//! The raw way beside hyper's client: given the same bytes, in any pieces, both tell the same, or both refuse.

use ::hyper::client::conn::http1;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What we refuse on purpose although hyper reads it, with an example each.
const STRICTER: [(&str, &str); 10] = [
    ("what came is no HTTP", "\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ("a line of the head does not end as lines do", "HTTP/1.1 200 OK\nx: y\r\n\r\n"),
    (
        "both a transfer coding and a length",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a transfer coding that is not known", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("a change of protocol that nobody asked for", "HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"),
    ("too many interim answers", INTERIMS),
    ("the head is too long", LONG_HEAD),
    (
        "a chunk's extension holds a control character",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;\u{1}\r\na\r\n0\r\n\r\n",
    ),
    ("the line of a chunk's size is too long", LONG_LINE),
    ("a trailer does not end as lines do", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\nx: y\r\n\r\n"),
];
const INTERIMS: &str = "INTERIMS";
const LONG_HEAD: &str = "LONG_HEAD";
const LONG_LINE: &str = "LONG_LINE";

/// What hyper makes of an answer that comes in these pieces.
async fn theirs(pieces: &[&[u8]]) -> Option<Seen> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let asking = async {
        let request = Request::post("http://h/").body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let (head, mut body) = sender.send_request(request).await.ok()?.into_parts();
        let mut seen = Seen { status: head.status.as_u16(), headers: head.headers, body: Vec::new(), broken: None };
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => seen.body.extend(frame.into_data().unwrap_or_default()),
                Err(error) => {
                    seen.broken = Some(error.to_string());
                    break;
                }
            }
        }
        drop(sender);
        Some(seen)
    };
    let (seen, _, ()) = tokio::join!(asking, connection, write_pieces(server, pieces));
    seen
}

/// Fails unless both tell the same, or what they differ in is on the list; says what that is.
async fn compared(pieces: &[&[u8]]) -> Option<&'static str> {
    let (ours, theirs) = (ours(pieces).await.0, theirs(pieces).await);
    if let (Ok(ours), Some(theirs)) = (&ours, &theirs) {
        assert_eq!((ours.status, &ours.headers), (theirs.status, &theirs.headers));
    }
    let refused = match (&ours, &theirs) {
        (Err(_), None) => return None,
        (Ok(Seen { broken, body, .. }), Some(theirs))
            if broken.is_some() == theirs.broken.is_some() && *body == theirs.body =>
        {
            return None;
        }
        (Err(ours), Some(_)) if ours.garbled => ours.cause.clone(),
        // Where we broke off on purpose, hyper may have found another fault later on.
        (Ok(Seen { broken: Some(cause), body, .. }), Some(theirs)) if theirs.body.starts_with(body) => cause.clone(),
        _ => String::new(),
    };
    let known = STRICTER.iter().map(|(cause, _)| *cause).find(|cause| *cause == refused);
    assert!(known.is_some(), "ours: {ours:?}\ntheirs: {theirs:?}");
    known
}

#[tokio::test]
async fn we_are_stricter_where_the_list_says_so() {
    for (cause, example) in STRICTER {
        let example = match example {
            INTERIMS => format!("{}HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 C\r\n\r\n".repeat(17)),
            LONG_HEAD => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(65 << 10)),
            LONG_LINE => {
                let line = "x".repeat(1100);
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{line}\r\na\r\n0\r\n\r\n")
            }
            example => example.to_owned(),
        };
        assert_eq!(compared(&[example.as_bytes()]).await, Some(cause), "{example}");
    }
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

/// Something like an answer: mostly right, with what goes wrong in each of its parts.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let interim = word(&["", "", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"]);
    let status = word(&[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 429 Slow down\r\n",
        "HTTP/1.1 204 No\r\n",
        "HTTP/1.1 304 Old\r\n",
        "HTTP/1.1 101 Up\r\n",
        "HTTP/1.1 999 \r\n",
        "HTTP/2.0 200 OK\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 \u{e9}\r\n",
    ]);
    let fields = prop::collection::vec(
        word(&[
            "content-type: text/event-stream\r\n",
            "Set-Cookie: a\r\nset-cookie: b\r\n",
            "x:\t padded \t\r\n",
            "x: \u{e9}\r\n",
            "connection: close\r\n",
            "connection: keep-alive\r\n",
            "x: folded\r\n twice\r\n",
            "x : y\r\n",
            "x: y\n",
            "content-length: 11\r\n",
            "content-length: 11, 11\r\n",
            "content-length: 3\r\n",
            "content-length: x\r\n",
            "transfer-encoding: Chunked\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: identity\r\n",
        ]),
        0..3,
    )
    .prop_map(|fields| fields.concat());
    let framing =
        word(&["", "content-length: 11\r\n", "transfer-encoding: chunked\r\n", "transfer-encoding: chunked\r\n"]);
    let chunk = word(&[
        "1\r\na\r\n",
        "b\r\nhello world\r\n",
        "0B\r\nhello world\r\n",
        "00000000000000000003\r\nabc\r\n",
        "3 \t\r\nabc\r\n",
        "3;x=\"y\"\r\nabc\r\n",
        "3 ; x\r\nabc\r\n",
        "4\r\nabc\r\n",
        "2\r\nabc\r\n",
        "3\nabc\n",
        "ffffffffffffffff\r\nabc",
        "fffffffffffffffff\r\nabc",
        "0\r\n\r\n",
    ]);
    let end = word(&[
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        "0\r\nx: y\r\nz\r\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "000\r\n\r\n",
        "",
    ]);
    let chunks = (prop::collection::vec(chunk, 0..4), end).prop_map(|(chunks, end)| chunks.concat() + &end);
    let body = prop_oneof![word(&["hello world", "hello world!", "hello", ""]), chunks];
    let parts = (interim, status, fields, framing, body);
    parts.prop_map(|(interim, status, fields, framing, body)| {
        format!("{interim}{status}{fields}{framing}\r\n{body}").into_bytes()
    })
}

/// One byte more, less or other than it was.
fn mutate(bytes: &mut Vec<u8>, at: Index, byte: u8, how: u8) {
    let at = at.index(bytes.len() + 1);
    match how {
        0 => bytes.insert(at, byte),
        1 if at < bytes.len() => bytes[at] = byte,
        2 if at < bytes.len() => {
            bytes.remove(at);
        }
        _ => bytes.truncate(at),
    }
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(b"\r\n\t :;,0\0\x01\x7f\x80".as_slice()), any::<u8>()];
    let mutations = prop::collection::vec((any::<Index>(), byte, 0_u8..4), 0..3);
    (answer(), mutations).prop_map(|(mut bytes, mutations)| {
        mutations.into_iter().for_each(|(at, byte, how)| mutate(&mut bytes, at, byte, how));
        bytes
    })
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// More than usual: an answer has many parts to go wrong in.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.max(1024), ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn both_tell_the_same(
        bytes in prop_oneof![4 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..100)],
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        block_on(async {
            compared(&cut(&bytes, &cuts)).await;
        });
    }

    #[test]
    fn where_the_reads_are_cut_does_not_matter(bytes in mutated(), cuts in prop::collection::vec(any::<Index>(), 0..8)) {
        block_on(async {
            let whole = format!("{:?}", ours(&[&bytes]).await.0);
            assert_eq!(format!("{:?}", ours(&cut(&bytes, &cuts)).await.0), whole);
            assert_eq!(format!("{:?}", ours(&bytes.chunks(1).collect::<Vec<_>>()).await.0), whole);
        });
    }
}
