//! Success: every answer that is described, in every encoding, as it really comes.

use serde_json::{Value, json};

use crate::judge::Judge;
use crate::support::access::{PAGE, user};
use crate::support::{Database, Encoding, Gateway, Request, eventually};

/// Every name an encoding goes by.
const KINDS: [&str; 5] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "text/event-stream", "application/json"];
/// A question to the demo that brings out all it can do.
const ALL: &str = "think, then show a chart";

fn post(target: &str, body: &Value, kind: &str) -> Request {
    Request::post(target, body).header("accept", kind)
}

fn delete(target: &str) -> Request {
    Request { method: "DELETE".to_owned(), ..Request::get(target) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_answer_is_as_described() {
    let database = Database::fresh().await;
    let gateway = Gateway::on(&database).demo().set("default_model", "demo").start().await;
    let judge = Judge::new(gateway.client());
    let new =
        json!({"title": "T", "config": {"temperature": 0.5, "model": "demo"}, "metadata": {"a": 1}, "context": {}});
    let conversation = text(&judge.ask(Request::post("/v1/conversations", &new)).await.expect(201)["id"]);
    judge.ask(Request::get(&format!("/v1/conversations/{conversation}"))).await.expect(200);

    let turn = asked(&judge, &format!("/v1/conversations/{conversation}/messages"), "content").await;
    asked(&judge, "/v1/chat/stream", "message").await;
    again(&judge, &conversation).await;
    read(&judge, &conversation, &turn).await;
    chat(&judge).await;
    stopping(&judge, &database, &conversation).await;
    kept(&judge, &conversation).await;
    for query in ["", "?group_by=day,model,user,assistant,key&tz=Europe/Berlin&from=2026-01-01&to=2026-12-31"] {
        judge.ask(Request::get(&format!("/v1/usage{query}"))).await.expect(200);
    }
    judge.ask(Request::get("/v1/usage?group_by=&format=csv")).await.expect(200);
    for path in ["/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json"] {
        judge.ask(Request::get(path)).await.expect(200);
    }
    let judge = let_in(judge).await;
    assert_eq!(judge.unseen(), [""; 0], "described, and never seen");
}

/// Where callers must say who they are: visitors, cookies, tickets, keys and users.
async fn let_in(judge: Judge) -> Judge {
    let database = Database::fresh().await;
    let gateway = Gateway::on(&database).demo().set("default_model", "demo").closed().start().await;
    let nobody = gateway.client();
    let page = nobody.with_header("origin", PAGE).with_header("tidegate-widget", "wk_shop");
    let judge = judge.by(page.bearing("nonsense"));
    let reply = judge.ask(Request::post("/v1/conversations", &json!({}))).await;
    assert!(reply.header("auth-status").is_some() && reply.header("visitor-token").is_some());
    judge.ask(Request::post("/v1/visitors", &json!({"widget_key": "wk_shop"}))).await.expect(200);
    let judge = judge.by(nobody.bearing(&user("anna")));
    judge.ask(Request::post("/v1/session", &json!({}))).await.expect(204);
    judge.ask(delete("/v1/session")).await.expect(204);
    let conversation = judge.client().conversation().await;
    judge.ask(Request::post("/v1/tickets", &json!({"conversation_id": conversation}))).await.expect(200);
    let judge = judge.by(nobody.bearing(&gateway.key("shop", "admin").text));
    let made = judge.ask(Request::post("/v1/keys", &json!({"role": "read"}))).await.expect(201);
    let path = format!("/v1/keys/{}", text(&made["id"]));
    judge.ask(Request::post(&format!("{path}/rotate"), &json!({"overlap_s": 60}))).await.expect(201);
    judge.ask(delete(&path)).await.expect(204);
    let page = judge.ask(Request::get("/v1/keys?limit=1")).await.expect(200);
    judge.ask(Request::get(&format!("/v1/keys?cursor={}", text(&page["next_cursor"])))).await.expect(200);
    let change = Request { method: "PATCH".to_owned(), ..Request::post("/v1/users/bert", &json!({"active": false})) };
    judge.ask(change).await.expect(200);
    let listed = judge.ask(Request::get("/v1/users")).await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(3), "{listed}");
    judge.ask(delete("/v1/users/bert").header("prefer", "respond-async")).await.expect(202);
    judge.ask(delete("/v1/users/anna")).await.expect(204);
    let page = judge.ask(Request::get("/v1/audit?limit=2")).await.expect(200);
    judge.ask(Request::get(&format!("/v1/audit?cursor={}", text(&page["next_cursor"])))).await.expect(200);
    judge
}

/// A turn in every encoding, put off, and joined when all is said; gives the last one.
async fn asked(judge: &Judge, target: &str, field: &str) -> String {
    for kind in KINDS {
        judge.ask(post(target, &json!({ field: ALL }), kind).header("idempotency-key", &format!("{field}-all"))).await;
    }
    let body = json!({ field: [{"type": "text", "text": "hello"}] });
    let later = post(target, &body, "*/*").header("prefer", "respond-async").header("idempotency-key", field);
    let turn = judge.ask(later.clone()).await.expect(202);
    let waited = post(target, &body, "application/json").header("idempotency-key", field);
    let message = judge.ask(waited.header("prefer", "respond-async, wait=60")).await.expect(200);
    let again = post(&format!("{target}?after={}", message["seq"]), &body, "text/event-stream");
    judge.ask(again.header("idempotency-key", field)).await.expect(204);
    text(&turn["id"])
}

/// Another answer in every encoding, and what is thought of it.
async fn again(judge: &Judge, conversation: &str) {
    let page = judge.ask(Request::get(&format!("/v1/conversations/{conversation}/messages"))).await.expect(200);
    let message = format!("/v1/messages/{}", text(&page["data"][1]["id"]));
    let target = format!("{message}/regenerate");
    for kind in KINDS {
        judge.ask(post(&target, &json!({"model": "demo"}), kind).header("idempotency-key", "again")).await.expect(200);
    }
    let later = post(&target, &json!({"if_busy": "queue"}), "*/*").header("prefer", "respond-async");
    let turn = judge.ask(later.header("idempotency-key", "later")).await.expect(202);
    let ended = judge.client().ended(&text(&turn["id"])).await;
    let over = post(&format!("{target}?after={}", ended["seq"]), &json!({"if_busy": "queue"}), "text/event-stream");
    judge.ask(over.header("idempotency-key", "later")).await.expect(204);
    let opinion = json!({"rating": "down", "reason": "outdated", "note": "Read the newer one."});
    judge.ask(Request::post(&format!("{message}/feedback"), &opinion)).await.expect(200);
}

/// What is there afterwards, in every encoding.
async fn read(judge: &Judge, conversation: &str, turn: &str) {
    let messages = format!("/v1/conversations/{conversation}/messages");
    let page = judge.ask(Request::get(&format!("{messages}?limit=2"))).await.expect(200);
    judge.ask(Request::get(&format!("{messages}?before={}", text(&page["next_cursor"])))).await.expect(200);
    let ended = judge.ask(Request::get(&format!("/v1/turns/{turn}"))).await.expect(200);
    for kind in KINDS {
        for query in ["", "?after=2&events=named&heartbeat=event&follow=0", "?after=9000000"] {
            let target = format!("/v1/turns/{turn}/events{query}");
            judge.ask(Request::get(&target).header("accept", kind)).await.expect(200);
        }
    }
    let last = Request::get(&format!("/v1/turns/{turn}/events")).header("last-event-id", &ended["seq"].to_string());
    judge.ask(last.accept(Encoding::Sse)).await.expect(204);
    for kind in KINDS.into_iter().filter(|kind| *kind != "application/json") {
        let target = format!("/v1/conversations/{conversation}/events?after=0&heartbeat=event");
        let mut feed = judge.client().open(Request::get(&target).header("accept", kind)).await;
        judge.judge_frames(&target, kind, &feed.events(200).await);
    }
    judge.ask(Request::post(&format!("/v1/turns/{turn}/stop"), &json!({}))).await.expect(200);
    judge
        .ask(Request { method: "POST".to_owned(), ..Request::get(&format!("/v1/turns/{turn}/stop")) })
        .await
        .expect(200);
}

/// The list, another title, and the end of a conversation.
async fn kept(judge: &Judge, conversation: &str) {
    let page = judge.ask(Request::get("/v1/conversations?limit=1")).await.expect(200);
    let next = text(&page["next_cursor"]);
    judge.ask(Request::get(&format!("/v1/conversations?q=t&limit=100&cursor={next}"))).await.expect(200);
    let path = format!("/v1/conversations/{conversation}");
    let found = "/v1/conversations?q=thi&state=active&include_archived=1&sort=created&order=asc";
    eventually("the index", async || {
        let page = judge.ask(Request::get(found)).await.expect(200);
        page["data"][0]["match"]["message"].is_object().then_some(())
    })
    .await;
    let change = Request { method: "PATCH".to_owned(), ..Request::post(&path, &json!({"title": "U"})) };
    assert_eq!(judge.ask(change).await.expect(200)["title"], "U");
    for kind in ["application/json", "application/merge-patch+json"] {
        let context = Request::post(&format!("{path}/context"), &json!({"tier": {"name": "gold"}}));
        let change = Request { method: "PATCH".to_owned(), headers: Vec::new(), ..context };
        assert_eq!(judge.ask(change.header("content-type", kind)).await.expect(200)["tier"]["name"], "gold");
    }
    judge.ask(Request::get(&format!("{path}/context"))).await.expect(200);
    for format in ["json", "markdown"] {
        judge.ask(Request::get(&format!("{path}/export?format={format}"))).await.expect(200);
    }
    judge.ask(delete(&format!("{path}/context"))).await.expect(204);
    for life in ["archive", "unarchive", "pause", "resume", "end"] {
        judge.ask(Request::post(&format!("{path}/{life}"), &json!({}))).await.expect(200);
    }
    judge.ask(delete(&path)).await.expect(204);
}

/// A session by `EventSource`, its history, its reset.
async fn chat(judge: &Judge) {
    let source = "/v1/chat/stream?message=table&session_id=me&key=k";
    judge.ask(Request::get(source)).await.expect(200);
    judge.ask(Request::get(&format!("{source}&after=1&events=named"))).await.expect(200);
    let history = judge.ask(Request::get("/v1/chat/me/history")).await.expect(200);
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(2));
    assert!(history["messages"][1]["visualization"].is_object(), "{history}");
    judge.ask(Request::get("/v1/chat/nobody/history")).await.expect(200);
    judge.ask(delete("/v1/chat/me")).await.expect(200);
    judge.ask(Request::get(source)).await.expect(204);
}

/// A stop whose end cannot be committed yet.
async fn stopping(judge: &Judge, database: &Database, conversation: &str) {
    let ask = post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "slow"}), "*/*");
    let turn = text(&judge.ask(ask.header("prefer", "respond-async")).await.expect(202)["id"]);
    let block = database.block().await;
    judge.ask(Request::post(&format!("/v1/turns/{turn}/stop"), &json!({}))).await.expect(202);
    drop(block);
    judge.client().ended(&turn).await;
}
