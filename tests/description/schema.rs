//! `/events.schema.json`, as somebody else's validator reads it.

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};

use crate::document::{document, faults_by};
use crate::support::{Encoding, Request, Scene};

/// A question to the demo that brings out all it can do.
const ALL: &str = "think, then show a chart";

fn validator(schema: &Value) -> Validator {
    jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true).build(schema).unwrap()
}

/// The same schema for what one of its definitions names.
fn narrowed(schema: &Value, name: &str) -> Validator {
    let mut schema = schema.clone();
    let reference = json!({"$ref": format!("#/$defs/{name}")});
    schema["oneOf"] = json!([reference]);
    validator(&schema)
}

async fn demo() -> Scene {
    let fake = vec!["test-model"];
    Scene::with(|setup| setup.demo().set("upstreams.0.models", fake).set("default_model", "demo")).await
}

#[tokio::test]
async fn it_is_a_schema_of_its_own_that_other_origins_may_read() {
    let scene = demo().await;
    let asked = Request::get("/events.schema.json").header("origin", "https://elsewhere.example");
    let reply = scene.client.send(asked).await;
    assert_eq!(reply.header("content-type"), Some("application/schema+json"));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    let schema = reply.expect(200);
    jsonschema::meta::validate(&schema).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$id"], "/events.schema.json");
    let text = schema.to_string();
    for foreign in ["#/components", "discriminator"] {
        assert!(!text.contains(foreign), "the schema says {foreign}, which only OpenAPI knows");
    }
    // What both documents define they define alike, but for OpenAPI's own words.
    let openapi = document();
    for (name, own) in schema["$defs"].as_object().unwrap() {
        let mut theirs = openapi["components"]["schemas"][name].clone();
        theirs.as_object_mut().unwrap().remove("discriminator");
        let theirs = theirs.to_string().replace("#/components/schemas/", "#/$defs/");
        assert_eq!(serde_json::from_str::<Value>(&theirs).unwrap(), *own, "{name}");
    }
}

#[tokio::test]
async fn every_frame_of_a_stream_and_of_a_feed_is_one_of_it() {
    let scene = demo().await;
    let schema = scene.client.get("/events.schema.json").await.expect(200);
    let (any, of_turns, of_feeds) = (validator(&schema), narrowed(&schema, "Frame"), narrowed(&schema, "FeedFrame"));
    let told = scene.told(ALL).await;
    let kinds: std::collections::BTreeSet<&str> = told.frames.iter().map(|frame| frame.kind()).collect();
    assert_eq!(kinds.len(), 9, "every kind of event: {kinds:?}");

    let snapshot = format!("/v1/turns/{}/events?after=9000000", told.turn);
    let snapshot = scene.client.open(Request::get(&snapshot).accept(Encoding::Ndjson)).await.rest().await;
    assert_eq!(snapshot[0].kind(), "snapshot");
    for frame in told.frames.iter().chain(&snapshot) {
        for validator in [&any, &of_turns] {
            assert_eq!(faults_by(validator, &frame.json), [""; 0], "{}", frame.json);
        }
    }

    let path = format!("/v1/conversations/{}", told.conversation);
    let feed = Request::get(&format!("{path}/events?after=0")).accept(Encoding::Ndjson);
    let mut feed = scene.client.open(feed).await;
    let mut frames = feed.events(told.frames.len()).await;
    let change = Request { method: "PATCH".to_owned(), ..Request::post(&path, &json!({"title": "U"})) };
    scene.client.send(change).await.expect(200);
    frames.push(feed.event().await);
    scene.client.send(Request { method: "DELETE".to_owned(), ..Request::get(&path) }).await;
    frames.push(feed.event().await);
    assert!(frames[0].json["cursor"].is_string(), "a feed's events say where they stand");
    for frame in &frames {
        for validator in [&any, &of_feeds] {
            assert_eq!(faults_by(validator, &frame.json), [""; 0], "{}", frame.json);
        }
    }
}

#[tokio::test]
async fn what_is_broken_is_none_of_it() {
    let scene = demo().await;
    let schema = scene.client.get("/events.schema.json").await.expect(200);
    let validator = validator(&schema);
    let told = scene.told(ALL).await;
    let one = |kind: &str| told.frames.iter().find(|frame| frame.kind() == kind).unwrap().json.clone();
    let mut broken = Vec::new();
    for (kind, field) in [("delta", "text"), ("delta", "seq"), ("source", "title"), ("turn.finished", "saved")] {
        let mut event = one(kind);
        event.as_object_mut().unwrap().remove(field).unwrap();
        broken.push(event);
    }
    for (kind, field, value) in [
        ("turn.finished", "status", json!("done")),
        ("step.finished", "status", json!("maybe")),
        ("turn.started", "turn_id", json!("turn_1")),
        ("delta", "text", json!(1)),
        ("delta", "type", json!("deltas")),
    ] {
        let mut event = one(kind);
        event[field] = value;
        broken.push(event);
    }
    for event in broken {
        assert!(!faults_by(&validator, &event).is_empty(), "{event}");
    }
}
