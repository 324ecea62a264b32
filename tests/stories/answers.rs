//! How a turn is told: by `Accept`, by `Prefer`, with what headers, and with every character as it came.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Client, Encoding, Gate, Reply, Request, Scene, Script, Stream, Told, eventually, within};

fn post(conversation: &str, content: &str) -> Request {
    Request::post(&format!("/v1/conversations/{conversation}/messages"), &json!({ "content": content }))
}

async fn put_off(client: &Client, conversation: &str, prefer: &str) -> Reply {
    client.send(post(conversation, "go").header("accept", "application/json").header("prefer", prefer)).await
}

#[tokio::test]
async fn accept_chooses_how_the_answer_comes() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    for (accept, content_type) in [
        ("*/*", "application/x-ndjson"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/ndjson", "application/ndjson"),
        ("application/jsonl", "application/jsonl"),
        ("application/json;q=0.5, text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("text/*", "text/event-stream"),
        ("application/json", "application/json"),
        ("text/event-stream;q=0, application/x-ndjson;q=0, */*", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/x-ndjson"),
    ] {
        let mut stream = scene.client.open(post(&conversation, "hi").header("accept", accept)).await;
        let kind = stream.header("content-type").unwrap().split(';').next().unwrap().to_owned();
        assert_eq!((stream.status(), &*kind), (200, content_type), "{accept}");
        if kind == "application/json" { drop(stream.text().await) } else { drop(stream.rest().await) }
    }
    let mut bare = scene.client.open(post(&conversation, "hi")).await;
    assert_eq!(bare.header("content-type"), Some("application/x-ndjson"));
    bare.rest().await;
    let calls = scene.upstream.calls().len();
    for accept in ["text/html", "image/*", "application/json;q=0", "*/*;q=0", "application/xml"] {
        let refused = scene.client.send(post(&conversation, "hi").header("accept", accept)).await;
        assert_eq!(refused.expect(406)["code"], "not_acceptable", "{accept}");
        let target = format!("/v1/conversations/{conversation}/events");
        assert_eq!(scene.client.send(Request::get(&target).header("accept", accept)).await.status, 406);
    }
    assert_eq!(scene.upstream.calls().len(), calls, "nothing was started");
}

#[tokio::test]
async fn streams_and_answers_bear_their_headers_and_no_others_than_ours() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let mut ids = Vec::new();
    for encoding in Encoding::ALL {
        let request = post(&conversation, "hi").accept(encoding).header("accept-encoding", "gzip, br, zstd, deflate");
        let stream = scene.client.open(request).await;
        let turn = stream.turn();
        let feed = Request::get(&format!("/v1/conversations/{conversation}/events")).accept(encoding);
        let feed = scene.client.open(feed.header("accept-encoding", "gzip")).await;
        let late = scene.client.events(encoding, &turn, 0).await;
        assert_eq!((feed.header("turn-id"), late.header("turn-id")), (None, Some(&*turn)));
        for stream in [stream, feed, late] {
            let head = |name: &str| stream.header(name).unwrap_or_default().to_owned();
            assert_eq!(head("cache-control"), "no-store, no-transform");
            assert_eq!((&*head("x-accel-buffering"), &*head("conversation-id")), ("no", &*conversation));
            assert_eq!(stream.header("content-encoding"), None, "streams are never compressed");
            ids.push(assert_fixed(&stream));
        }
        scene.client.ended(&turn).await;
    }
    for target in ["/v1/models", "/v1/none", "/v1/turns/turn_x", "/v1/chat/s/history"] {
        let stream = scene.client.open(Request::get(target)).await;
        assert_eq!(stream.header("cache-control"), Some("no-store"), "{target}");
        ids.push(assert_fixed(&stream));
    }
    let mut own = ids.clone();
    own.sort();
    own.dedup();
    assert_eq!(own.len(), ids.len(), "each answer has an id of its own: {ids:?}");
    // Nothing of what people or models say gets into a head.
    let mut odd = post(&conversation, "x\r\nset-cookie: a=b");
    odd.headers.push(("idempotency-key".into(), "k".into()));
    let reply = scene.client.send(odd.header("accept", "application/json")).await;
    assert!(reply.headers.get("set-cookie").is_none() && reply.status == 200);
}

/// What every answer under `/v1` bears; gives its request id.
fn assert_fixed(stream: &Stream) -> String {
    assert_eq!(stream.header("vary"), Some("Accept, Origin, Authorization, Cookie, Last-Event-ID"));
    assert_eq!(stream.header("x-content-type-options"), Some("nosniff"));
    stream.header("request-id").filter(|id| id.starts_with("req_")).expect("Request-Id").to_owned()
}

