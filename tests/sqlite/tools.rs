//! The tools of the stories, tried on each other before they are trusted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Client, Closing, Database, Fold, Gate, Proxy, Request, Script, Stream, Task, Upstream, assert_stamps, stamp,
};

async fn ask(address: SocketAddr, question: &str) -> Stream {
    let body = json!({"messages": [{"role": "user", "content": question}]});
    Client::new(address).open(Request::post("/v1/chat/completions", &body)).await
}

#[tokio::test]
async fn scripts_are_chosen_by_word_then_queue_then_habit() {
    let upstream = Upstream::start().await;
    upstream.when("first", Script::status(500, &[], &json!({})));
    upstream.push(Script::status(501, &[("retry-after", "7")], &json!({})));
    upstream.always(Script::status(502, &[], &json!({})));
    let client = Client::new(upstream.address());
    let body = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    for (question, status) in [("a", 501), ("the first", 500), ("b", 502), ("c", 502)] {
        let reply = client.post("/v1/chat/completions", &body(question)).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("retry-after"), (status == 501).then_some("7"));
    }
    let asked: Vec<_> = upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["a", "the first", "b", "c"]);
}

#[tokio::test]
async fn a_script_says_what_it_is_told_however_it_is_cut() {
    let upstream = Upstream::start().await;
    let mut bodies = Vec::new();
    for size in [1, 7, usize::MAX] {
        upstream
            .push(Script::new().line_end("\r\n").bom().comment("hm").stamped(3).finish("stop").done().writes_of(size));
        let mut stream = ask(upstream.address(), "go").await;
        assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
        bodies.push(stream.text().await);
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(bodies[0], bodies[2]);
    assert!(bodies[0].starts_with("\u{feff}: hm\r\n\r\ndata: {"), "{}", bodies[0]);
    assert!(bodies[0].contains(&stamp(2)) && bodies[0].ends_with("data: [DONE]\r\n\r\n"), "{}", bodies[0]);
}

#[tokio::test]
async fn every_end_of_a_body_is_told_apart() {
    let upstream = Upstream::start().await;
    let ends =
        [(Script::new(), Closing::Clean), (Script::new().cut(), Closing::Cut), (Script::new().reset(), Closing::Reset)];
    for (script, closing) in ends {
        upstream.push(script);
        assert_eq!(close_of(upstream.address()).await, closing);
    }
    upstream.push(Script::until_close().raw("x"));
    assert_eq!(close_of(upstream.address()).await, Closing::Clean);
}

async fn close_of(address: SocketAddr) -> Closing {
    // Nothing here is a frame, so the bytes are not looked at.
    let mut stream = ask(address, "go").await;
    stream.read_to_close().await
}

#[tokio::test]
async fn a_gate_holds_a_script_and_a_close_is_noticed() {
    let upstream = Upstream::start().await;
    let gate = Gate::new();
    upstream.push(Script::new().comment("one").gate(&gate).comment("two").hang());
    let mut stream = ask(upstream.address(), "go").await;
    gate.reached().await;
    let call = upstream.call(0).await;
    assert!(!call.is_closed());
    gate.pass(1);
    stream.bytes(110).await;
    let left = Instant::now();
    stream.leave();
    assert!(call.closed().await.duration_since(left) < Duration::from_secs(5));
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn refusing_closes_what_is_open_and_takes_nothing_new() {
    let upstream = Upstream::start().await;
    upstream.push(Script::new().hang());
    let mut stream = ask(upstream.address(), "go").await;
    upstream.refuse();
    assert_ne!(stream.read_to_close().await, Closing::Clean);
    assert!(Client::new(upstream.address()).try_open(Request::get("/")).await.is_err());
}

/// A server that says these bytes once, by an upstream's own means.
async fn serve(content_type: &str, body: &str) -> Stream {
    let upstream = Upstream::start().await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len());
    upstream.push(Script::exactly(head + body));
    let stream = ask(upstream.address(), "go").await;
    upstream.call(0).await.played().await;
    stream
}

#[tokio::test]
async fn both_encodings_are_read_alike() {
    let ndjson = "{\"seq\":1,\"type\":\"delta\",\"text\":\"a\"}\n{\"type\":\"ping\"}\n{\"seq\":2,\"type\":\"delta\",\"text\":\"b\"}\n";
    let sse = "retry: 1000\n\nid: 1\ndata: {\"seq\":1,\"type\":\"delta\",\"text\":\"a\"}\n\n: ping\n\nid: 2\ndata: {\"seq\":2,\"type\":\"delta\",\"text\":\"b\"}\n\n";
    let mut lines = serve("application/x-ndjson", ndjson).await;
    let mut events = serve("text/event-stream", sse).await;
    let (lines_read, events_read) = (lines.rest().await, events.rest().await);
    assert_eq!((lines.pings, events.comments()), (1, &["ping".to_owned()][..]));
    assert_eq!(lines_read.len(), 2);
    for (line, event) in lines_read.iter().zip(&events_read) {
        assert_eq!(line.bytes, event.bytes);
    }
    assert_eq!(Fold::of(&events_read).content(), "ab");
}

#[tokio::test]
#[should_panic(expected = "blank line")]
async fn a_blank_line_in_ndjson_is_a_breach() {
    serve("application/x-ndjson", "{\"type\":\"ping\"}\n\n").await.rest().await;
}

#[tokio::test]
#[should_panic(expected = "the SSE id is")]
async fn a_wrong_sse_id_is_a_breach() {
    serve("text/event-stream", "retry: 1000\n\nid: 2\ndata: {\"seq\":1,\"type\":\"delta\"}\n\n").await.rest().await;
}

#[tokio::test]
#[should_panic(expected = "in place of `retry: 1000`")]
async fn sse_without_its_opening_is_a_breach() {
    serve("text/event-stream", "id: 1\ndata: {\"seq\":1,\"type\":\"delta\"}\n\n").await.rest().await;
}

#[tokio::test]
#[should_panic(expected = "not escaped")]
async fn a_line_separator_inside_an_event_is_a_breach() {
    serve("application/x-ndjson", "{\"seq\":1,\"type\":\"delta\",\"text\":\"\u{2028}\"}\n").await.rest().await;
}

#[tokio::test]
#[should_panic(expected = "inside an event")]
async fn half_an_event_at_the_close_is_a_breach() {
    serve("application/x-ndjson", "{\"type\":\"ping\"}\n{\"ty").await.rest().await;
}

#[test]
#[should_panic(expected = "delta 2 is lost, doubled or out of order")]
fn a_doubled_delta_shows() {
    assert_stamps("[0][1][1][2]");
}

#[test]
#[should_panic(expected = "after event 1 comes")]
fn a_lost_event_shows() {
    let mut fold = Fold::new();
    fold.apply(&json!({"seq": 1, "type": "turn.started", "turn_id": "t", "message_id": "m"}));
    fold.apply(&json!({"seq": 3, "type": "delta", "text": "b"}));
}

#[test]
fn the_fold_follows_the_contract() {
    let mut fold = Fold::new();
    let usage = |seq: u64, tokens: u64, basis: &str| {
        json!({"seq": seq, "type": "usage", "step_id": "s", "model": "m", "prompt_tokens": tokens,
            "completion_tokens": 1, "cost_nano_usd": 5, "basis": basis})
    };
    let source = |seq: u64, number: u64| json!({"seq": seq, "type": "source", "source_id": number, "number": number});
    for event in [
        json!({"seq": 1, "type": "turn.started", "turn_id": "t", "conversation_id": "c", "user_message_id": "u",
            "message_id": "m", "model": "x"}),
        json!({"seq": 2, "type": "step.started", "step_id": "s", "kind": "model", "label": "L"}),
        json!({"seq": 3, "type": "delta", "text": "lost to the snapshot"}),
        json!({"type": "snapshot", "seq": 5, "message": {"seq": 5, "status": "running", "id": "m", "content": "Hi",
            "sources": [], "steps": [{"step_id": "s", "status": "running"}], "visualizations": [], "usage": null}}),
        source(6, 2),
        source(7, 1),
        usage(8, 10, "reported"),
        usage(9, 20, "estimated"),
        json!({"seq": 10, "type": "turn.finished", "status": "failed", "error": {"code": "x", "message": "y"},
            "saved": true, "message_id": "m", "duration_ms": 3}),
    ] {
        fold.apply(&event);
    }
    fold.assert_same_as(&json!({
        "id": "m", "content": "Hi", "seq": 10, "status": "failed", "error": {"code": "x", "message": "y"},
        "duration_ms": 3, "steps": [{"step_id": "s", "status": "error"}], "visualizations": [],
        "sources": [{"source_id": 1, "number": 1}, {"source_id": 2, "number": 2}], "reasoning": null,
        "usage": {"prompt_tokens": 30, "completion_tokens": 2, "cost_nano_usd": 10, "basis": "estimated"},
    }));
    assert!(fold.ended);
}

#[tokio::test]
async fn a_proxy_passes_holds_and_cuts() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::to(upstream.address()).await;
    proxy.hold_replies_after(&["chat/completions"]);
    let asking = Task::start({
        let address = proxy.address();
        async move { ask(address, "go").await.status() }
    });
    proxy.held().await;
    upstream.call(0).await;
    proxy.release();
    assert_eq!(asking.join().await, 200);

    upstream.push(Script::new().hang());
    let mut stream = ask(proxy.address(), "go").await;
    proxy.cut();
    assert_ne!(stream.read_to_close().await, Closing::Clean);
    upstream.call(1).await.closed().await;
    proxy.heal();
    assert_eq!(ask(proxy.address(), "go").await.status(), 200);
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, other) = (Database::fresh().await, Database::fresh().await);
    std::fs::File::create(one.folder().join("tidegate.db")).unwrap();
    one.run("create table things (name text, count bigint)").await;
    one.run("insert into things values ('a', 1), ('b', 2)").await;
    assert_eq!(one.texts("select name from things order by name").await, ["a", "b"]);
    assert_eq!(one.numbers("select sum(count) from things").await, [3]);
    assert_ne!(one.url(), other.url());
}

#[tokio::test]
async fn a_slow_reader_and_a_byte_count_are_kept() {
    let upstream = Upstream::start().await;
    upstream.push(Script::new().raw("retry: 1000\n\n").raw(": x\n".repeat(50)));
    let mut stream = ask(upstream.address(), "go").await;
    stream.pace(2000);
    stream.bytes(150).await;
    assert!(stream.comments().len() < 50);
    let start = Instant::now();
    assert!(stream.rest().await.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!((stream.retry(), stream.comments().len()), (Some(1000), 50));
}
