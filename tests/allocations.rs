//! What a delta allocates on its way from an upstream's socket to the turn: nothing. And what an open stream holds
//! meanwhile: next to nothing.
#![cfg(test)]

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use serde_json::json;
use tidegate::upstream::openai::Openai;
use tidegate::upstream::transport::Transport;
use tidegate::upstream::{Answer, Batch, Call, Line, Part, Progress, Speaker, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);
/// Deltas after which every buffer has its size.
const FIRST: usize = 10;
const DELTAS: usize = 200;
/// The most that an open stream may hold, in bytes.
const HELD: i64 = 2 << 10;

/// An answer that is being heard, and what that has cost.
struct Heard {
    answer: Box<dyn Answer>,
    server: TcpStream,
    /// Bytes held because of it.
    held: i64,
    /// How often something was allocated, after the first few deltas.
    allocations: u64,
}

fn openai(url: &str) -> Openai {
    let settings: tidegate::upstream::settings::Settings =
        serde_json::from_value(json!({"name": "a", "kind": "openai", "base_url": url})).unwrap();
    Openai {
        name: "a".into(),
        transport: Transport::new(&settings, None, PATIENCE).unwrap().into(),
        rename: settings.rename,
        extra_body: settings.extra_body,
        first_token: PATIENCE,
        idle: PATIENCE,
        event_bytes: 1 << 20,
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    stream
}

/// Counts what a poll allocates.
fn count<T>(counted: &mut AllocationInfo, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
    let mut polled = Poll::Pending;
    let more = measure(|| polled = poll());
    counted.count_total += more.count_total;
    counted.bytes_current += more.bytes_current;
    polled
}

async fn hear(openai: &Openai, listener: &TcpListener, batch: &mut Batch) -> Heard {
    let lines = vec![Line { speaker: Speaker::User, text: "Hi".to_owned() }];
    let call = Call { turn_id: "turn_1".into(), model: "m".to_owned(), lines, temperature: None, max_tokens: None };
    let mut counted = AllocationInfo::default();
    let mut asking = pin!(openai.open(call));
    let asking = poll_fn(|cx| count(&mut counted, || asking.as_mut().poll(cx)));
    let (mut server, answer) = tokio::join!(accept(listener), asking);
    let mut answer = answer.ok().unwrap();
    for n in 0..FIRST + DELTAS {
        if n == FIRST {
            counted.count_total = 0;
        }
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": format!("word {n:03}")}}]});
        let event = format!("data: {chunk}\n\n");
        server.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        let progress = poll_fn(|cx| count(&mut counted, || answer.poll_next(cx, batch))).await;
        assert_eq!(progress, Ok(Progress::More));
        assert!(batch.parts().eq([Part::Delta(&format!("word {n:03}"))]));
        batch.clear();
    }
    Heard { answer, server, held: counted.bytes_current, allocations: counted.count_total }
}

#[tokio::test]
async fn a_delta_allocates_nothing_and_an_open_stream_holds_little() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let openai = openai(&format!("http://{}", listener.local_addr().unwrap()));
    let mut batch = Batch::default();
    // The first has to make what all streams share.
    let first = hear(&openai, &listener, &mut batch).await;
    let second = hear(&openai, &listener, &mut batch).await;
    assert_eq!((first.allocations, second.allocations), (0, 0), "in {DELTAS} deltas");
    assert!(second.held <= HELD, "an open stream holds {} bytes", second.held);
    drop((first.answer, first.server, second.answer, second.server));
}
