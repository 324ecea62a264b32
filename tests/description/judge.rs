//! Judges real answers by the document.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use jsonschema::Validator;
use serde_json::Value;

use crate::document::{document, faults_by, strict, validator};
use crate::support::{Client, Frame, Reply, Request};

/// The document, and which of what it says has been seen.
pub struct Judge {
    client: Client,
    document: Value,
    seen: RefCell<BTreeSet<String>>,
    /// By the text of their schema: to make one takes long.
    validators: RefCell<HashMap<String, Validator>>,
}

impl Judge {
    /// One who asks by that client.
    pub fn new(client: Client) -> Self {
        Self { client, document: strict(document()), seen: RefCell::default(), validators: RefCell::default() }
    }

    /// The same one, who asks by another client from now on.
    pub fn by(self, client: Client) -> Self {
        Self { client, ..self }
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends, and fails unless the answer is as described.
    pub async fn ask(&self, request: Request) -> Reply {
        let (method, target) = (request.method.clone(), request.target.clone());
        let reply = self.client.send(request).await;
        self.judge(&method, &target, &reply);
        reply
    }

    /// Fails unless the answer to such a request is as described.
    #[track_caller]
    pub fn judge(&self, method: &str, target: &str, reply: &Reply) {
        let (name, operation) = self.operation(method, target);
        let whole = String::from_utf8_lossy(&reply.bytes);
        let response = &operation["responses"][reply.status.to_string()];
        assert!(response.is_object(), "{name} does not speak of {}: {whole}", reply.status);
        for (header, _) in reply.headers.iter().filter(|(header, _)| is_ours(header.as_str())) {
            let described = response["headers"].as_object().into_iter().flatten();
            let known = described.into_iter().any(|(known, _)| known.eq_ignore_ascii_case(header.as_str()));
            assert!(known, "{name} {} does not speak of {header}", reply.status);
        }
        assert!(reply.header("request-id").is_some(), "{name} {}", reply.status);
        let kind = reply.header("content-type").map(|kind| kind.split(';').next().unwrap_or_default());
        let Some(kind) = kind else {
            assert!(response["content"].is_null() && whole.is_empty(), "{name} {} has no body: {whole}", reply.status);
            self.note(format!("{name} {}", reply.status));
            return;
        };
        let content = &response["content"][kind];
        assert!(content.is_object(), "{name} {} does not speak of {kind}: {whole}", reply.status);
        let sse = kind == "text/event-stream";
        let values: Vec<Value> = match kind {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            }
            "text/event-stream" => whole.split("\n\n").filter_map(event).collect(),
            "application/openmetrics-text" | "text/csv" | "text/markdown" => vec![Value::String(whole.into_owned())],
            _ => vec![reply.json()],
        };
        for value in &values {
            self.fits(&name, &content["schema"], value);
            if sse {
                self.fits_inside(&name, &content["schema"], value["data"].as_str().unwrap());
            }
        }
        match values.first().map(|value| &value["code"]) {
            Some(Value::String(code)) if kind == "application/problem+json" => {
                self.note(format!("{name} {} {code}", reply.status));
            }
            _ => self.note(format!("{name} {} {kind}", reply.status)),
        }
    }

    /// The same for frames of a stream that is still open.
    #[track_caller]
    pub fn judge_frames(&self, target: &str, kind: &str, frames: &[Frame]) {
        let (name, operation) = self.operation("GET", target);
        let schema = &operation["responses"]["200"]["content"][kind]["schema"];
        for frame in frames {
            match kind {
                "text/event-stream" => self.fits_inside(&name, schema, std::str::from_utf8(&frame.bytes).unwrap()),
                _ => self.fits(&name, schema, &frame.json),
            }
        }
        self.note(format!("{name} 200 {kind}"));
    }

    #[track_caller]
    fn fits(&self, name: &str, schema: &Value, value: &Value) {
        let mut validators = self.validators.borrow_mut();
        let validator = validators.entry(schema.to_string()).or_insert_with(|| validator(&self.document, schema));
        let faults = faults_by(validator, value);
        assert!(faults.is_empty(), "{name}: {faults:#?}\n{value:#}");
    }

    /// The same for the JSON inside a server-sent event.
    #[track_caller]
    fn fits_inside(&self, name: &str, schema: &Value, data: &str) {
        let schema = self.document.pointer(schema["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
        self.fits(name, &schema["properties"]["data"]["contentSchema"], &serde_json::from_str(data).unwrap());
    }

    fn note(&self, what: String) {
        self.seen.borrow_mut().insert(what);
    }

    /// The operation that a request is for: the path with the fewest parameters that fits.
    #[track_caller]
    fn operation(&self, method: &str, target: &str) -> (String, &Value) {
        let path: Vec<&str> = target.split('?').next().unwrap_or_default().split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == path.len() && parts.iter().zip(&path).all(|(part, own)| part.starts_with('{') || part == own)
        };
        let paths = self.document["paths"].as_object().unwrap().iter();
        let found =
            paths.filter(|(template, _)| fits(template)).min_by_key(|(template, _)| template.matches('{').count());
        let operation = &found.unwrap_or_else(|| panic!("nothing is described at {target}")).1[method.to_lowercase()];
        let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {target} is not described"));
        (name.to_owned(), operation)
    }

    /// What the document says of success, and was not seen: operation, status, media type.
    pub fn unseen(&self) -> Vec<String> {
        let mut due = BTreeSet::new();
        for item in self.document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                let answers = operation["responses"].as_object().unwrap().iter();
                for (status, response) in answers.filter(|(status, _)| status.starts_with('2')) {
                    match response["content"].as_object() {
                        Some(content) => due.extend(content.keys().map(|kind| format!("{name} {status} {kind}"))),
                        None => drop(due.insert(format!("{name} {status}"))),
                    }
                }
            }
        }
        due.difference(&self.seen.borrow()).cloned().collect()
    }

    /// The codes of refusals that were seen.
    pub fn codes(&self) -> BTreeSet<String> {
        self.seen.borrow().iter().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect()
    }
}

/// A server-sent event as an object; nothing where there is no event, as in a comment.
fn event(block: &str) -> Option<Value> {
    let fields = block.lines().filter(|line| !line.starts_with(':')).filter_map(|line| line.split_once(": "));
    let event: serde_json::Map<String, Value> = fields.map(|(field, value)| (field.to_owned(), value.into())).collect();
    event.contains_key("data").then_some(event.into())
}

/// Whether a header is one that the document must speak of.
fn is_ours(header: &str) -> bool {
    const OURS: [&str; 9] = [
        "turn-id",
        "conversation-id",
        "location",
        "retry-after",
        "preference-applied",
        "request-id",
        "auth-status",
        "visitor-token",
        "www-authenticate",
    ];
    OURS.contains(&header)
}