#[tokio::test]
async fn whatever_is_said_comes_back_as_it_came() {
    let scene = Scene::new().await;
    let odd = [
        "\u{0}",
        " \u{0}\u{1}\u{1f}\u{7f}\u{80}\u{85}\u{a0} ",
        "\u{202e}שלום\u{202c} مرحبا",
        "👩‍👩‍👧‍👦🏴󠁧󠁢󠁳󠁣󠁴󠁿 e\u{301}\u{327}",
        "\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}\u{10ffff}",
        "</script><!--\r\r\n\ndata: x\n\nid: 7\n\n",
        "%00 \\u0000 {\"type\":\"turn.finished\"}",
    ];
    for text in odd {
        // The fake says what it is asked, a character at a time.
        let pieces: Vec<_> = text.chars().map(String::from).collect();
        scene.upstream.push(Script::answer(&pieces.iter().map(String::as_str).collect::<Vec<_>>()));
        let conversation = scene.client.conversation().await;
        let stream = scene.client.ask_as(Encoding::Sse, &conversation, &json!({"content": text})).await;
        let told = Told::hear(&scene.client, &conversation, stream).await;
        assert_eq!((told.content(), told.texts("delta")), (text, pieces.iter().map(String::as_str).collect()));
        assert_eq!(scene.client.messages(&conversation).await[0]["content"], text);
        assert_eq!(scene.upstream.calls().pop().unwrap().question(), text);
    }
}

#[tokio::test]
async fn ten_megabytes_come_back_as_they_came() {
    const PIECE: &str = "é\u{0}😀\"\\\n שלום\u{7f}";
    let scene = Scene::new().await;
    let piece = |n: usize| format!("{n:06}{}", PIECE.repeat(500));
    let count = (10 << 20) / piece(0).len();
    let whole: String = (0..count).map(piece).collect();
    scene.upstream.push(Script::new().deltas(count, Duration::ZERO, piece).finish("stop").usage(1, 1).done());
    let conversation = scene.client.conversation().await;
    let stream = scene.client.ask_as(Encoding::Sse, &conversation, &json!({"content": "go"})).await;
    let told = Told::hear(&scene.client, &conversation, stream).await;
    assert!(told.content() == whole, "the answer differs");
    told.assert_after(0, &scene.client.events(Encoding::Ndjson, &told.turn, 0).await.rest().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_may_be_looked_at_at_any_moment_while_it_grows() {
    let scene = Scene::with(|setup| setup.set("limits.turn_memory_bytes", 65_536)).await;
    let text = |n: usize| format!("{n:06}{}", "x".repeat(16 << 10));
    scene.upstream.push(Script::new().deltas(300, Duration::ZERO, text).finish("stop").usage(1, 1).done());
    let conversation = scene.client.conversation().await;
    let stream = scene.client.ask(&conversation, "go").await;
    let (mut seen, mut looks) = ((0, 0), 0);
    loop {
        let turn = scene.client.turn(&stream.turn()).await;
        let content = turn["message"]["content"].as_str().unwrap();
        assert_eq!(content.len() % text(0).len(), 0, "it is seen between two events");
        let count = content.len() / text(0).len();
        assert!(count == 0 || content.ends_with(&text(count - 1)[..]) && content.starts_with(&text(0)[..]));
        let now = (turn["seq"].as_u64().unwrap(), count);
        assert!(now >= seen, "{now:?} after {seen:?}");
        (seen, looks) = (now, looks + 1);
        if turn["status"] != "running" {
            break;
        }
    }
    println!("looked at {looks} times");
    assert_eq!(seen.1, 300);
    Told::hear(&scene.client, &conversation, stream).await;
}

#[tokio::test]
async fn who_prefers_not_to_wait_is_told_where_the_turn_is() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().stamped(2).gate(&gate).finish("stop").usage(1, 2).done());
    let conversation = scene.client.conversation().await;
    let reply = put_off(&scene.client, &conversation, "respond-async").await;
    let turn = reply.expect(202);
    let (id, path) = (turn["id"].as_str().unwrap(), reply.header("location").unwrap());
    assert_eq!((path, reply.header("preference-applied")), (&*format!("/v1/turns/{id}"), Some("respond-async")));
    assert_eq!((reply.header("turn-id"), reply.header("conversation-id")), (Some(id), Some(&*conversation)));
    assert_eq!((&turn["status"], &turn["conversation_id"]), (&json!("running"), &json!(conversation)));
    assert_eq!(scene.client.get(path).await.expect(200)["id"], id);
    gate.pass(1);
    assert_eq!(scene.client.ended(id).await["status"], "completed");
    // It waits as long as it is told to, and no longer than the turn takes.
    let asked = Instant::now();
    let reply = put_off(&scene.client, &conversation, "respond-async, wait=1").await;
    let late = reply.expect(202)["id"].as_str().unwrap().to_owned();
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(reply.header("preference-applied"), Some("respond-async, wait=1"));
    gate.open();
    scene.client.ended(&late).await;
    let reply = put_off(&scene.client, &conversation, "respond-async, wait=60").await;
    assert_eq!((&reply.expect(200)["status"], reply.header("location")), (&json!("completed"), None));
    let request = post(&conversation, "go").accept(Encoding::Ndjson).header("prefer", "respond-async, wait=60");
    let frames = scene.client.open(request).await.rest().await;
    assert!(frames.last().unwrap().is_end());
    // `wait` alone, and other preferences, change nothing.
    let reply = put_off(&scene.client, &conversation, "wait=0, return=minimal").await;
    assert_eq!((reply.status, reply.header("preference-applied")), (200, None));
}

