//! A fake model behind an OpenAI-compatible door, over plain TCP, in the test's own process.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::script::{Framing, Step};
use super::socket::{read_request, write};
use super::{Script, Task, within};

/// One request that came, and what became of its connection.
#[derive(Clone)]
pub struct Call {
    /// Such as `/v1/chat/completions`.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; null where it is not JSON.
    pub body: Value,
    /// When it was read.
    pub arrived: Instant,
    closed: watch::Receiver<Option<Instant>>,
    played: watch::Receiver<bool>,
}

impl Call {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The text of the last message.
    pub fn question(&self) -> String {
        let last = self.body["messages"].as_array().and_then(|messages| messages.last());
        let content = &last.unwrap_or(&Value::Null)["content"];
        content.as_str().map_or_else(|| content.to_string(), str::to_owned)
    }

    /// Waits until the gateway closes the connection, and says when it did.
    pub async fn closed(&self) -> Instant {
        let mut closed = self.closed.clone();
        let moment = within("the gateway to let go of an upstream call", closed.wait_for(Option::is_some)).await;
        moment.unwrap().unwrap()
    }

    /// Whether the gateway has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Waits until the script has been played to its end.
    pub async fn played(&self) {
        let mut played = self.played.clone();
        within("a script to be played", played.wait_for(|played| *played)).await.unwrap();
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    queue: VecDeque<Script>,
    words: Vec<(String, Script)>,
    always: Option<Script>,
}

impl State {
    fn choose(&mut self, question: &str) -> Script {
        if let Some((_, script)) = self.words.iter().find(|(word, _)| question.contains(word.as_str())) {
            return script.clone();
        }
        let script = self.queue.pop_front().or_else(|| self.always.clone());
        script.unwrap_or_else(|| Script::answer(&["Hello", " from", " the", " fake."]))
    }
}

/// The fake model. Dropped, it is gone with all its connections.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    count: Arc<watch::Sender<usize>>,
    listener: Mutex<Option<Task<()>>>,
}

impl Upstream {
    /// Listens on a free port; whatever it is asked, it says a short answer.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let count = Arc::new(watch::Sender::new(0));
        let task = Task::start(accept(listener, state.clone(), count.clone()));
        Self { address, state, count, listener: Mutex::new(Some(task)) }
    }

    /// A base URL where nobody listens.
    pub async fn nobody() -> String {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        format!("http://{address}/v1")
    }

    /// What goes into `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a script to the queue: one call each, in order.
    pub fn push(&self, script: Script) {
        self.state.lock().unwrap().queue.push_back(script);
    }

    /// Every question with that word in it gets this script, before the queue is looked at.
    pub fn when(&self, word: &str, script: Script) {
        self.state.lock().unwrap().words.insert(0, (word.to_owned(), script));
    }

    /// What is played when nothing else fits.
    pub fn always(&self, script: Script) {
        self.state.lock().unwrap().always = Some(script);
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Waits for the call numbered `n`, from 0.
    pub async fn call(&self, n: usize) -> Call {
        let mut count = self.count.subscribe();
        within("a call to the upstream", count.wait_for(|count| *count > n)).await.unwrap();
        self.calls()[n].clone()
    }

    /// From now on nobody listens here, and every open connection is gone.
    pub fn refuse(&self) {
        *self.listener.lock().unwrap() = None;
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, count: Arc<watch::Sender<usize>>) {
    let mut connections = Vec::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        connections.push(Task::start(serve(socket, state.clone(), count.clone())));
    }
}

async fn serve(socket: TcpStream, state: Arc<Mutex<State>>, count: Arc<watch::Sender<usize>>) {
    let mut buffer = Vec::new();
    while let Ok(Some((method, path, headers, body))) = read_request(&socket, &mut buffer).await {
        if method != "POST" {
            let _ =
                write(&socket, b"HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{\"object\":\"list\",\"data\":[]}").await;
            continue;
        }
        let (closed, closed_at) = watch::channel(None);
        let (played, played_at) = watch::channel(false);
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let call = Call { path, headers, body, arrived: Instant::now(), closed: closed_at, played: played_at };
        let script = {
            let mut state = state.lock().unwrap();
            let script = state.choose(&call.question());
            state.calls.push(call);
            script
        };
        count.send_modify(|count| *count += 1);
        let goes_on = tokio::select! {
            biased;
            goes_on = play(&socket, &script) => goes_on,
            () = gone(&socket) => false,
        };
        played.send_replace(true);
        if goes_on && next_request(&socket).await {
            continue;
        }
        closed.send_replace(Some(Instant::now()));
        return;
    }
}

/// Plays a script; whether the connection may carry another request.
async fn play(socket: &TcpStream, script: &Script) -> bool {
    for step in &script.steps {
        let written = match step {
            Step::Wire(bytes) => write(socket, bytes).await,
            Step::Body(bytes) => write_body(socket, script, bytes).await,
            Step::Repeat { times, every, piece } => repeat(socket, script, *times, *every, piece.as_ref()).await,
            Step::Wait(gate) => {
                gate.wait().await;
                Ok(())
            }
            Step::Linger(most, gate) => {
                let _ = tokio::time::timeout(*most, gate.opened()).await;
                Ok(())
            }
            Step::End => break,
            Step::Cut => return false,
            Step::Reset => {
                socket.set_zero_linger().unwrap();
                return false;
            }
            Step::Hang => std::future::pending().await,
        };
        if written.is_err() {
            // The other side is gone; `gone` says so at once.
            std::future::pending::<()>().await;
        }
    }
    match script.framing {
        Framing::Chunked => write(socket, b"0\r\n\r\n").await.is_ok(),
        Framing::Length => true,
        Framing::UntilClose => false,
    }
}

async fn repeat(
    socket: &TcpStream,
    script: &Script,
    times: usize,
    every: std::time::Duration,
    piece: &(dyn Fn(usize) -> Vec<u8> + Send + Sync),
) -> io::Result<()> {
    let start = tokio::time::Instant::now();
    for n in 0..times {
        if !every.is_zero() {
            tokio::time::sleep_until(start + every * u32::try_from(n).unwrap()).await;
        }
        write_body(socket, script, &piece(n)).await?;
        // Writes that never wait would keep the test's one thread from its readers.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn write_body(socket: &TcpStream, script: &Script, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(script.write_size) {
        if script.framing == Framing::Chunked {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            write(socket, &chunk).await?;
        } else {
            write(socket, piece).await?;
        }
    }
    Ok(())
}

/// Ready when the other side has closed or reset the connection.
async fn gone(socket: &TcpStream) {
    if next_request(socket).await {
        std::future::pending().await
    }
}

/// Waits for the other side: true when it sends something, false when it is gone.
async fn next_request(socket: &TcpStream) -> bool {
    matches!(socket.peek(&mut [0]).await, Ok(1))
}
