//! What the fake upstream does with one call.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Gate;

/// The text of the delta numbered `n`.
pub fn stamp(n: usize) -> String {
    format!("[{n}]")
}

/// Fails unless `text` is the stamps from 0, each once and in order; says how many there are.
#[track_caller]
pub fn assert_stamps(text: &str) -> usize {
    let mut rest = text;
    let mut count = 0;
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix(&stamp(count)) else {
            panic!("delta {count} is lost, doubled or out of order: …{}", rest.chars().take(40).collect::<String>());
        };
        rest = after;
        count += 1;
    }
    count
}

/// How the end of the body is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// By closing the connection.
    UntilClose,
    /// `Content-Length`; the head has it already.
    Length,
}

/// One thing to do.
#[derive(Clone)]
pub enum Step {
    /// Write these bytes as they are.
    Wire(Vec<u8>),
    /// Write these bytes of the body.
    Body(Vec<u8>),
    /// Write many pieces of the body, so long apart.
    Repeat { times: usize, every: Duration, piece: Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync> },
    /// Wait for the test.
    Wait(Gate),
    /// Wait so long, or until the test lets everybody through.
    Linger(Duration, Gate),
    /// End the body by the rules.
    End,
    /// Close the connection in the middle of the body.
    Cut,
    /// Reset the connection.
    Reset,
    /// Say nothing more, and wait for the other side to close.
    Hang,
}

/// What the fake upstream does with one call: a list of steps, by default a 200 with an event stream. A
/// script that does not say how it ends closes the body cleanly.
#[derive(Clone)]
pub struct Script {
    pub(super) framing: Framing,
    pub(super) write_size: usize,
    pub(super) line_end: &'static str,
    pub(super) steps: Vec<Step>,
    stamped: usize,
}

impl Script {
    fn bare(framing: Framing) -> Self {
        Self { framing, write_size: usize::MAX, line_end: "\n", steps: Vec::new(), stamped: 0 }
    }

    /// 200 and an event stream with nothing in it yet.
    pub fn new() -> Self {
        Self::bare(Framing::Chunked).wire(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
        )
    }

    /// The same, with a body that ends when the connection does.
    pub fn until_close() -> Self {
        Self::bare(Framing::UntilClose)
            .wire("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    }

    /// A whole answer: these deltas, usage, `stop`, `[DONE]`.
    pub fn answer(deltas: &[&str]) -> Self {
        let script = deltas.iter().fold(Self::new().role(), |script, text| script.delta(text));
        script.finish("stop").usage(11, deltas.len() as u64).done()
    }

    /// A status with headers and a JSON body.
    pub fn status(status: u16, headers: &[(&str, &str)], body: &Value) -> Self {
        let body = body.to_string();
        let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            head.push_str("content-type: application/json\r\n");
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        Self::bare(Framing::Length).wire(head + "\r\n" + &body)
    }

    /// These bytes, head and all.
    pub fn exactly(bytes: impl Into<Vec<u8>>) -> Self {
        Self::bare(Framing::Length).wire(bytes)
    }

    /// Takes the request and never answers.
    pub fn silence() -> Self {
        Self::bare(Framing::Length).hang()
    }

    /// Reads the request, then resets the connection.
    pub fn slam() -> Self {
        Self::bare(Framing::Length).reset()
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Writes these bytes as they are, outside the body's framing.
    pub fn wire(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Wire(bytes.into()))
    }

    /// Writes these bytes of the body.
    pub fn raw(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Body(bytes.into()))
    }

    /// From here on lines end so: `\n`, `\r\n` or `\r`.
    pub fn line_end(mut self, line_end: &'static str) -> Self {
        self.line_end = line_end;
        self
    }

    /// The whole body is written in pieces of at most so many bytes, each its own packet.
    pub fn writes_of(mut self, bytes: usize) -> Self {
        self.write_size = bytes;
        self
    }

    /// A byte order mark.
    pub fn bom(self) -> Self {
        self.raw("\u{feff}")
    }

    /// A comment, as some gateways send while they think.
    pub fn comment(self, text: &str) -> Self {
        let line = format!(": {text}{0}{0}", self.line_end);
        self.raw(line)
    }

    /// One `data:` event.
    pub fn data(self, data: &str) -> Self {
        let bytes = event(data, self.line_end);
        self.raw(bytes)
    }

    /// The chunk that OpenAI opens with.
    pub fn role(self) -> Self {
        self.data(&chunk(&json!({"role": "assistant", "content": ""}), &Value::Null))
    }

    /// A piece of the answer.
    pub fn delta(self, text: &str) -> Self {
        self.data(&chunk(&json!({"content": text}), &Value::Null))
    }

    /// A piece of the reasoning.
    pub fn reasoning(self, text: &str) -> Self {
        self.data(&chunk(&json!({"reasoning_content": text}), &Value::Null))
    }

    /// The next `times` stamps, one delta each.
    pub fn stamped(self, times: usize) -> Self {
        self.paced(times, Duration::ZERO)
    }

    /// The same, so long apart.
    pub fn paced(self, times: usize, every: Duration) -> Self {
        let from = self.stamped;
        let mut script = self.deltas(times, every, move |n| stamp(from + n));
        script.stamped += times;
        script
    }

    /// The next `times` stamps, so long apart until the gate is open, then at once.
    pub fn paced_until(mut self, times: usize, every: Duration, gate: &Gate) -> Self {
        for _ in 0..times {
            self = self.step(Step::Linger(every, gate.clone())).stamped(1);
        }
        self
    }

    /// So many deltas, so long apart, each made when it is sent.
    pub fn deltas(self, times: usize, every: Duration, text: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        let line_end = self.line_end;
        let piece = move |n| event(&chunk(&json!({"content": text(n)}), &Value::Null), line_end);
        self.step(Step::Repeat { times, every, piece: Arc::new(piece) })
    }

    /// OpenAI's usage chunk.
    pub fn usage(self, prompt: u64, completion: u64) -> Self {
        let usage =
            json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion});
        self.data(
            &json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": usage}).to_string(),
        )
    }

    /// OpenAI's end mark.
    pub fn finish(self, reason: &str) -> Self {
        self.data(&chunk(&json!({}), &json!(reason)))
    }

    /// `[DONE]`.
    pub fn done(self) -> Self {
        self.data("[DONE]")
    }

    /// An error object inside the stream.
    pub fn error(self, message: &str) -> Self {
        self.data(&json!({"error": {"message": message, "type": "server_error", "code": null}}).to_string())
    }

    /// Waits here for the test.
    pub fn gate(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Ends the body by the rules.
    pub fn end(self) -> Self {
        self.step(Step::End)
    }

    /// Closes the connection in the middle of the body.
    pub fn cut(self) -> Self {
        self.step(Step::Cut)
    }

    /// Resets the connection.
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// Says nothing more, and waits for the gateway to let go.
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }
}

fn event(data: &str, line_end: &str) -> Vec<u8> {
    format!("data: {data}{line_end}{line_end}").into_bytes()
}

fn chunk(delta: &Value, finish_reason: &Value) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
    .to_string()
}
