//! One call for a widget, `curl` or `new EventSource(url)`: sessions by the client's own names, and their reset.

use serde_json::{Value, json};

use crate::support::{Client, Encoding, Fold, Frame, Gate, Reply, Request, Scene, Script, Task};

const STREAM: &str = "/v1/chat/stream";

fn post(body: &Value, key: &str) -> Request {
    Request::post(STREAM, body).header("idempotency-key", key)
}

async fn reply(client: &Client, request: Request) -> Reply {
    client.send(request.header("accept", "application/json")).await
}

async fn reset(client: &Client, session: &str) -> Reply {
    client.send(Request { method: "DELETE".into(), ..Request::get(&format!("/v1/chat/{session}")) }).await
}

async fn history(client: &Client, session: &str) -> Vec<Value> {
    let history = client.get(&format!("/v1/chat/{session}/history")).await.expect(200);
    history["messages"].as_array().cloned().unwrap_or_else(|| panic!("no messages: {history}"))
}

fn bytes(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &*frame.bytes).collect()
}

#[tokio::test]
async fn a_reset_leaves_a_tombstone() {
    let mut scene = Scene::new().await;
    let client = scene.client.clone();
    let chat = post(&json!({"message": "hi", "session_id": "s"}), "chat");
    let mut first = client.open(chat.clone().accept(Encoding::Ndjson)).await;
    first.rest().await;
    let conversation = first.header("conversation-id").unwrap().to_owned();
    let target = format!("/v1/conversations/{conversation}/messages");
    let message = Request::post(&target, &json!({"content": "more"})).header("idempotency-key", "message");
    reply(&client, message.clone()).await.expect(200);
    let get = Request::get("/v1/chat/stream?message=hi&session_id=s&key=get").accept(Encoding::Sse);
    client.open(get.clone()).await.rest().await;
    let calls = scene.upstream.calls().len();
    reset(&client, "s").await.expect(200);
    for round in 0..2 {
        for request in [&chat, &message] {
            for accept in ["application/json", "application/x-ndjson"] {
                let problem = client.send(request.clone().header("accept", accept)).await.expect(410);
                assert_eq!(problem["code"], "turn_deleted", "{}", request.target);
            }
            let gone = client.send(request.clone().accept(Encoding::Sse)).await;
            assert_eq!((gone.status, gone.bytes.len()), (204, 0), "{}", request.target);
            let other = Request { body: Some(br#"{"message":"x"}"#.to_vec()), ..chat.clone() };
            assert_eq!(reply(&client, other).await.expect(422)["code"], "idempotency_key_reused");
        }
        assert_eq!(client.send(get.clone()).await.status, 204);
        if round == 0 {
            scene.gateway.kill();
            scene.gateway.restart().await;
        }
    }
    assert_eq!(scene.upstream.calls().len(), calls);
    assert_eq!(scene.database.numbers("select count(*) from messages").await, [0]);
}

#[tokio::test]
async fn an_event_source_comes_back_to_the_turn_it_started() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(5).gate(&gate).stamped(5).finish("stop").usage(1, 10).done());
    let target = "/v1/chat/stream?message=go+%C3%A9&session_id=s&key=k";
    let get = |target: &str| Request::get(target).accept(Encoding::Sse);
    let mut first = scene.client.open(get(target)).await;
    let (turn, conversation) = (first.turn(), first.header("conversation-id").unwrap().to_owned());
    let mut frames = first.events(4).await;
    first.leave();
    let mut named = scene.client.open(get(&format!("{target}&events=named&heartbeat=event&after=2"))).await;
    let mut second = scene.client.open(get(target).header("last-event-id", "4")).await;
    gate.open();
    frames.extend(second.rest().await);
    assert_eq!((second.turn(), named.turn()), (turn.clone(), turn));
    let message = scene.client.answer(&conversation).await;
    Fold::of(&frames).assert_same_as(&message);
    assert_eq!(bytes(&named.rest().await), bytes(&frames[2..]));
    let last = frames.len().to_string();
    let done = scene.client.send(get(target).header("last-event-id", &last)).await;
    assert_eq!((done.status, done.bytes.len()), (204, 0));
    // A page that is reloaded asks without an id, and is told all of it once more.
    assert_eq!(bytes(&scene.client.open(get(target)).await.rest().await), bytes(&frames));
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_eq!(scene.upstream.calls()[0].question(), "go é");
    for (target, field) in [
        ("/v1/chat/stream?message=go", "key"),
        ("/v1/chat/stream?key=k3", "message"),
        ("/v1/chat/stream?message=&key=k3", "message"),
        ("/v1/chat/stream?message=go&key=a%20b", "key"),
        ("/v1/chat/stream?message=go&key=k3&colour=red", "colour"),
    ] {
        let problem = scene.client.send(get(target)).await.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!(field)), "{target}");
    }
    let other = scene.client.send(get("/v1/chat/stream?message=other&session_id=s&key=k")).await.expect(422);
    assert_eq!(other["code"], "idempotency_key_reused");
    let json = Request::get("/v1/chat/stream?message=go&key=k4").header("accept", "application/json");
    assert_eq!(scene.client.send(json).await.expect(406)["code"], "not_acceptable");
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_session_is_what_its_client_calls_it() {
    let scene = Scene::new().await;
    let client = &scene.client;
    assert!(history(client, "unknown").await.is_empty());
    assert_eq!(reset(client, "unknown").await.expect(200)["message"].as_str().map(str::is_empty), Some(false));
    let names = ["s".to_owned(), "!\"#$%&'()*+,-.:;<=>?@[]^_`{|}~".to_owned(), "x".repeat(255), "Stream".to_owned()];
    for name in &names {
        for message in ["one", "two"] {
            let body = json!({"message": message, "session_id": name});
            client.post(STREAM, &body).await.expect(200);
        }
        let path: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let texts: Vec<_> = history(client, &path).await.iter().map(|one| one["text"].clone()).collect();
        assert_eq!(texts, ["one", "Hello from the fake.", "two", "Hello from the fake."]);
    }
    let last = scene.upstream.calls().pop().unwrap();
    assert_eq!(last.body["messages"].as_array().unwrap().len(), 3, "a session goes on: {}", last.body);
    for bad in ["", "stream", "a b", "\u{7f}", "é", "a\nb", &"x".repeat(256)] {
        let problem = client.post(STREAM, &json!({"message": "hi", "session_id": bad})).await.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!("session_id")), "{bad}");
    }
    assert_eq!(client.get("/v1/chat/stream/history").await.expect(422)["field"], "session_id");
    // Without a name each call is a conversation of its own.
    let one = client.open(Request::post(STREAM, &json!({"message": "hi"})).accept(Encoding::Ndjson)).await;
    let two = client.open(Request::post(STREAM, &json!({"message": "hi"})).accept(Encoding::Ndjson)).await;
    assert_ne!(one.header("conversation-id"), two.header("conversation-id"));
}

