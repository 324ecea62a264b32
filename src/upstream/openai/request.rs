//! The request's body.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::upstream::{Call, Line, Speaker};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> From<&'a Line> for Message<'a> {
    fn from(line: &'a Line) -> Self {
        let role = match line.speaker {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        Self { role, content: &line.text }
    }
}

/// The body that asks `model` (their name for it). A field of `extra` replaces ours of the same name.
pub fn body(call: &Call, model: &str, extra: &Map<String, Value>) -> Vec<u8> {
    let body = Body {
        model,
        messages: call.lines.iter().map(Message::from).collect(),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        temperature: call.temperature,
        max_tokens: call.max_tokens,
    };
    let json = if extra.is_empty() {
        serde_json::to_vec(&body)
    } else {
        serde_json::to_value(&body).and_then(|mut value| {
            if let Some(fields) = value.as_object_mut() {
                fields.extend(extra.clone());
            }
            serde_json::to_vec(&value)
        })
    };
    // Texts and finite numbers under text keys can always be written.
    json.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call() -> Call {
        let line = |speaker, text: &str| Line { speaker, text: text.to_owned() };
        let lines =
            vec![line(Speaker::System, "Be kind."), line(Speaker::User, "A\n\"b\""), line(Speaker::Assistant, "c")];
        Call {
            turn_id: "turn_1".into(),
            model: "ours".to_owned(),
            lines,
            temperature: None,
            max_tokens: None,
            traceparent: None,
        }
    }

    fn sent(call: &Call, extra: Value) -> Value {
        let Value::Object(extra) = extra else { panic!("an object") };
        serde_json::from_slice(&body(call, "theirs", &extra)).unwrap()
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        let expected = json!({
            "model": "theirs",
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "A\n\"b\""},
                {"role": "assistant", "content": "c"},
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        assert_eq!(sent(&call(), json!({})), expected);
    }

    #[test]
    fn extra_fields_count_over_ours() {
        let call = Call { temperature: Some(0.5), max_tokens: Some(7), ..call() };
        let body = sent(&call, json!({"temperature": 1, "seed": 3}));
        assert_eq!((&body["temperature"], &body["seed"], &body["max_tokens"]), (&json!(1), &json!(3), &json!(7)));
    }
}