#[tokio::test]
async fn an_event_may_be_named_and_a_heartbeat_seen() {
    let scene = Scene::with(|setup| setup.set("stream.heartbeat_s", 1)).await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(2).gate(&gate).stamped(1).finish("stop").usage(1, 3).done());
    let conversation = scene.client.conversation().await;
    let mut first = scene.client.ask(&conversation, "go").await;
    let turn = first.turn();
    let open = |query: &str, encoding: Encoding| {
        scene.client.open(Request::get(&format!("/v1/turns/{turn}/events{query}")).accept(encoding))
    };
    let mut plain = open("", Encoding::Sse).await;
    let mut named = open("?events=named", Encoding::Sse).await;
    let mut seen = open("?heartbeat=event", Encoding::Sse).await;
    let mut both = open("?heartbeat=event&events=named", Encoding::Sse).await;
    let mut feed = Request::get(&format!("/v1/conversations/{conversation}/events?heartbeat=event"));
    feed = feed.accept(Encoding::Sse);
    let mut feed = scene.client.open(feed).await;
    gate.reached().await;
    // Three heartbeats pass while nothing is said.
    let began = Instant::now();
    eventually("three seconds to pass", async || (began.elapsed() >= Duration::from_millis(3300)).then_some(())).await;
    gate.open();
    let frames = first.rest().await;
    for (stream, comments) in [(&mut plain, true), (&mut named, true), (&mut seen, false), (&mut both, false)] {
        let told = stream.rest().await;
        assert_eq!(told.len(), frames.len());
        assert!(told.iter().zip(&frames).all(|(one, other)| one.bytes == other.bytes));
        let beats = if comments { stream.comments().len() } else { stream.pings };
        assert!((3..=5).contains(&beats), "{beats} heartbeats");
        assert_eq!(if comments { stream.pings } else { stream.comments().len() }, 0);
        assert_eq!(stream.retry(), Some(1000));
    }
    feed.events(frames.len()).await;
    assert!(feed.pings >= 3 && first.pings >= 3, "{} and {}", feed.pings, first.pings);
    for (query, field) in
        [("?events=x", "events"), ("?heartbeat=1", "heartbeat"), ("?follow=2", "follow"), ("?x=1", "x")]
    {
        let wrong = open(query, Encoding::Sse).await.text().await;
        let problem: Value = serde_json::from_str(&wrong).unwrap();
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!(field)));
    }
}

#[tokio::test]
async fn a_stream_speaks_from_the_first_moment() {
    let scene = Scene::with(|setup| setup.set("stream.heartbeat_s", 3600)).await;
    scene.upstream.push(Script::silence());
    let conversation = scene.client.conversation().await;
    let mut live = scene.client.ask_as(Encoding::Sse, &conversation, &json!({"content": "go"})).await;
    assert_eq!(live.event().await.kind(), "turn.started", "before the model has said a word");
    let body = json!({"content": "queued", "if_busy": "queue"});
    let queued = scene.client.ask_as(Encoding::Sse, &conversation, &body).await.turn();
    // Nothing to tell yet, and still the first bytes of the body come at once.
    for target in [
        format!("/v1/turns/{queued}/events"),
        format!("/v1/turns/{}/events?after=1000", live.turn()),
        format!("/v1/conversations/{}/events", scene.client.conversation().await),
    ] {
        for (accept, sign) in [("text/event-stream", "retry: 1000\n\n: ping\n\n"), ("*/*", "{\"type\":\"ping\"}\n")] {
            let mut socket = TcpStream::connect(scene.client.address()).await.unwrap();
            let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut come = Vec::new();
            let reading = async {
                while !String::from_utf8_lossy(&come).contains(sign) {
                    assert!(socket.read_buf(&mut come).await.unwrap() > 0, "{}", String::from_utf8_lossy(&come));
                }
            };
            within("a sign of life", reading).await;
        }
    }
}
