//! A strict reader of both encodings: what breaks a rule of framing is an error here.

use std::collections::VecDeque;

use serde_json::Value;

/// One event, or one unnumbered frame, as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The SSE id.
    pub id: Option<String>,
    /// The SSE event name.
    pub name: Option<String>,
    /// The JSON text, without its framing.
    pub bytes: Vec<u8>,
    /// The JSON.
    pub json: Value,
}

impl Frame {
    /// Its number; unnumbered frames have none, but a snapshot has its fold's.
    pub fn seq(&self) -> Option<u64> {
        self.json["seq"].as_u64()
    }

    /// Its type.
    pub fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default()
    }

    /// Its text, where it is a delta or reasoning.
    pub fn text(&self) -> &str {
        self.json["text"].as_str().unwrap_or_default()
    }

    /// Whether it is the end of its turn.
    pub fn is_end(&self) -> bool {
        self.kind() == "turn.finished"
    }
}

/// A strict reader.
pub struct Frames {
    sse: bool,
    named: bool,
    refused: bool,
    buffer: Vec<u8>,
    id: Option<String>,
    name: Option<String>,
    data: Option<Vec<u8>>,
    lines: usize,
    /// Frames that are not taken yet.
    pub ready: VecDeque<Frame>,
    /// SSE comments so far.
    pub comments: Vec<String>,
    /// The last `retry`, in milliseconds.
    pub retry: Option<u64>,
}

impl Frames {
    /// A reader of SSE, or of NDJSON; with event names in SSE only where they were asked for.
    pub fn new(sse: bool, named: bool) -> Self {
        let (buffer, ready, comments) = (Vec::new(), VecDeque::new(), Vec::new());
        Self {
            sse,
            named,
            refused: false,
            buffer,
            id: None,
            name: None,
            data: None,
            lines: 0,
            ready,
            comments,
            retry: None,
        }
    }

    /// Reads some bytes; the error says which rule was broken.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut from = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(at) = self.buffer[from..].iter().position(|byte| *byte == b'\n') {
            let line = self.buffer[start..from + at].to_vec();
            (start, from) = (from + at + 1, from + at + 1);
            self.lines += 1;
            if self.sse { self.sse_line(line)? } else { self.ndjson_line(line)? }
        }
        self.buffer.drain(..start);
        Ok(())
    }

    /// Whether the bytes so far end between two frames.
    pub fn at_boundary(&self) -> bool {
        self.buffer.is_empty() && self.data.is_none() && self.id.is_none()
    }

    fn ndjson_line(&mut self, line: Vec<u8>) -> Result<(), String> {
        if line.is_empty() {
            return Err("NDJSON has a blank line".to_owned());
        }
        let json = parse(&line)?;
        self.ready.push_back(Frame { id: None, name: None, bytes: line, json });
        Ok(())
    }

    fn sse_line(&mut self, line: Vec<u8>) -> Result<(), String> {
        let line = String::from_utf8(line).map_err(|_| "SSE is not UTF-8".to_owned())?;
        if self.lines == 1 && line != "retry: 1000" {
            // Only a refusal in disguise opens with a comment, and then there is no event.
            self.refused = line.starts_with(": ");
            if !self.refused {
                return Err(format!("SSE opens with {line:?} in place of `retry: 1000`"));
            }
        }
        if line.is_empty() {
            return self.dispatch();
        }
        if let Some(comment) = line.strip_prefix(':') {
            self.comments.push(comment.trim().to_owned());
            return Ok(());
        }
        let Some((field, value)) = line.split_once(": ") else {
            return Err(format!("SSE has the line {line:?}"));
        };
        match field {
            "retry" => self.retry = Some(value.parse().map_err(|_| format!("SSE has `retry: {value}`"))?),
            "id" if self.id.is_none() => self.id = Some(value.to_owned()),
            "event" if self.name.is_none() => self.name = Some(value.to_owned()),
            "data" if self.data.is_none() => self.data = Some(value.as_bytes().to_vec()),
            _ => return Err(format!("SSE has {field:?} where it should not: {line:?}")),
        }
        Ok(())
    }

    fn dispatch(&mut self) -> Result<(), String> {
        let (id, name) = (self.id.take(), self.name.take());
        let Some(bytes) = self.data.take() else {
            return if id.is_none() && name.is_none() { Ok(()) } else { Err("an SSE event without data".to_owned()) };
        };
        if self.refused {
            return Err("SSE opens with a comment and goes on with events".to_owned());
        }
        if name.is_some() != self.named {
            return Err(format!("an SSE event's name is {name:?}, and names were asked for: {}", self.named));
        }
        let json = parse(&bytes)?;
        let due = match (&json["cursor"], &json["seq"]) {
            (Value::String(cursor), _) => Some(cursor.clone()),
            (_, Value::Number(seq)) => Some(seq.to_string()),
            _ => None,
        };
        if id != due {
            return Err(format!("the SSE id is {id:?}, the event's is {due:?}: {json}"));
        }
        if name.as_deref().is_some_and(|name| json["type"] != name) {
            return Err(format!("the SSE event is named {name:?}: {json}"));
        }
        self.ready.push_back(Frame { id, name, bytes, json });
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    if let Some(bad) = text.chars().find(|c| c.is_ascii_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')) {
        return Err(format!("{bad:?} is not escaped: {text}"));
    }
    let json: Value = serde_json::from_str(text).map_err(|error| format!("not JSON ({error}): {text}"))?;
    if !json["type"].is_string() {
        return Err(format!("an event without a type: {text}"));
    }
    Ok(json)
}
