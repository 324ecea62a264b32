//! Refusals: each code that can be brought about from outside, by the operation that gives it.

use serde_json::{Value, json};
use tidegate::http::code::Code;

use crate::judge::Judge;
use crate::support::{Client, Database, Encoding, Gateway, Request, Script, Stream, Upstream};

/// What no operation gives (no such method, nothing that makes it yet), what takes a fault of the gateway or of the
/// machine, and what takes half a minute of waiting.
const ELSEWHERE: [Code; 6] = [
    Code::UpstreamTruncated,
    Code::MethodNotAllowed,
    Code::Internal,
    Code::TooManyConnections,
    Code::Draining,
    Code::RequestTimeout,
];

/// How many turns may live.
const LIVE: i32 = 8;

fn refused(request: Request, code: Code) -> (Request, Code) {
    (request, code)
}

/// A POST of bytes that say they are of this kind.
fn bytes(target: &str, kind: &str, bytes: &[u8]) -> Request {
    let body = Some(bytes.to_vec());
    Request { method: "POST".to_owned(), body, ..Request::get(target) }.header("content-type", kind)
}

fn as_json(target: &str, body: &Value) -> Request {
    Request::post(target, body).header("accept", "application/json")
}

/// Asks, and leaves the turn live: the stream must be held.
async fn live(client: &Client, conversation: &str) -> Stream {
    let mut stream = client.ask(conversation, "silent").await;
    stream.event().await;
    stream
}

#[tokio::test]
async fn every_refusal_is_as_described() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let setup = Gateway::on(&database).demo().upstream(&upstream).set("default_model", "demo");
    let setup =
        setup.set("upstreams.1.models", vec!["odd"]).set("limits.queued_turns", 1).set("limits.readers_per_turn", 1);
    let setup = setup
        .set("window.models.odd", 64)
        .set("limits.max_live_turns", LIVE)
        .set("limits.max_body_bytes", 4000)
        .set("limits.idle_s", 1);
    let gateway = setup.start().await;
    let client = gateway.client();
    let judge = Judge::new(client.clone());
    let conversation = client.conversation().await;
    let messages = format!("/v1/conversations/{conversation}/messages");
    let chat = "/v1/chat/stream";
    let body = json!({"message": "hello"});
    upstream.always(Script::new().role().raw("data: {not json\n\n"));
    client
        .send(Request::post(chat, &json!({"message": "hello", "session_id": "s"})).header("idempotency-key", "k"))
        .await;
    client.send(Request { method: "DELETE".to_owned(), ..Request::get("/v1/chat/s") }).await;
    client.send(Request::post(chat, &body).header("idempotency-key", "used")).await;
    let (paused, ended, hi) = (client.conversation().await, client.conversation().await, json!({"content": "hi"}));
    client.post(&format!("/v1/conversations/{paused}/pause"), &json!({})).await.expect(200);
    client.post(&format!("/v1/conversations/{ended}/end"), &json!({})).await.expect(200);
    let stall = json!({"message": "stall"});
    let mut all = vec![
        refused(bytes("/v1/conversations", "application/json", b"{"), Code::InvalidJson),
        refused(bytes("/v1/conversations", "text/plain", b"{}"), Code::UnsupportedMediaType),
        refused(bytes(chat, "application/json", &[b' '; 5000]), Code::BodyTooLarge),
        refused(Request::get(&format!("/v1/models?{}", "x".repeat(9000))), Code::UriTooLong),
        refused(Request::get("/readyz").header("host", "evil.example"), Code::WrongHost),
        refused(Request::post(chat, &body).header("sec-fetch-site", "cross-site"), Code::CrossSiteRequest),
        refused(Request::get("/v1/conversations/conv_x"), Code::ConversationNotFound),
        refused(Request::get("/v1/conversations/conv_x/events"), Code::ConversationNotFound),
        refused(
            Request::post("/v1/conversations/conv_x/messages", &json!({"content": "a"})),
            Code::ConversationNotFound,
        ),
        refused(Request::post(&format!("/v1/conversations/{paused}/messages"), &hi), Code::ConversationPaused),
        refused(Request::post(&format!("/v1/conversations/{ended}/messages"), &hi), Code::ConversationEnded),
        refused(Request::post(&format!("/v1/conversations/{ended}/pause"), &json!({})), Code::ConversationEnded),
        refused(Request::post("/v1/messages/msg_x/regenerate", &json!({})), Code::MessageNotFound),
        refused(Request::post("/v1/messages/msg_x/feedback", &json!({"rating": "up"})), Code::MessageNotFound),
        refused(Request::get("/v1/turns/a%00"), Code::RouteNotFound),
        refused(Request::get("/v1/chat/%ff/history"), Code::RouteNotFound),
        refused(Request::get("/v1/turns/turn_x"), Code::TurnNotFound),
        refused(Request::get("/v1/turns/turn_x/events"), Code::TurnNotFound),
        refused(Request::post("/v1/turns/turn_x/stop", &json!({})), Code::TurnNotFound),
        refused(Request::post(&messages, &json!({"content": "a", "model": "none"})), Code::ModelNotFound),
        refused(Request::post("/v1/conversations", &json!({"assistant_id": "a"})), Code::AssistantNotFound),
        refused(Request::post(chat, &body).header("accept", "image/png"), Code::NotAcceptable),
        refused(Request::get("/v1/chat/stream?message=a&key=b").header("accept", "text/html"), Code::NotAcceptable),
        refused(Request::get("/v1/chat/stream?message=a"), Code::InvalidRequest),
        refused(Request::get("/v1/chat/stream/history"), Code::InvalidRequest),
        refused(Request { method: "DELETE".to_owned(), ..Request::get("/v1/chat/stream%20x") }, Code::InvalidRequest),
        refused(Request::post(&messages, &json!({"content": ""})), Code::InvalidRequest),
        refused(Request::get(&format!("{messages}?limit=101")), Code::InvalidRequest),
        refused(Request::get("/v1/usage?tz=Mars"), Code::InvalidRequest),
        refused(Request::get(&format!("/v1/conversations/{conversation}/events?after=x")), Code::InvalidCursor),
        refused(Request::get("/v1/turns/turn_x/events?after=-1"), Code::InvalidCursor),
        refused(as_json(chat, &stall).header("idempotency-key", "used"), Code::IdempotencyKeyReused),
        refused(
            Request::post(chat, &json!({"message": "hello", "session_id": "s"})).header("idempotency-key", "k"),
            Code::TurnDeleted,
        ),
        refused(as_json(chat, &json!({"message": "busy"})), Code::UpstreamRateLimited),
        refused(as_json(chat, &json!({"message": "fail"})), Code::UpstreamError),
        refused(as_json(chat, &json!({"message": "refuse"})), Code::UpstreamUnavailable),
        refused(as_json(chat, &json!({"message": "odd", "model": "odd"})), Code::UpstreamProtocol),
        refused(as_json(chat, &json!({"message": "odd ".repeat(100), "model": "odd"})), Code::ContextExceeded),
        refused(as_json(chat, &stall), Code::Timeout),
    ];
    // What a live turn is the reason for; the demo says nothing until patience is lost.
    let held = live(&client, &conversation).await;
    let turn = held.turn();
    all.push(refused(Request::post(&messages, &json!({"content": "a"})), Code::TurnInProgress));
    all.push(refused(Request::get(&format!("/v1/turns/{turn}/events")).accept(Encoding::Ndjson), Code::TooManyReaders));
    for (request, code) in all {
        expect(&judge, request, code).await;
    }

    let queued = Request::post(&messages, &json!({"content": "a", "if_busy": "queue"}));
    client.send(queued.clone().header("prefer", "respond-async")).await.expect(202);
    expect(&judge, queued, Code::QueueFull).await;
    let silent = Request::post(chat, &json!({"message": "silent"})).header("prefer", "respond-async");
    for _ in 0..LIVE {
        client.send(silent.clone()).await;
    }
    expect(&judge, Request::post(chat, &body), Code::TooManyTurns).await;
    drop(held);
    let block = database.block().await;
    expect(&judge, Request::post("/v1/conversations", &json!({})), Code::StoreUnavailable).await;
    drop(block);

    let judge = strangers(judge).await;
    let seen = judge.codes();
    let due = Code::ALL.iter().filter(|code| !ELSEWHERE.contains(code)).map(|code| code.as_str().to_owned());
    let unseen: Vec<String> = due.filter(|code| !seen.contains(code)).collect();
    assert_eq!(unseen, ["bad_request"], "described, and never seen");
    let two_hosts = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = String::from_utf8(client.raw(two_hosts).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"bad_request\""), "{answer}");
}

