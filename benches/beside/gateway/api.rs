//! How a gateway is asked, and how its answers end.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::ValueEnum;

use crate::drive::plan::Plan;

/// What a turn that has ended well says in its last event.
const FINISHED: &[&str] = &[r#""type":"turn.finished","status":"completed""#, r#""saved":true"#];
/// The end of a stream of OpenAI's.
const DONE: &[&str] = &["data: [DONE]"];

/// How Tidegate is asked to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// A line of JSON an event
    Ndjson,
    /// Server-sent events
    Sse,
}

impl Wire {
    fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }
}

/// How a gateway is asked.
#[derive(Clone, Debug)]
pub enum Api {
    /// With OpenAI's chat completions, at this path.
    Completions(String),
    /// With Tidegate's chat.
    Tidegate(Wire),
}

impl Api {
    /// OpenAI's, at this path.
    pub fn completions(path: &str) -> Self {
        Self::Completions(path.to_owned())
    }

    /// A request, whole.
    pub fn question(&self, to: SocketAddr, plan: Plan) -> Arc<[u8]> {
        let question = plan.question();
        let (path, accept, body) = match self {
            Self::Completions(path) => {
                let body = format!(
                    r#"{{"model":"gpt-4o-mini","stream":true,"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"{question}"}}]}}"#
                );
                (path.as_str(), "text/event-stream", body)
            }
            Self::Tidegate(wire) => ("/v1/chat/stream", wire.media_type(), format!(r#"{{"message":"{question}"}}"#)),
        };
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nAccept: {accept}\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        (head + &body).into_bytes().into()
    }

    /// A request for a turn that is under way, from its first event.
    pub fn follow(&self, to: SocketAddr, turn: &str) -> Arc<[u8]> {
        let accept = match self {
            Self::Completions(_) => Wire::Sse.media_type(),
            Self::Tidegate(wire) => wire.media_type(),
        };
        let head = format!("GET /v1/turns/{turn}/events HTTP/1.1\r\nHost: {to}\r\nAccept: {accept}\r\n\r\n");
        head.into_bytes().into()
    }

    /// What the end of a whole answer holds.
    pub fn marks(&self) -> &'static [&'static str] {
        match self {
            Self::Completions(_) => DONE,
            Self::Tidegate(_) => FINISHED,
        }
    }
}