#[tokio::test]
async fn a_history_shows_who_said_what_and_how_it_came_about() {
    let scene = Scene::with(|setup| setup.demo().set("upstreams.0.models", vec!["test-model"])).await;
    let client = &scene.client;
    let body =
        json!({"message": "What is a tide? Show the sources, steps and a table.", "session_id": "s", "model": "demo"});
    let answer = client.post(STREAM, &body).await.expect(200);
    let list = history(client, "s").await;
    assert_eq!((&list[0]["sender"], &list[0]["text"]), (&json!("user"), &body["message"]));
    assert_eq!((&list[1]["sender"], &list[1]["text"]), (&json!("bot"), &answer["content"]));
    assert_eq!((&list[1]["id"], &list[1]["sources"]), (&answer["id"], &answer["sources"]));
    assert_eq!(list[0]["visualization"], Value::Null);
    let last = answer["visualizations"].as_array().unwrap().last().cloned();
    assert_eq!(list[1]["visualization"], last.unwrap_or(Value::Null));
    fn count(steps: &Value, parent: &Value) -> usize {
        let steps = steps.as_array().unwrap();
        steps.iter().for_each(|step| assert_eq!(&step["parent_id"], parent, "{step}"));
        steps.iter().map(|step| 1 + count(&step["children"], &step["step_id"])).sum()
    }
    let nested = count(&list[1]["steps"], &Value::Null);
    assert_eq!(nested, answer["steps"].as_array().unwrap().len());
    assert!(list[1]["steps"].as_array().unwrap().len() < nested, "nothing is nested: {}", list[1]["steps"]);
}

