//! The record does not hang on the reader: who stalls, dawdles or leaves changes nothing for anybody else.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Encoding, Fold, Frame, Gate, Request, Scene, Script, Task, Told, assert_stamps, chance, eventually, stamp,
};

const MIB: usize = 1 << 20;
/// What is kept for a client that says it too early.
const BUFFER: usize = 64 << 10;

/// The whole body in these chunks, and nothing after it.
fn dechunked(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let (chunk, rest) = rest.split_at(size);
        chunks = rest.strip_prefix("\r\n").unwrap();
        if size == 0 {
            assert_eq!(chunks, "");
            return body;
        }
        body.push_str(chunk);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_costs_no_memory_and_delays_nobody() {
    const TEXT: usize = 48 * MIB;
    const PIECE: usize = 16 << 10;
    let scene = Scene::with(|setup| {
        setup.set("limits.turn_memory_bytes", 262_144).set("limits.max_answer_bytes", i64::try_from(TEXT * 2).unwrap())
    })
    .await;
    // What is loaded once, such as a tokenizer, is loaded before anything is measured.
    scene.upstream.when("warm", Script::new().stamped(100).finish("stop").done());
    scene.told("warm up").await;

    let gate = Gate::new();
    let text = |n: usize| format!("{}{}", stamp(n), "x".repeat(PIECE - stamp(n).len()));
    let script = Script::new().deltas(TEXT / PIECE, Duration::ZERO, text).gate(&gate);
    scene.upstream.when("much", script.finish("stop").usage(1, 1).done());
    let conversation = scene.client.conversation().await;
    let before = scene.gateway.memory();

    let mut reader = scene.client.ask(&conversation, "much").await;
    let mut request = Request::get(&format!("/v1/turns/{}/events", reader.turn())).accept(Encoding::Sse);
    request.window = Some(4096);
    let stalled = scene.client.open(request).await;
    let (mut seen, mut most) = (0, before);
    while seen < TEXT / PIECE {
        let frame = reader.event().await;
        if frame.kind() == "delta" {
            assert!(frame.text().starts_with(&stamp(seen)), "delta {seen} is lost, doubled or out of order");
            seen += 1;
            most = most.max(scene.gateway.memory());
        }
    }
    let growth = (most - before) / MIB;
    assert!(growth < 16, "{} MiB went through, and the gateway grew by {growth} MiB", TEXT / MIB);

    gate.open();
    let end = reader.rest().await.pop().unwrap();
    assert_eq!((end.kind(), &end.json["status"]), ("turn.finished", &"completed".into()));
    let message = scene.client.answer(&conversation).await;
    let content = message["content"].as_str().unwrap();
    assert_eq!(content.len(), TEXT);
    for (n, piece) in content.as_bytes().chunks(PIECE).enumerate() {
        assert!(piece.starts_with(stamp(n).as_bytes()), "delta {n} is not in the record");
    }
    drop(stalled);
}

#[tokio::test]
async fn a_reader_at_one_kilobyte_a_second_holds_up_nobody_and_misses_nothing() {
    let scene = Scene::with(|setup| setup.set("limits.turn_memory_bytes", 65_536)).await;
    let text = |n: usize| format!("{}{}", stamp(n), ".".repeat(4000));
    scene.upstream.push(Script::new().deltas(500, Duration::ZERO, text).finish("stop").usage(1, 500).done());
    let conversation = scene.client.conversation().await;
    let first = scene.client.ask(&conversation, "go").await;
    let mut request = Request::get(&format!("/v1/turns/{}/events", first.turn())).accept(Encoding::Ndjson);
    request.window = Some(4096);
    let mut slow = scene.client.open(request).await;
    slow.pace(1024);
    let start = std::time::Instant::now();
    slow.bytes(1500).await;
    let told = Told::hear(&scene.client, &conversation, first).await;
    // At that pace it would have taken more than half an hour.
    assert!(start.elapsed() < crate::support::PATIENCE, "the slow reader held up the others");
    let mut frames = slow.come();
    slow.pace(0);
    frames.extend(slow.rest().await);
    told.assert_after(0, &frames);
}

#[tokio::test]
async fn readers_may_leave_at_any_moment() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(10).gate(&gate).stamped(10).finish("stop").usage(1, 20).done());
    let conversation = scene.client.conversation().await;
    let mut first = scene.client.ask_as(Encoding::Sse, &conversation, &serde_json::json!({"content": "go"})).await;
    let turn = first.turn();
    let events = || Request::get(&format!("/v1/turns/{turn}/events"));
    for encoding in Encoding::ALL {
        // Before the first byte of the answer, after its first, in the middle, and with a reset.
        scene.client.knock(events().accept(encoding), Duration::ZERO).await;
        scene.client.open(events().accept(encoding)).await.leave();
        for bytes in [1, 2, 250, 450] {
            let mut stream = scene.client.open(events().accept(encoding)).await;
            let head = stream.taken();
            stream.bytes(head + bytes).await;
            stream.leave();
        }
        let mut stream = scene.client.open(events().accept(encoding)).await;
        stream.event().await;
        stream.abort();
    }
    // The one who asked leaves too, at its first event; nobody reads now.
    assert_eq!(first.event().await.kind(), "turn.started");
    first.leave();
    gate.open();
    let ended = scene.client.ended(&turn).await;
    assert_eq!(ended["status"], "completed");
    assert_eq!(assert_stamps(ended["message"]["content"].as_str().unwrap()), 20);
    // One who leaves within the last event changes nothing either.
    let whole = scene.client.send(events().accept(Encoding::Ndjson)).await.bytes.len();
    let mut stream = scene.client.open(events().accept(Encoding::Ndjson)).await;
    let head = stream.taken();
    stream.bytes(head + whole - 5).await;
    stream.leave();
    let frames = scene.client.events(Encoding::Ndjson, &turn, 0).await.rest().await;
    Fold::of(&frames).assert_same_as(&scene.client.answer(&conversation).await);
    assert_eq!(scene.upstream.calls().len(), 1);
    scene.upstream.calls()[0].played().await;
}

