//! Asked once, paid once: an idempotency key stands for one turn, whoever asks again, however and whenever.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::access::user;
use crate::support::{Client, Encoding, Gate, Reply, Request, Scene, Script, Task, Told, assert_stamps, eventually};

const STREAM: &str = "/v1/chat/stream";

fn post(target: &str, body: &Value, key: &str) -> Request {
    Request::post(target, body).header("idempotency-key", key)
}

fn messages(conversation: &str) -> String {
    format!("/v1/conversations/{conversation}/messages")
}

async fn reply(client: &Client, request: Request) -> Reply {
    client.send(request.header("accept", "application/json")).await
}

/// Asks once more, in both encodings and as JSON, and gets the same turn.
async fn assert_joins(client: &Client, request: &Request, told: &Told) {
    for encoding in Encoding::ALL {
        let mut stream = client.open(request.clone().accept(encoding)).await;
        told.assert_after(0, &stream.rest().await);
        assert_eq!(stream.turn(), told.turn);
    }
    assert_eq!(reply(client, request.clone()).await.expect(200), told.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_equal_requests_at_once_are_one_turn_for_ever() {
    let mut scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(5).gate(&gate).stamped(5).finish("stop").usage(1, 10).done());
    let conversation = scene.client.conversation().await;
    let request = post(&messages(&conversation), &json!({"content": "go"}), "k");
    let asking = (0..20).map(|n| {
        let (client, request) = (scene.client.clone(), request.clone().accept(Encoding::ALL[n % 2]));
        Task::start(async move { client.open(request).await })
    });
    let mut streams = join_all(asking.collect::<Vec<_>>().into_iter().map(Task::join)).await;
    gate.open();
    let told = Told::hear(&scene.client, &conversation, streams.remove(0)).await;
    assert_eq!(assert_stamps(told.content()), 10);
    for mut stream in streams {
        assert_eq!(stream.turn(), told.turn);
        told.assert_after(0, &stream.rest().await);
    }
    assert_joins(&scene.client, &request, &told).await;
    scene.gateway.terminate();
    assert!(scene.gateway.exit().await.success());
    scene.gateway.restart().await;
    assert_joins(&scene.client, &request, &told).await;
    scene.gateway.kill();
    scene.gateway.restart().await;
    assert_joins(&scene.client, &request, &told).await;
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_eq!(scene.client.messages(&conversation).await.len(), 2);
}

#[tokio::test]
async fn whoever_asks_again_joins_a_live_turn_by_its_own_accept_and_cursor() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(5).gate(&gate).stamped(5).finish("stop").usage(1, 10).done());
    let conversation = scene.client.conversation().await;
    let request = post(&messages(&conversation), &json!({"content": "go"}), "k");
    let first = scene.client.open(request.clone().accept(Encoding::Ndjson)).await;
    gate.reached().await;
    let by_header = request.clone().accept(Encoding::Sse).header("last-event-id", "3");
    let mut by_header = scene.client.open(by_header).await;
    let mut by_query = request.clone().accept(Encoding::Ndjson);
    by_query.target.push_str("?after=4");
    let mut by_query = scene.client.open(by_query).await;
    let waiting = Task::start({
        let (client, request) = (scene.client.clone(), request.clone());
        async move { reply(&client, request).await }
    });
    let put_off = reply(&scene.client, request.clone().header("prefer", "respond-async")).await;
    assert_eq!(put_off.expect(202)["id"], first.turn());
    gate.open();
    let told = Told::hear(&scene.client, &conversation, first).await;
    told.assert_after(3, &by_header.rest().await);
    told.assert_after(4, &by_query.rest().await);
    assert_eq!(waiting.join().await.expect(200), told.message);
    // The end has been seen: an EventSource is told to stop, whoever it asks.
    let last = told.last().to_string();
    let seen = scene.client.send(request.clone().accept(Encoding::Sse).header("last-event-id", &last)).await;
    assert_eq!((seen.status, seen.bytes.len()), (204, 0));
    let mut seen = scene.client.open(request.accept(Encoding::Ndjson).header("last-event-id", &last)).await;
    assert!(seen.rest().await.is_empty());
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_queued_turn_is_joined_too() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().gate(&gate).stamped(1).finish("stop").done());
    let conversation = scene.client.conversation().await;
    let mut live = scene.client.ask(&conversation, "first").await;
    let request = post(&messages(&conversation), &json!({"content": "second", "if_busy": "queue"}), "k");
    let one = scene.client.open(request.clone().accept(Encoding::Ndjson)).await;
    let mut two = scene.client.open(request.clone().accept(Encoding::Sse)).await;
    assert_eq!(one.turn(), two.turn());
    assert_ne!(one.turn(), live.turn());
    assert_eq!(scene.client.turn(&one.turn()).await["status"], "queued");
    gate.open();
    live.rest().await;
    let told = Told::hear(&scene.client, &conversation, one).await;
    told.assert_after(0, &two.rest().await);
    assert_eq!(scene.upstream.calls().len(), 2);
}