#[tokio::test]
async fn a_reset_ends_a_live_turn_and_erases_it_all() {
    let scene = Scene::new().await;
    let client = &scene.client;
    scene.upstream.push(Script::new().stamped(3).hang());
    let open = |body: &Value| client.open(Request::post(STREAM, body).accept(Encoding::Ndjson));
    let mut live = open(&json!({"message": "one", "session_id": "s"})).await;
    let conversation = live.header("conversation-id").unwrap().to_owned();
    let queued = json!({"content": "two", "if_busy": "queue"});
    let mut queued = client.ask_as(Encoding::Sse, &conversation, &queued).await;
    let waiting = Task::start({
        let (client, target) = (client.clone(), format!("/v1/turns/{}/events", live.turn()));
        async move { client.get(&target).await }
    });
    let mut frames = live.events(5).await;
    reset(client, "s").await.expect(200);
    frames.extend(live.rest().await);
    for end in [frames.last().unwrap(), queued.rest().await.last().unwrap()] {
        let (kind, end) = (end.kind(), &end.json);
        assert_eq!(
            (kind, &end["status"], &end["stopped_by"]),
            ("turn.finished", &json!("stopped"), &json!("deletion"))
        );
    }
    let waited = waiting.join().await;
    assert!(matches!(waited.status, 200 | 404), "{}", waited.json());
    scene.upstream.call(0).await.closed().await;
    assert_eq!(scene.upstream.calls().len(), 1);
    assert!(history(client, "s").await.is_empty());
    assert_eq!(client.get(&format!("/v1/turns/{}", live.turn())).await.expect(404)["code"], "turn_not_found");
    let target = format!("/v1/conversations/{conversation}/messages");
    assert_eq!(client.get(&target).await.expect(404)["code"], "conversation_not_found");
    for table in ["conversations", "turns", "messages", "journal"] {
        assert_eq!(scene.database.numbers(&format!("select count(*) from {table}")).await, [0], "{table}");
    }
    reset(client, "s").await.expect(200);
    client.post(STREAM, &json!({"message": "anew", "session_id": "s"})).await.expect(200);
    assert_eq!(history(client, "s").await.len(), 2);
    assert_eq!(scene.upstream.calls()[1].body["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_history_that_is_brought_along_stands_for_the_saved_one_and_is_not_kept() {
    let scene = Scene::new().await;
    let client = &scene.client;
    client.post(STREAM, &json!({"message": "saved", "session_id": "s"})).await.expect(200);
    let brought = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let body = json!({"message": "c", "session_id": "s", "history": brought, "language": "pt-BR"});
    client.post(STREAM, &body).await.expect(200);
    client.post(STREAM, &json!({"message": "d", "session_id": "s"})).await.expect(200);
    let asked = |n: usize| scene.upstream.calls()[n].body["messages"].as_array().unwrap().clone();
    let (second, third) = (asked(1), asked(2));
    assert_eq!(second[0]["role"], "system");
    assert!(second[0]["content"].as_str().unwrap().contains("pt-BR"), "{second:?}");
    let said: Vec<_> = second[1..].iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["a", "b", "c"]);
    let said: Vec<_> = third.iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["saved", "Hello from the fake.", "c", "Hello from the fake.", "d"]);
    assert_eq!(history(client, "s").await.len(), 6);
    let many = |count| (0..count).map(|_| json!({"role": "user", "content": "x"})).collect::<Vec<_>>();
    client.post(STREAM, &json!({"message": "hi", "history": many(100)})).await.expect(200);
    for (wrong, field) in [
        (json!({"message": "hi", "history": many(101)}), "history"),
        (json!({"message": "hi", "history": [{"role": "system", "content": "x"}]}), "history[0].role"),
        (json!({"message": "hi", "history": [{"role": "user"}]}), "history[0].content"),
        (json!({"message": "hi", "history": [{"role": "user", "content": "x", "name": "y"}]}), "history[0].name"),
        (json!({"message": "hi", "language": "not a language"}), "language"),
        (json!({"message": "hi", "assistant": "x"}), "assistant"),
        (json!({"message": 7}), "message"),
        (json!({"session_id": "s"}), "message"),
    ] {
        let problem = client.post(STREAM, &wrong).await.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!(field)), "{wrong}");
    }
    let unknown = client.post(STREAM, &json!({"message": "hi", "assistant_id": "asst_x"})).await.expect(404);
    assert_eq!(unknown["code"], "assistant_not_found");
    assert_eq!(scene.upstream.calls().len(), 4);
}
