//! The document, read strictly: what it does not name must not be there, although clients are told to bear it.

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

/// The document as the program makes it.
pub fn document() -> Value {
    serde_json::to_value(tidegate::http::resources::document()).unwrap()
}

/// A copy in which a field that no schema names is an error.
pub fn strict(mut document: Value) -> Value {
    tighten(&mut document);
    document
}

fn tighten(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => properties.values_mut().for_each(close),
                    ("items" | "schema", schema) => close(schema),
                    (_, other) => tighten(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(tighten),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Closes a schema that stands for a whole value; one that says nothing of fields stays open.
fn close(schema: &mut Value) {
    tighten(schema);
    let says = ["$ref", "oneOf", "allOf", "anyOf", "properties"].iter().any(|key| schema.get(key).is_some());
    if says && let Value::Object(map) = schema {
        map.insert("unevaluatedProperties".to_owned(), false.into());
    }
}

/// A validator of one schema of a document.
pub fn validator(document: &Value, schema: &Value) -> Validator {
    let mut own = schema.clone();
    close(&mut own);
    let root = json!({"allOf": [own], "components": document["components"]});
    jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true).build(&root).unwrap()
}

/// What is wrong with a value by a schema of the document; nothing when it is right.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    faults_by(&validator(document, schema), value)
}

/// The same, by a validator that is made already.
pub fn faults_by(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect()
}

/// A schema of the components, by name.
#[track_caller]
pub fn component<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["components"]["schemas"].get(name).unwrap_or_else(|| panic!("the document has no schema {name}"))
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document();
    let mut used = Vec::new();
    references(&document, &mut used);
    for reference in &used {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing speaks of {name}");
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_is_of_openapi_3_1_and_speaks_to_its_reader() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let schemas: Vec<_> = document["components"]["schemas"].as_object().unwrap().values().collect();
    for schema in schemas {
        jsonschema::meta::validate(schema).unwrap_or_else(|error| panic!("{error}: {schema}"));
    }
    let mut ids = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
            assert!(ids.insert(text("operationId")), "{method} {path} has another's operationId");
            assert!(!text("summary").is_empty(), "{method} {path} has no summary");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path} has one tag");
        }
    }
    let text = document.to_string();
    for inner in ["[`", "crate::", "Self"] {
        assert!(!text.contains(inner), "the document says {inner}, which is for readers of the code");
    }
}
