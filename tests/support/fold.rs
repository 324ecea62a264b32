//! The test's own fold of events into a message, written from the contract and from nothing else.

use serde_json::{Map, Value, json};

use super::Frame;

/// What recovery after a crash adds to the last saved number: the only gap there ever is.
pub const CRASH_GAP: u64 = 1_000_000;

/// The fields of a message that a fold knows.
const FOLDED: [&str; 18] = [
    "id",
    "conversation_id",
    "turn_id",
    "parent_id",
    "content",
    "reasoning",
    "status",
    "model",
    "seq",
    "sources",
    "steps",
    "visualizations",
    "usage",
    "finish_reason",
    "error",
    "stopped_by",
    "duration_ms",
    "first_token_ms",
];

/// The fold of events so far.
#[derive(Clone, Debug)]
pub struct Fold {
    message: Map<String, Value>,
    /// The last event folded in, or the snapshot's seq.
    pub seq: u64,
    /// Whether the end is in it.
    pub ended: bool,
}

impl Fold {
    /// Of nothing yet.
    pub fn new() -> Self {
        let message = json!({
            "content": "", "reasoning": "", "status": "running", "sources": [], "steps": [], "visualizations": [],
            "usage": null,
        });
        let Value::Object(message) = message else { unreachable!() };
        Self { message, seq: 0, ended: false }
    }

    /// Of a message that a page has loaded: its events after `seq` are still to come.
    pub fn from_message(message: &Value) -> Self {
        let seq = message["seq"].as_u64().unwrap();
        Self { message: message.as_object().unwrap().clone(), seq, ended: false }
    }

    /// Of these frames, from the first event.
    #[track_caller]
    pub fn of(frames: &[Frame]) -> Self {
        let mut fold = Self::new();
        fold.all(frames);
        fold
    }

    /// Folds in more frames.
    #[track_caller]
    pub fn all(&mut self, frames: &[Frame]) {
        for frame in frames {
            self.apply(&frame.json);
        }
    }

    /// Folds in one frame. Fails on a number that is lost, doubled or out of order, and on a second end.
    #[track_caller]
    pub fn apply(&mut self, event: &Value) {
        let kind = event["type"].as_str().unwrap();
        assert!(!self.ended, "after the end comes {event}");
        match (kind, event["seq"].as_u64()) {
            ("ping" | "closed", None) => return,
            ("turn.finished", None) => assert_eq!(event["saved"], false, "an end without a number is unsaved: {event}"),
            ("snapshot", Some(seq)) => {
                assert_eq!(event["message"]["seq"], seq, "a snapshot has the number of its fold: {event}");
                assert_eq!(event["message"]["status"], "running", "{event}");
                self.message = event["message"].as_object().unwrap().clone();
                self.seq = seq;
                return;
            }
            (_, Some(seq)) => {
                let gap = seq == self.seq + CRASH_GAP && self.seq > 0;
                assert!(seq == self.seq + 1 || gap, "after event {} comes {event}", self.seq);
                self.seq = seq;
            }
            (_, None) => panic!("an event without a number: {event}"),
        }
        self.change(kind, event);
        self.message.insert("seq".into(), self.seq.into());
    }

    fn change(&mut self, kind: &str, event: &Value) {
        match kind {
            "turn.started" => {
                assert_eq!(self.seq, 1, "{event}");
                for (ours, theirs) in [
                    ("id", "message_id"),
                    ("conversation_id", "conversation_id"),
                    ("turn_id", "turn_id"),
                    ("model", "model"),
                ] {
                    self.message.insert(ours.into(), event[theirs].clone());
                }
                self.message.insert("parent_id".into(), event["user_message_id"].clone());
            }
            "delta" => self.append("content", event),
            "reasoning" => self.append("reasoning", event),
            "step.started" => {
                let mut step = fields(event);
                step.insert("status".into(), "running".into());
                self.list("steps").push(step.into());
            }
            "step.finished" => {
                let id = &event["step_id"];
                let step = self.list("steps").iter_mut().find(|step| &step["step_id"] == id);
                let step = step.unwrap_or_else(|| panic!("a step ends that never began: {event}"));
                assert_eq!(step["status"], "running", "a step ends twice: {event}");
                step.as_object_mut().unwrap().extend(fields(event));
            }
            "source" => {
                let number = event["number"].as_u64().unwrap();
                let sources = self.list("sources");
                let at = sources.iter().take_while(|source| source["number"].as_u64().unwrap() <= number).count();
                sources.insert(at, fields(event).into());
            }
            "visualization" => self.list("visualizations").push(fields(event).into()),
            "usage" => {
                let sum = add(&self.message["usage"], event);
                self.message.insert("usage".into(), sum);
            }
            "turn.finished" => self.end(event),
            _ => {}
        }
    }