/// What is refused where callers must say who they are.
async fn strangers(judge: Judge) -> Judge {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let gateway = Gateway::on(&database).upstream(&upstream).closed().start().await;
    let (nobody, admin) = (gateway.client(), gateway.client().bearing(&gateway.key("shop", "admin").text));
    let judge = judge.by(nobody.clone());
    for request in [
        Request::get("/v1/models"),
        Request::get("/v1/conversations/conv_x"),
        Request::get("/v1/chat/stream?message=a&key=b").accept(Encoding::Sse),
        Request::post("/v1/visitors", &json!({"widget_key": "wk_nobody"})),
        Request::post("/v1/session", &json!({})),
        Request::get("/metrics"),
    ] {
        expect(&judge, request, Code::AuthenticationRequired).await;
    }
    let through = Request::post("/v1/chat/stream", &json!({"message": "a"})).header("tidegate-widget", "wk_shop");
    expect(&judge, through, Code::OriginNotAllowed).await;
    let judge = judge.by(nobody.bearing(&gateway.key("shop", "service").text));
    expect(&judge, Request::get("/v1/keys"), Code::Forbidden).await;
    let judge = judge.by(admin);
    expect(&judge, Request::post("/v1/keys/key_x/rotate", &json!({})), Code::KeyNotFound).await;
    expect(&judge, Request { method: "DELETE".to_owned(), ..Request::get("/v1/keys/key_x") }, Code::KeyNotFound).await;
    expect(&judge, Request::post("/v1/keys", &json!({"role": "god"})), Code::InvalidRequest).await;
    judge
}

async fn expect(judge: &Judge, request: Request, code: Code) {
    let what = format!("{} {}", request.method, request.target);
    let problem = judge.ask(request).await.json();
    assert_eq!(problem["code"], code.as_str(), "{what}: {problem:#}");
}