#[tokio::test]
async fn a_key_is_the_same_quoted_or_bare_and_a_body_in_any_layout() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let body = json!({"content": "é", "metadata": {"a": 1, "b": [1, 2]}});
    let request = post(&messages(&conversation), &body, "k-1");
    let first = reply(&scene.client, request.clone()).await.expect(200);
    let layouts = [
        r#"{"metadata":{"b":[1,2],"a":1},"content":"é"}"#,
        " {\n\t\"content\" : \"\\u00e9\",\r\n \"metadata\": {\"a\": 1, \"b\": [1, 2]} }\n",
    ];
    for key in ["k-1", "\"k-1\""] {
        for layout in layouts {
            let again = Request { body: Some(layout.into()), ..post(&messages(&conversation), &body, key) };
            assert_eq!(reply(&scene.client, again).await.expect(200), first, "{layout}");
        }
    }
    for other in [r#"{"content":"é","metadata":{"a":1,"b":[2,1]}}"#, r#"{"content":"é"}"#] {
        let other = Request { body: Some(other.into()), ..request.clone() };
        assert_eq!(reply(&scene.client, other).await.expect(422)["code"], "idempotency_key_reused");
    }
    assert_eq!(scene.upstream.calls().len(), 1);
    for bad in ["", "\"\"", "a b", "\"a", "é", &"k".repeat(256)] {
        let refused = reply(&scene.client, post(&messages(&conversation), &body, bad)).await.expect(422);
        assert_eq!((&refused["code"], &refused["field"]), (&json!("invalid_request"), &json!("Idempotency-Key")));
    }
    assert_eq!(scene.client.messages(&conversation).await.len(), 2);
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused_before_anything_else() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().stamped(2).hang());
    let conversation = scene.client.conversation().await;
    let body = json!({"content": "go"});
    let mut live = scene.client.open(post(&messages(&conversation), &body, "k").accept(Encoding::Ndjson)).await;
    let others = [
        // The conversation is busy: without the key this were a 409.
        post(&messages(&conversation), &json!({"content": "other"}), "k"),
        post(&messages(&conversation), &json!({"content": "go", "model": "test-model"}), "k"),
        post(&messages("conv_unknown"), &body, "k"),
        post(STREAM, &json!({"message": "go"}), "k"),
        post("/v1/conversations", &json!({}), "k"),
        post("/v1/conversations", &json!({"first_message": "go"}), "k"),
        Request::get("/v1/chat/stream?message=go&key=k").header("accept", "text/event-stream"),
    ];
    for other in others {
        let (method, target) = (other.method.clone(), other.target.clone());
        let other = if method == "GET" { other } else { other.header("accept", "application/json") };
        let problem = scene.client.send(other).await.expect(422);
        assert_eq!(problem["code"], "idempotency_key_reused", "{method} {target}: {problem}");
    }
    let busy = reply(&scene.client, post(&messages(&conversation), &body, "k2")).await.expect(409);
    assert_eq!((&busy["code"], &busy["turn_id"]), (&json!("turn_in_progress"), &json!(live.turn())));
    scene.client.stop(&live.turn()).await.expect(200);
    live.rest().await;
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_eq!(scene.client.messages(&conversation).await.len(), 2);
}

