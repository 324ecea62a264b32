//! The bytes of the fake model: a stream of OpenAI's chat completions, each event a chunk of HTTP's.

use super::stamp::{self, NUMBER, TIME};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const ID: &str = r#"{"id":"chatcmpl-CK3pTq7bUf2mWx9hRzD0sLyVeNgA5","object":"chat.completion.chunk","created":1789000000,"model":"gpt-4o-mini","#;

/// What the fake model says, made once; a delta is patched in place before it is written.
#[derive(Debug)]
pub struct Script {
    opening: Vec<u8>,
    delta: Vec<u8>,
    number_at: usize,
    end: Vec<u8>,
}

impl Script {
    /// Makes it.
    pub fn new() -> Self {
        let text = format!("~{}@{}~", "0".repeat(NUMBER), "0".repeat(TIME));
        let delta = choice(&format!(r#"{{"content":"{text}"}}"#), "null");
        let number_at = delta.find('~').unwrap_or_default() + 1;
        let opening = HEAD.to_owned() + &choice(r#"{"role":"assistant","content":""}"#, "null");
        let usage = r#""choices":[],"usage":{"prompt_tokens":12,"completion_tokens":200,"total_tokens":212}}"#;
        let end = choice("{}", r#""stop""#) + &event(&format!("{ID}{usage}")) + &event("[DONE]") + "0\r\n\r\n";
        Self { opening: opening.into(), delta: delta.into(), number_at, end: end.into() }
    }

    /// A delta with its stamp.
    pub fn delta(&mut self, number: u32, time: u64) -> &[u8] {
        let (number_at, time_at) = (self.number_at, self.number_at + NUMBER + 1);
        stamp::digits(&mut self.delta[number_at..number_at + NUMBER], number.into());
        stamp::digits(&mut self.delta[time_at..time_at + TIME], time);
        &self.delta
    }

    /// The head, the chunk that names the role, and the first delta: they leave together.
    pub fn opening(&mut self, time: u64) -> Vec<u8> {
        let mut bytes = self.opening.clone();
        bytes.extend_from_slice(self.delta(0, time));
        bytes
    }

    /// The reason it stops for, the usage, and the marks of the end.
    pub fn end(&self) -> &[u8] {
        &self.end
    }
}

fn choice(delta: &str, finish_reason: &str) -> String {
    event(&format!(r#"{ID}"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish_reason}}}]}}"#))
}

fn event(data: &str) -> String {
    let event = format!("data: {data}\n\n");
    format!("{:x}\r\n{event}\r\n", event.len())
}
