//! What a delta allocates on its way from an upstream's socket to the turn: nothing. On its whole way to the reader's
//! socket and into the record: what the log, the commits and the fold take now and then. And what an open stream of an
//! upstream holds meanwhile: next to nothing.
#![cfg(test)]

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use serde_json::json;
use tidegate::config::load::File;
use tidegate::config::{Flags, load};
use tidegate::lifecycle::Lifecycle;
use tidegate::upstream::openai::Openai;
use tidegate::upstream::transport::Transport;
use tidegate::upstream::{Answer, Batch, Call, Line, Part, Progress, Speaker, Ticks, Upstream};
use tidegate::{Parts, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

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
        transport: Transport::new(&settings, None, PATIENCE, Ticks::default()).unwrap().into(),
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
    let call = Call {
        turn_id: "turn_1".into(),
        model: "m".to_owned(),
        lines,
        temperature: None,
        max_tokens: None,
        traceparent: None,
    };
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

/// What every question is, before the number of deltas it asks for.
const QUESTION: &str = "deltas: ";
/// So far apart that a delta is seldom read together with another.
const APART: Duration = Duration::from_micros(100);
/// Deltas of the two turns that are compared: what only a turn costs is in both.
const FEW: usize = 300;
const MANY: usize = 2_300;
/// The most that may be allocated for a delta, in all, by what goes with several of them: a segment of the log, a commit.
const A_DELTA: f64 = 0.9;

/// The model: answers a question with the deltas it asks for. There is no word in them, so that nothing is brought into the index
/// of words meanwhile, by a task on the thread that is counted.
fn answer(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"}") {
        let mut room = [0; 4096];
        let read = stream.read(&mut room)?;
        assert!(read > 0, "the question ended early");
        asked.extend_from_slice(&room[..read]);
    }
    let asked = String::from_utf8(asked).unwrap();
    let wanted = asked.split(QUESTION).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let choice =
        |delta, reason: Option<&str>| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let mut say = |event: &str| stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    for n in 0..wanted.parse().unwrap() {
        say(&format!("data: {}\n\n", choice(json!({"content": format!("** {} ** ", ["--", "++"][n % 2])}), None)))?;
        thread::sleep(APART);
    }
    say(&format!("data: {}\n\ndata: [DONE]\n\n", choice(json!({}), Some("stop"))))?;
    say("")
}

/// Asks for so many deltas and hears them all.
fn ask(server: SocketAddr, accept: &str, deltas: usize) -> std::io::Result<()> {
    let body = json!({"message": format!("{QUESTION}{deltas}")}).to_string();
    let mut stream = std::net::TcpStream::connect(server)?;
    let head = format!(
        "POST /v1/chat/stream HTTP/1.1\r\nhost: {server}\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
    );
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())?;
    let mut heard = String::new();
    let mut room = [0; 4096];
    while !heard.ends_with("\r\n0\r\n\r\n") {
        let read = stream.read(&mut room)?;
        assert!(read > 0, "the answer ended early: {heard}");
        heard.push_str(std::str::from_utf8(&room[..read]).unwrap());
    }
    assert_eq!(heard.matches("\"** ").count(), deltas, "{heard}");
    Ok(())
}

/// What is asked of whom.
struct Question<'a> {
    model: &'a std::net::TcpListener,
    server: SocketAddr,
    accept: &'a str,
    deltas: usize,
}

impl Question<'_> {
    /// What the server's thread allocates from the question to the end of the answer.
    fn allocations(&self, runtime: &Runtime, serving: impl Future) -> u64 {
        let (heard, all) = oneshot::channel();
        thread::scope(|scope| {
            scope.spawn(|| answer(self.model.accept().unwrap().0).unwrap());
            scope.spawn(|| {
                ask(self.server, self.accept, self.deltas).unwrap();
                let _listening = heard.send(());
            });
            measure(|| {
                runtime.block_on(async {
                    tokio::select! {
                        told = all => told.unwrap(),
                        _ = serving => panic!("the server ended"),
                    }
                });
            })
            .count_total
        })
    }
}

#[test]
fn a_delta_allocates_next_to_nothing_from_socket_to_socket() {
    let home = tempfile::tempdir().unwrap();
    let model = &std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // A question that never comes is not waited for.
    rustix::net::sockopt::set_socket_timeout(model, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    let settings = toml::toml! {
        default_model = "m"
        [[upstreams]]
        name = "a"
        kind = "openai"
        models = ["*"]
    };
    let mut settings = settings.to_string();
    settings += &format!("base_url = \"http://{}\"\n", model.local_addr().unwrap());
    let file = File { name: "settings".to_owned(), text: settings };
    let database_url = Some(format!("sqlite://{}", home.path().join("record.db").display()));
    let flags = Flags { database_url, ..Flags::default() };
    let config = load(Some(&file), Vec::<(String, String)>::new(), flags).unwrap().config;
    // One thread, which is counted; SQLite's own does not go with the deltas.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let life = Lifecycle::new();
    let (server, serving) = runtime.block_on(async {
        let parts = Parts::open(&config, &life).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), serve(config, parts, listener, life.clone()))
    });
    let mut serving = Box::pin(serving);
    for accept in ["application/x-ndjson", "text/event-stream"] {
        let [_warm, few, many] = [FEW, FEW, MANY].map(|deltas| {
            let question = Question { model, server, accept, deltas };
            question.allocations(&runtime, &mut serving)
        });
        let each = (many as f64 - few as f64) / (MANY - FEW) as f64;
        println!("{accept}: {few} for {FEW} deltas, {many} for {MANY}: {each:.3} a delta");
        assert!(each <= A_DELTA, "{accept}: {each:.3} allocations a delta, {few} for {FEW}, {many} for {MANY}");
    }
    life.soft().cancel();
    runtime.block_on(serving).unwrap();
}