#[tokio::test]
async fn a_key_makes_one_conversation() {
    let scene = Scene::new().await;
    for body in [json!({"title": "T"}), json!({"first_message": "hi", "metadata": {"a": 1}})] {
        let key = if body["title"].is_string() { "with a title" } else { "with a message" }.replace(' ', "-");
        let request = post("/v1/conversations", &body, &key);
        let replies = join_all((0..5).map(|_| reply(&scene.client, request.clone()))).await;
        let first = replies[0].expect(201);
        for reply in &replies {
            assert_eq!(reply.expect(201)["id"], first["id"]);
            assert_eq!(reply.header("location"), replies[0].header("location"));
        }
        let id = first["id"].as_str().unwrap();
        if body["first_message"].is_string() {
            eventually("the first message to be answered", async || {
                let list = scene.client.messages(id).await;
                assert_eq!(list.len(), 2);
                (list[1]["status"] == "completed").then_some(())
            })
            .await;
        }
        assert_eq!(reply(&scene.client, request).await.expect(201)["id"], first["id"]);
        let other = post("/v1/conversations", &json!({"title": "other"}), &key);
        assert_eq!(reply(&scene.client, other).await.expect(422)["code"], "idempotency_key_reused");
    }
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn what_became_of_a_deleted_conversation_is_told_alike_to_its_user_and_to_a_service_key() {
    let scene = Scene::closed().await;
    let service = scene.bearing(&scene.gateway.key("shop", "service").text);
    let abroad = scene.bearing(&scene.gateway.key("bank", "service").text);
    let (anna, bert) = (scene.bearing(&user("anna")), scene.bearing(&user("bert")));
    let conversation = anna.conversation().await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let asked = |key: &str| {
        Request::post(&target, &json!({"content": "hi"}))
            .header("idempotency-key", key)
            .header("accept", "application/json")
    };
    service.send(asked("one")).await.expect(200);
    anna.send(asked("two")).await.expect(200);
    let path = format!("/v1/conversations/{conversation}");
    let delete = Request { method: "DELETE".into(), ..Request::get(&path) };
    assert_eq!(anna.send(delete).await.status, 204);
    for client in [&service, &anna] {
        for key in ["one", "two"] {
            assert_eq!(client.send(asked(key)).await.expect(410)["code"], "turn_deleted");
        }
        assert_eq!(client.send(asked("three")).await.expect(404)["code"], "conversation_not_found");
    }
    for stranger in [&bert, &abroad] {
        assert_eq!(stranger.send(asked("one")).await.expect(404)["code"], "conversation_not_found");
    }
    assert_eq!(scene.upstream.calls().len(), 2);
}

#[tokio::test]
async fn a_refusal_consumes_no_key_and_leaves_nothing_behind() {
    let scene = Scene::with(|setup| setup.set("upstreams.0.models", vec!["test-model"])).await;
    scene.upstream.push(Script::new().stamped(1).hang());
    let (conversation, free) = (scene.client.conversation().await, scene.client.conversation().await);
    let mut live = scene.client.ask(&conversation, "go").await;
    let ok = json!({"content": "hi"});
    let json = |request: Request| request.header("accept", "application/json");
    let refused = [
        (json(post(&messages(&conversation), &ok, "k")), 409),
        (json(post(&messages(&free), &json!({"content": "hi", "model": "none"}), "k")), 404),
        (json(post(STREAM, &json!({"message": "hi", "model": "none"}), "k")), 404),
        (json(post("/v1/conversations", &json!({"first_message": "hi", "config": {"model": "none"}}), "k")), 404),
        (json(post(&messages("conv_none"), &ok, "k")), 404),
        (post(&messages(&free), &ok, "k").header("accept", "text/html"), 406),
        (json(post(&messages(&free), &json!({"content": ""}), "k")), 422),
        (json(post(&messages(&free), &json!({"content": "hi", "parent_id": "msg_none"}), "k")), 422),
        (json(post(&messages(&free), &ok, "k").header("last-event-id", "x")), 422),
        (json(post(STREAM, &json!({"message": "hi", "session_id": "stream"}), "k")), 422),
    ];
    for (request, status) in refused {
        let target = request.target.clone();
        let reply = scene.client.send(request).await;
        assert_eq!(reply.status, status, "{target}: {}", reply.json());
    }
    assert_eq!(scene.client.messages(&free).await.len(), 0);
    assert_eq!(scene.database.numbers("select count(*) from conversations").await, [2]);
    assert_eq!(scene.database.numbers("select count(*) from idempotency_keys").await, [0]);
    reply(&scene.client, post(&messages(&free), &ok, "k")).await.expect(200);
    scene.client.stop(&live.turn()).await.expect(200);
    live.rest().await;
}

#[tokio::test]
async fn a_key_is_free_again_after_its_retention_and_not_before_its_turn_has_ended() {
    let scene = Scene::with(|setup| setup.set("stream.retention_s", 1)).await;
    scene.upstream.when("long", Script::new().stamped(1).hang());
    let long = post(STREAM, &json!({"message": "long"}), "long");
    let live = scene.client.open(long.clone().accept(Encoding::Ndjson)).await;
    let chat = post(STREAM, &json!({"message": "hi", "session_id": "s"}), "k");
    let mut first = scene.client.open(chat.clone().accept(Encoding::Ndjson)).await;
    first.rest().await;
    eventually("the key to be free", async || {
        let mut again = scene.client.open(chat.clone().accept(Encoding::Ndjson)).await;
        again.rest().await;
        (again.turn() != first.turn()).then_some(())
    })
    .await;
    // Freed, it may stand for something else.
    let other = post(STREAM, &json!({"message": "other"}), "k");
    eventually("the key to be free again", async || {
        (reply(&scene.client, other.clone()).await.status == 200).then_some(())
    })
    .await;
    let put_off = reply(&scene.client, long.header("prefer", "respond-async")).await.expect(202);
    assert_eq!(put_off["id"], live.turn(), "a live turn keeps its key however long it takes");
    assert_eq!(scene.upstream.calls().len(), 4);
    scene.client.stop(&live.turn()).await.expect(200);
}
