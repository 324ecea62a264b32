//! The raw way, from outside: over pipes whose every cut the test commands, over sockets, and beside another client.

mod connections;
mod floods;
mod hyper;
mod refusals;
mod requests;
mod tls;

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderMap;
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::exchange::exchange;
use super::pool::Pool;
use super::sending::Sending;
use super::ticks::Ticks;
use crate::lifecycle::Lifecycle;
use crate::upstream::transport::{Reply, Transport, Unanswered};

const HANG_LIMIT: Duration = Duration::from_secs(30);

/// What a client made of an answer.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Why it broke off, if it did.
    broken: Option<String>,
}

/// Writes these pieces, each of them to be read on its own, and closes.
async fn write_pieces(mut pipe: DuplexStream, pieces: &[&[u8]]) {
    for piece in pieces {
        // A client that has seen enough hangs up.
        if pipe.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn sending() -> Sending {
    Sending::post(&Url::parse("http://h/").unwrap(), &HeaderMap::new(), b"{}")
}

/// What our reader makes of an answer that comes in these pieces, and whether the connection was kept.
async fn ours(pieces: &[&[u8]]) -> (Result<Seen, Unanswered>, bool) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let pool = Arc::new(Pool::default());
    let reading = async {
        let (status, headers, mut raw) = exchange(client, sending(), Some(pool.clone())).await?;
        let mut seen = Seen { status: status.as_u16(), headers, body: Vec::new(), broken: None };
        loop {
            match poll_fn(|cx| raw.poll_read(cx, |bytes| seen.body.extend_from_slice(bytes))).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    seen.broken = Some(error.cause);
                    return Ok(seen);
                }
                None => return Ok(seen),
            }
        }
    };
    let (seen, ()) = tokio::join!(reading, write_pieces(server, pieces));
    (seen, pool.last(Instant::now()).is_some())
}

/// The bytes, cut at these places.
fn cut<'a>(bytes: &'a [u8], cuts: &[proptest::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
}

/// A server of a test: what it did not like is the test's panic.
struct Served {
    done: oneshot::Receiver<std::thread::Result<()>>,
    _life: Lifecycle,
}

impl Served {
    /// Waits until it has done all it was to do, and says whether it has.
    async fn finished(self, patience: Duration) -> bool {
        match tokio::time::timeout(patience, self.done).await {
            Ok(Ok(Ok(()))) => true,
            Ok(Ok(Err(panic))) => std::panic::resume_unwind(panic),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

/// A server that does this with one connection after the other.
async fn server<F>(act: impl FnOnce(TcpListener) -> F) -> (String, Served)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, done) = oneshot::channel();
    let life = Lifecycle::new();
    let acting = AssertUnwindSafe(act(listener)).catch_unwind();
    life.spawn("server", async move {
        let _nobody_waits = told.send(acting.await);
    });
    (url, Served { done, _life: life })
}

/// Reads one request, head and body.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = Vec::new();
    loop {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0, "the request broke off");
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                return text.into_owned();
            }
        }
    }
}

/// Accepts a connection, reads a request and answers it.
async fn serve(listener: &TcpListener, answer: &str) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    request(&mut stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

fn transport(url: &str, fields: Value) -> Transport {
    let mut settings = json!({"name": "a", "kind": "openai", "base_url": url});
    settings.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let ticks = Ticks::default();
    Lifecycle::new().spawn("ticks", ticks.clone().run(CancellationToken::new()));
    let transport = Transport::new(&serde_json::from_value(settings).unwrap(), None, HANG_LIMIT, ticks).unwrap();
    assert!(transport.raw.is_some());
    transport
}

async fn post(transport: &Transport) -> Result<Reply, Unanswered> {
    tokio::time::timeout(HANG_LIMIT, transport.post(&["x"], b"{}".to_vec(), None)).await.expect("the call hangs")
}

/// The rest of an answer.
async fn rest(mut reply: Reply) -> Result<String, Unanswered> {
    let mut whole = Vec::new();
    while let Some(bytes) = tokio::time::timeout(HANG_LIMIT, reply.body.next()).await.expect("the body hangs") {
        whole.extend_from_slice(&bytes?);
    }
    Ok(String::from_utf8(whole).unwrap())
}