#[tokio::test]
async fn whoever_asks_and_leaves_unread_has_either_asked_or_not() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().stamped(3).gate(&gate).stamped(3).finish("stop").done());
    // Somewhere within the admission of one of them its client goes.
    let mut rng = chance();
    let mut conversations = Vec::new();
    for _ in 0..60 {
        let conversation = scene.client.conversation().await;
        let target = format!("/v1/conversations/{conversation}/messages");
        let request = Request::post(&target, &serde_json::json!({"content": "go"})).accept(Encoding::Ndjson);
        scene.client.knock(request, Duration::from_micros(rng.u64(0..4000))).await;
        conversations.push(conversation);
    }
    gate.open();
    for conversation in conversations {
        // Once this one is answered, what came before it in the conversation has been decided.
        let client = &scene.client;
        eventually("the conversation to be free", async || {
            let reply = client.ask_whole(&conversation, "again").await;
            assert!(matches!(reply.status, 200 | 409), "{}", reply.json());
            (reply.status == 200).then_some(())
        })
        .await;
        let messages = eventually("every turn to end", async || {
            let messages = client.messages(&conversation).await;
            messages.iter().all(|message| message["status"] != "running").then_some(messages)
        })
        .await;
        assert!(matches!(messages.len(), 2 | 4), "{messages:?}");
        for answer in messages.iter().filter(|message| message["role"] == "assistant") {
            assert_eq!(answer["status"], "completed");
            assert_eq!(assert_stamps(answer["content"].as_str().unwrap()), 6);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_readers_who_join_whenever_see_the_same() {
    let scene = Scene::new().await;
    let every = Duration::from_millis(5);
    scene.upstream.push(Script::new().role().paced(200, every).finish("stop").usage(1, 200).done());
    let conversation = scene.client.conversation().await;
    let mut first = scene.client.ask(&conversation, "go").await;
    let turn = first.turn();
    let mut rng = chance();
    let mut joins: Vec<u64> = (0..100).map(|_| rng.u64(1..=200)).collect();
    joins.sort_unstable();
    let (mut frames, mut readers) = (Vec::new(), Vec::new());
    while let Some(frame) = first.try_event().await {
        frames.push(frame);
        let seen = frames.len() as u64;
        while joins.first().is_some_and(|join| *join <= seen) {
            joins.remove(0);
            let (cursor, encoding) = (rng.u64(0..=seen), Encoding::ALL[rng.usize(..2)]);
            let (client, turn) = (scene.client.clone(), turn.clone());
            readers.push(Task::start(async move {
                let mut stream = client.events(encoding, &turn, cursor).await;
                (cursor, stream.rest().await)
            }));
        }
    }
    assert_eq!(readers.len(), 100);
    let message = scene.client.answer(&conversation).await;
    let told = Told { conversation, turn, frames, message };
    Fold::of(&told.frames).assert_same_as(&told.message);
    assert_eq!(assert_stamps(told.content()), 200);
    for (cursor, seen) in join_all(readers.into_iter().map(Task::join)).await {
        told.assert_after(cursor, &seen);
    }
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_and_the_turn_goes_on() {
    let scene = Scene::with(|setup| setup.set("limits.reader_stall_s", 3)).await;
    let gate = Gate::new();
    let text = |n: usize| format!("{}{}", stamp(n), ".".repeat(16_000));
    let script = Script::new().deltas(1000, Duration::ZERO, text).gate(&gate);
    scene.upstream.push(script.finish("stop").usage(1, 1).done());
    let conversation = scene.client.conversation().await;
    let mut first = scene.client.ask(&conversation, "go").await;
    let mut request = Request::get(&format!("/v1/turns/{}/events", first.turn())).accept(Encoding::Sse);
    request.window = Some(4096);
    let stalled = scene.client.open(request).await;
    let mut frames: Vec<Frame> = Vec::new();
    while frames.last().is_none_or(|frame| !frame.text().starts_with(&stamp(999))) {
        frames.push(first.event().await);
    }
    eventually("the stalled reader to be let go", async || (!scene.gateway.holds(stalled.port())).then_some(())).await;
    // Who reads is kept, however little there is to read.
    eventually("the other reader to be seen", async || scene.gateway.holds(first.port()).then_some(())).await;
    gate.open();
    frames.extend(first.rest().await);
    Fold::of(&frames).assert_same_as(&scene.client.answer(&conversation).await);
}

#[tokio::test]
async fn a_connection_serves_what_was_asked_while_a_stream_was_told() {
    let scene = Scene::new().await;
    let (pace, conversation) = (Duration::from_millis(20), scene.client.conversation().await);
    let ask = |question: &str, version: &str, more: &str| {
        let body = json!({"content": question}).to_string();
        format!(
            "POST /v1/conversations/{conversation}/messages HTTP/{version}\r\nhost: localhost\r\n\
             accept: application/x-ndjson\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for _ in 0..4 {
        scene.upstream.push(Script::new().paced(20, pace).finish("stop").usage(1, 20).done());
    }
    let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // One after the other, all sent at once, and more than is kept for a client that says it too early; the last asks
    // for the close.
    let many = 2 * BUFFER / health.len();
    let asked = [
        &*ask("one", "1.1", ""),
        &*ask("two", "1.1", "connection: keep-alive\r\n"),
        &*health.repeat(many),
        &*ask("three", "1.1", "connection: close\r\n"),
    ];
    let answer = String::from_utf8(scene.client.raw(asked.concat().as_bytes()).await).unwrap();
    let answers: Vec<_> = answer.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
    let [one, two, healths @ .., three] = &answers[..] else { panic!("{} answers", answers.len()) };
    assert_eq!(healths.len(), many);
    for health in healths {
        assert!(health.contains("\r\n\r\n{\"status\":\"ok\""), "{health}");
    }
    for stream in [one, two, three] {
        let (head, body) = stream.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("transfer-encoding: chunked") && head.contains("\r\ndate: "), "{head}");
        assert_eq!(head.contains("connection: close"), stream == three);
        let lines: Vec<Value> = dechunked(body).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let deltas = lines.iter().filter(|line| line["type"] == "delta").count();
        assert_eq!((deltas, &lines.last().unwrap()["type"]), (20, &json!("turn.finished")));
    }
    // HTTP/1.0 knows no chunks: the body ends with the connection.
    let answer = String::from_utf8(scene.client.raw(ask("four", "1.0", "").as_bytes()).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("chunked"), "{head}");
    assert!(body.starts_with("{\"seq\":1,") && body.lines().last().unwrap().contains("turn.finished"), "{body}");
}
