//! What is known in a conversation, and what of it can be changed.

use serde_json::{Value, json};

use crate::support::{Client, Encoding, Reply, Request, Scene};

fn path(id: &str) -> String {
    format!("/v1/conversations/{id}")
}

async fn patch(client: &Client, path: &str, body: &Value) -> Reply {
    client.send(Request { method: "PATCH".into(), ..Request::post(path, body) }).await
}

async fn make(client: &Client, body: &Value) -> String {
    client.post("/v1/conversations", body).await.expect(201)["id"].as_str().unwrap().to_owned()
}

/// What somebody said, without what is kept by itself.
fn said(context: &Value) -> Value {
    let mut context = context.clone();
    for kept in ["application_id", "user_id", "message_count", "last_message_at"] {
        assert!(context.as_object_mut().unwrap().remove(kept).is_some(), "{kept}");
    }
    context
}

#[tokio::test]
async fn a_context_starts_from_what_the_creator_gives_and_keeps_counts_by_itself() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let id = make(client, &json!({"context": {"tier": "gold", "page": {"url": "/moon", "x": 1}}})).await;
    let context = format!("{}/context", path(&id));
    let first = client.get(&context).await.expect(200);
    assert_eq!(said(&first), json!({"tier": "gold", "page": {"url": "/moon", "x": 1}}));
    assert_eq!((&first["message_count"], &first["application_id"]), (&json!(0), &json!("default")));
    client.ask_whole(&id, "hi").await.expect(200);
    let conversation = client.get(&path(&id)).await.expect(200);
    let changed = json!({"tier": null, "page": {"x": {"y": "\u{0}"}}, "new": [1, null]});
    let merged = patch(client, &context, &changed).await.expect(200);
    assert_eq!(said(&merged), json!({"page": {"url": "/moon", "x": {"y": "\u{0}"}}, "new": [1, null]}));
    assert_eq!(merged["message_count"], 2);
    assert_eq!(merged["last_message_at"], conversation["last_message_at"], "a change is no message");
    assert_eq!(client.get(&context).await.expect(200), merged);
    let clear = Request { method: "DELETE".into(), ..Request::get(&context) };
    for _ in 0..2 {
        client.send(clear.clone()).await.expect(204);
    }
    assert_eq!(said(&client.get(&context).await.expect(200)), json!({}));
    // Cleared at the end, and closed.
    patch(client, &context, &json!({"a": 1})).await.expect(200);
    client.post(&format!("{}/end", path(&id)), &json!({})).await.expect(200);
    assert_eq!(said(&client.get(&context).await.expect(200)), json!({}));
    assert_eq!(patch(client, &context, &json!({"a": 1})).await.expect(409)["code"], "conversation_ended");
    client.send(clear).await.expect(204);
    client.post(&format!("{}/resume", path(&id)), &json!({})).await.expect(200);
    assert_eq!(said(&patch(client, &context, &json!({"b": 1})).await.expect(200)), json!({"b": 1}));
}

#[tokio::test]
async fn what_is_kept_by_itself_cannot_be_said_and_a_context_is_bounded() {
    let scene = Scene::with(|setup| setup.set("limits.context_bytes", 64)).await;
    let client = &scene.client;
    let id = make(client, &json!({"context": {"k": "x".repeat(50)}})).await;
    let context = format!("{}/context", path(&id));
    for kept in ["application_id", "user_id", "message_count", "last_message_at"] {
        for value in [json!(1), Value::Null] {
            assert_eq!(patch(client, &context, &json!({ kept: value })).await.expect(422)["field"], kept);
        }
        let problem = client.post("/v1/conversations", &json!({"context": {kept: 1}})).await.expect(422);
        assert_eq!(problem["field"], format!("context.{kept}"));
    }
    assert_eq!(patch(client, &context, &json!({"l": "xx"})).await.expect(422)["field"], "context");
    assert_eq!(said(&client.get(&context).await.expect(200)), json!({"k": "x".repeat(50)}), "it is as it was");
    patch(client, &context, &json!({"k": null, "l": "x".repeat(50)})).await.expect(200);
    let large = json!({"context": {"k": "x".repeat(57)}});
    assert_eq!(client.post("/v1/conversations", &large).await.expect(422)["field"], "context");
    for body in [json!([]), json!("x"), Value::Null] {
        assert_eq!(patch(client, &context, &body).await.expect(422)["code"], "invalid_request", "{body}");
    }
    for method in ["GET", "PATCH", "DELETE"] {
        let request =
            Request { method: method.into(), ..Request::post(&format!("{}/context", path("conv_x")), &json!({})) };
        assert_eq!(client.send(request).await.expect(404)["code"], "conversation_not_found", "{method}");
    }
}

#[tokio::test]
async fn config_and_metadata_are_merged_and_checked_like_at_the_beginning() {
    let scene = Scene::with(|setup| setup.set("limits.metadata_bytes", 64)).await;
    let client = &scene.client;
    let id = make(client, &json!({"config": {"temperature": 1, "max_tokens": 9}, "metadata": {"a": {"b": 1}, "c": 2}}))
        .await;
    let mut feed = client.open(Request::get(&format!("{}/events", path(&id))).accept(Encoding::Ndjson)).await;
    let body =
        json!({"config": {"temperature": 0.5, "max_tokens": null}, "metadata": {"a": {"d": "\u{0}"}, "c": null}});
    let changed = patch(client, &path(&id), &body).await.expect(200);
    assert_eq!(changed["config"], json!({"temperature": 0.5}));
    assert_eq!(changed["metadata"], json!({"a": {"b": 1, "d": "\u{0}"}}));
    assert_eq!(feed.event().await.json["conversation"], changed);
    client.ask_whole(&id, "hi").await.expect(200);
    assert_eq!(scene.upstream.call(0).await.body["temperature"], json!(0.5));
    let before = client.get(&path(&id)).await.expect(200);
    for (body, status, field) in [
        (json!({"config": {"temperature": 3}}), 422, "config.temperature"),
        (json!({"config": {"max_tokens": 0}}), 422, "config.max_tokens"),
        (json!({"config": {"top_p": null}}), 422, "config.top_p"),
        (json!({"config": []}), 422, "config"),
        (json!({"config": {"model": "a\u{0}"}}), 404, "config.model"),
        (json!({"metadata": {"a": "x".repeat(60)}}), 422, "metadata"),
        (json!({"metadata": []}), 422, "metadata"),
        (json!({"title": "T", "metadata": {"a": "x".repeat(60)}}), 422, "metadata"),
        (json!({"state": "ended"}), 422, "state"),
    ] {
        assert_eq!(patch(client, &path(&id), &body).await.expect(status)["field"], field, "{body}");
    }
    assert_eq!(client.get(&path(&id)).await.expect(200), before, "a refusal changes nothing");
}
