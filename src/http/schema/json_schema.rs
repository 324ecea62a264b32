//! `/events.schema.json`: what streams are made of, as a JSON Schema by itself, for whoever checks or generates from that.
//! It is cut out of the components of the OpenAPI document, so the two say the same.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{components, frame};

/// Where it is served, which is also its `$id`: relative, for it is that of the gateway it was read from.
pub const PATH: &str = "/events.schema.json";
/// Its media type, as the JSON Schema specification has it.
pub const KIND: &str = "application/schema+json";

const ABOUT: &str = "One line of NDJSON, or one `data:` of server-sent events: every event and frame of a turn's \
    stream and of a conversation's feed. `#/$defs/Frame` is what a turn's stream has, `#/$defs/FeedFrame` what a feed \
    has. Objects are open: later versions may add fields, and types too, which a client ignores.";
const OPENAPI: &str = "#/components/schemas/";

/// The schema.
pub fn document() -> Value {
    let mut components = serde_json::to_value(components().build()).unwrap_or_default();
    let mut schemas = match components["schemas"].take() {
        Value::Object(schemas) => schemas,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    let (mut open, mut defs) = (vec!["Frame".to_owned(), "FeedFrame".to_owned()], Map::new());
    while let Some(name) = open.pop() {
        if let Some(mut schema) = schemas.remove(&name) {
            let mut named = BTreeSet::new();
            rewrite(&mut schema, &mut named);
            open.extend(named);
            defs.insert(name, schema);
        }
    }
    defs.sort_keys();
    let frames: Vec<Value> = frame::names().map(|name| json!({"$ref": format!("#/$defs/{name}")})).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": PATH,
        "title": "Tidegate's events",
        "description": ABOUT,
        "oneOf": frames,
        "$defs": defs,
    })
}

/// Takes OpenAPI's own words out of a schema, and notes which others it speaks of.
fn rewrite(schema: &mut Value, named: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            // A tool of JSON Schema tells frames apart by the only value of `type` in each.
            if map.contains_key("oneOf") {
                map.remove("discriminator");
            }
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(OPENAPI)
            {
                named.insert(name.to_owned());
                *reference = format!("#/$defs/{name}");
            }
            map.values_mut().for_each(|value| rewrite(value, named));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rewrite(value, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