    fn end(&mut self, event: &Value) {
        for step in self.list("steps").iter_mut().filter(|step| step["status"] == "running") {
            step["status"] = "error".into();
        }
        let mut end = fields(event);
        end.remove("saved");
        let id = end.remove("message_id");
        let known = self.message.get("id").cloned();
        assert!(known.is_none() || known == id, "the end is another message's: {event}");
        self.message.extend(end);
        self.ended = true;
    }

    fn append(&mut self, field: &str, event: &Value) {
        let text = event["text"].as_str().unwrap();
        assert!(!text.is_empty(), "an empty piece of text: {event}");
        let Value::String(whole) = self.message.entry(field).or_insert_with(|| "".into()) else {
            panic!("{field} is not text");
        };
        whole.push_str(text);
    }

    fn list(&mut self, field: &str) -> &mut Vec<Value> {
        self.message[field].as_array_mut().unwrap()
    }

    /// The answer's text.
    pub fn content(&self) -> &str {
        self.message["content"].as_str().unwrap()
    }

    /// A field of the message; null when absent.
    pub fn field(&self, name: &str) -> Value {
        self.message.get(name).cloned().unwrap_or(Value::Null)
    }

    /// Fails unless `message`, as the gateway shows it, is this fold. Absent, null and (for reasoning) empty are the same.
    #[track_caller]
    pub fn assert_same_as(&self, message: &Value) {
        for field in FOLDED {
            let (ours, theirs) = (bare(self.field(field)), bare(message[field].clone()));
            assert_eq!(ours, theirs, "`{field}`: left is the fold of the events, right the message {message}");
        }
    }
}

/// An event's own fields: without `seq`, `type` and those of a feed.
fn fields(event: &Value) -> Map<String, Value> {
    let mut fields = event.as_object().unwrap().clone();
    fields.retain(|name, value| !value.is_null() && !matches!(&**name, "seq" | "type" | "cursor"));
    if event.get("cursor").is_some() {
        fields.remove("turn_id");
    }
    fields
}

/// Without what says nothing: nulls, and an empty text where there might be none.
fn bare(value: Value) -> Value {
    match value {
        Value::String(ref text) if text.is_empty() => Value::Null,
        Value::Array(items) => items.into_iter().map(bare).collect(),
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn add(sum: &Value, event: &Value) -> Value {
    let mut part = fields(event);
    part.remove("step_id");
    part.remove("model");
    let Some(sum) = sum.as_object() else { return part.into() };
    let mut total = Map::new();
    for name in ["prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"] {
        let both = [sum.get(name), part.get(name)];
        if both.iter().any(Option::is_some) {
            let tokens: u64 = both.iter().flatten().map(|tokens| tokens.as_u64().unwrap()).sum();
            total.insert(name.into(), tokens.into());
        }
    }
    if let (Some(one), Some(other)) = (sum.get("cost_nano_usd"), part.get("cost_nano_usd")) {
        total.insert("cost_nano_usd".into(), (one.as_u64().unwrap() + other.as_u64().unwrap()).into());
    }
    let reported = sum["basis"] == "reported" && part["basis"] == "reported";
    total.insert("basis".into(), if reported { "reported" } else { "estimated" }.into());
    total.into()
}
