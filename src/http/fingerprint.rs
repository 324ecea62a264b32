//! What makes two requests under one idempotency key the same.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a reader may change between two tries of the same GET.
const READERS_OWN: [&str; 5] = ["after", "ticket", "events", "heartbeat", "key"];

/// Of a request with a body: method, path, and the body as it was parsed, whatever the order of its keys.
pub fn of_body(method: &str, path: &str, body: &Value) -> String {
    let mut digest = begin(method, path);
    update(&mut digest, body);
    hex(digest)
}

/// Of a GET: method, path, and its query as pairs, in any order, without what is the reader's own.
pub fn of_query(method: &str, path: &str, pairs: &[(String, String)]) -> String {
    let mut digest = begin(method, path);
    let mut pairs: Vec<_> = pairs.iter().filter(|(name, _)| !READERS_OWN.contains(&name.as_str())).collect();
    pairs.sort();
    for (name, value) in pairs {
        text(&mut digest, b'k', name);
        text(&mut digest, b's', value);
    }
    hex(digest)
}

fn begin(method: &str, path: &str) -> Sha256 {
    let mut digest = Sha256::new();
    text(&mut digest, b'm', method);
    text(&mut digest, b'p', path);
    digest
}

fn text(digest: &mut Sha256, kind: u8, text: &str) {
    digest.update([kind]);
    digest.update((text.len() as u64).to_be_bytes());
    digest.update(text.as_bytes());
}

fn update(digest: &mut Sha256, value: &Value) {
    match value {
        Value::Null => digest.update(b"n"),
        Value::Bool(value) => digest.update(if *value { b"t" } else { b"f" }),
        Value::Number(number) => text(digest, b'd', &number.to_string()),
        Value::String(value) => text(digest, b's', value),
        Value::Array(values) => {
            digest.update(b"[");
            values.iter().for_each(|value| update(digest, value));
            digest.update(b"]");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            digest.update(b"{");
            for (name, value) in fields {
                text(digest, b'k', name);
                update(digest, value);
            }
            digest.update(b"}");
        }
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_makes_no_difference_and_everything_else_does() {
        let one = of_body("POST", "/a", &json!({"a": [1, "x"], "b": null}));
        assert_eq!(one, of_body("POST", "/a", &json!({"b": null, "a": [1, "x"]})));
        for other in [json!({"a": [1, "x"]}), json!({"a": ["x", 1], "b": null}), json!({"a": [1, "x"], "b": {}})] {
            assert_ne!(one, of_body("POST", "/a", &other));
        }
        assert_ne!(one, of_body("POST", "/b", &json!({"a": [1, "x"], "b": null})));
    }

    #[test]
    fn a_reader_may_come_back_with_another_cursor() {
        let pairs = |text: &[(&str, &str)]| {
            text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let one = of_query("GET", "/s", &pairs(&[("message", "hi"), ("session_id", "s"), ("key", "k")]));
        let two = pairs(&[("session_id", "s"), ("message", "hi"), ("key", "k"), ("after", "9"), ("events", "named")]);
        assert_eq!(one, of_query("GET", "/s", &two));
        assert_ne!(one, of_query("GET", "/s", &pairs(&[("message", "ho"), ("session_id", "s")])));
    }
}
