//! Told to stop, a gateway starts nothing new, lets what runs come to its end, and goes.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    Client, Encoding, Fold, Frame, Gate, Reply, Request, Scene, Script, Stream, Task, assert_stamps, eventually,
};

fn gated(gate: &Gate) -> Script {
    Script::new().stamped(2).gate(gate).stamped(2).finish("stop").usage(1, 4).done()
}

async fn deltas(stream: &mut Stream, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.iter().filter(|frame: &&Frame| frame.kind() == "delta").count() < count {
        frames.push(stream.event().await);
    }
    frames
}

async fn unready(client: &Client) {
    eventually("the gateway to say that it is not ready", async || {
        (client.get("/readyz").await.status == 503).then_some(())
    })
    .await;
}

/// Waits for a turn's answer in the background; the gateway has heard of it when this comes back.
async fn waiting(client: &Client, turn: &str) -> Task<Reply> {
    let before = client.readers().await;
    let (other, target) = (client.clone(), format!("/v1/turns/{turn}/events"));
    let task = Task::start(async move { other.get(&target).await });
    eventually("the reader to be counted", async || (client.readers().await > before).then_some(())).await;
    task
}

#[tokio::test]
async fn while_it_drains_nothing_new_starts_and_all_else_goes_on() {
    let mut scene = Scene::with(|setup| setup.set("limits.drain_delay_s", 4)).await;
    let (client, gate) = (scene.client.clone(), Gate::new());
    scene.upstream.always(gated(&gate));
    let conversation = client.conversation().await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let keyed = Request::post(&target, &json!({"content": "go"})).header("idempotency-key", "k");
    let made = Request::post("/v1/conversations", &json!({})).header("idempotency-key", "c");
    let id = client.send(made.clone()).await.expect(201)["id"].clone();
    let mut live = client.open(keyed.clone().accept(Encoding::Ndjson)).await;
    let queued = json!({"content": "queued", "if_busy": "queue"});
    let mut queued = client.ask_as(Encoding::Sse, &conversation, &queued).await;
    let whole = waiting(&client, &live.turn()).await;
    let mut frames = deltas(&mut live, 2).await;
    let told = Instant::now();
    scene.gateway.terminate();
    unready(&client).await;
    client.get("/healthz").await.expect(200);
    let elsewhere = client.get("/readyz").await.json();
    assert_eq!(elsewhere["components"]["store"]["status"], "ok", "{elsewhere}");
    for (target, body) in [
        (&*target, json!({"content": "new", "if_busy": "queue"})),
        ("/v1/chat/stream", json!({"message": "new"})),
        ("/v1/conversations", json!({"first_message": "new"})),
        ("/v1/conversations", json!({})),
    ] {
        let refused = client.post(target, &body).await;
        assert_eq!(refused.expect(503)["code"], "draining", "{target}");
        assert!(refused.header("retry-after").is_some());
    }
    let mut source = client.open(Request::get("/v1/chat/stream?message=hi&key=new").accept(Encoding::Sse)).await;
    assert_eq!((source.status(), source.text().await), (200, ": draining\nretry: 1000\n\n".to_owned()));
    // What is there is told: to who joins, who comes back under a key, and who stops.
    assert_eq!(client.send(made).await.expect(201)["id"], id);
    let mut joined = client.open(keyed.accept(Encoding::Sse)).await;
    let mut late = client.events(Encoding::Ndjson, &live.turn(), 3).await;
    assert_eq!((joined.turn(), client.messages(&conversation).await.len()), (live.turn(), 4));
    gate.open();
    frames.extend(live.rest().await);
    assert_eq!(
        (&frames.last().unwrap().json["status"], joined.rest().await.len()),
        (&json!("completed"), frames.len())
    );
    assert_eq!(late.rest().await.len(), frames.len() - 3);
    assert_eq!(whole.join().await.expect(200)["status"], "completed");
    assert_eq!(queued.rest().await.last().unwrap().json["status"], "completed", "a queued turn was admitted, and runs");
    assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
    assert!(told.elapsed() >= Duration::from_secs(4), "the listener is open for drain_delay_s: {:?}", told.elapsed());
    scene.gateway.restart().await;
    let list = client.messages(&conversation).await;
    Fold::of(&frames).assert_same_as(&list[1]);
    assert_eq!((list.len(), scene.upstream.calls().len()), (4, 2));
}

#[tokio::test]
async fn without_a_delay_the_door_is_shut_at_once_and_who_is_inside_hears_the_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut scene = Scene::new().await;
        let (client, gate) = (scene.client.clone(), Gate::new());
        scene.upstream.push(gated(&gate));
        let conversation = client.conversation().await;
        let mut live = client.ask_as(Encoding::Sse, &conversation, &json!({"content": "go"})).await;
        let whole = waiting(&client, &live.turn()).await;
        let mut frames = deltas(&mut live, 2).await;
        scene.gateway.signal(signal);
        eventually("the listener to close", async || {
            Client::new(client.address()).try_open(Request::get("/healthz")).await.is_err().then_some(())
        })
        .await;
        gate.open();
        frames.extend(live.rest().await);
        let asked = Instant::now();
        assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
        assert!(asked.elapsed() < Duration::from_secs(5), "nothing is left to wait for: {:?}", asked.elapsed());
        assert_eq!(assert_stamps(Fold::of(&frames).content()), 4);
        assert_eq!(frames.last().unwrap().json["status"], "completed");
        assert_eq!(whole.join().await.expect(200)["status"], "completed");
    }
}

#[tokio::test]
async fn what_still_runs_when_grace_is_over_is_interrupted_told_and_saved() {
    let mut scene = Scene::with(|setup| setup.set("limits.grace_s", 1)).await;
    let client = scene.client.clone();
    scene.upstream.always(Script::new().stamped(5).hang());
    let mut streams = Vec::new();
    for encoding in Encoding::ALL {
        let conversation = client.conversation().await;
        let mut live = client.ask_as(encoding, &conversation, &json!({"content": "go"})).await;
        let frames = deltas(&mut live, 5).await;
        let queued = json!({"content": "queued", "if_busy": "queue"});
        let queued = client.ask_as(encoding, &conversation, &queued).await;
        let feed = Request::get(&format!("/v1/conversations/{conversation}/events?after=0")).accept(encoding);
        let feed = client.open(feed).await;
        streams.push((conversation, waiting(&client, &live.turn()).await, live, frames, queued, feed));
    }
    let told = Instant::now();
    scene.gateway.terminate();
    let mut due = Vec::new();
    for (conversation, whole, mut live, mut frames, mut queued, mut feed) in streams {
        frames.extend(live.rest().await);
        let end = &frames.last().unwrap().json;
        assert_eq!(
            (&end["type"], &end["status"], &end["saved"]),
            (&json!("turn.finished"), &json!("interrupted"), &json!(true))
        );
        let whole = whole.join().await.expect(200);
        assert_eq!((&whole["status"], &whole["usage"]["basis"]), (&json!("interrupted"), &json!("estimated")));
        Fold::of(&frames).assert_same_as(&whole);
        let waited = queued.rest().await;
        assert_eq!(waited.iter().map(Frame::kind).collect::<Vec<_>>(), ["turn.started", "turn.finished"]);
        assert_eq!(waited[1].json["status"], "interrupted");
        let all = feed.rest().await;
        let seen = all.iter().filter(|frame| frame.json["turn_id"] == live.turn()).count();
        assert_eq!(seen, frames.len(), "a feed hears the end as well");
        due.push((conversation, live.turn(), frames, whole));
    }
    assert!(told.elapsed() >= Duration::from_secs(1));
    assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
    println!("from SIGTERM to the exit, with grace_s = 1: {:?}", told.elapsed());
    for call in scene.upstream.calls() {
        call.closed().await;
    }
    assert_eq!(scene.upstream.calls().len(), 2, "a queued turn does not start in the last moment");
    scene.gateway.restart().await;
    for (conversation, turn, frames, whole) in due {
        let list = client.messages(&conversation).await;
        assert_eq!(list[1], whole);
        assert!(list.iter().all(|message| message["status"] != "running" && message["status"] != "queued"));
        let again = client.events(Encoding::Sse, &turn, 0).await.rest().await;
        assert_eq!(
            again.iter().map(|frame| &frame.bytes).collect::<Vec<_>>(),
            frames.iter().map(|frame| &frame.bytes).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn two_hundred_turns_come_to_their_ends_or_are_interrupted_and_each_reader_hears_which() {
    const TURNS: usize = 200;
    let mut scene = Scene::with(|setup| setup.set("limits.grace_s", 3)).await;
    let gate = Gate::new();
    for turn in 0..TURNS {
        let script = Script::new().stamped(2).gate(&gate);
        scene.upstream.push(if turn % 2 == 0 { script.stamped(2).finish("stop").done() } else { script.hang() });
    }
    let mut streams = Vec::new();
    for turn in 0..TURNS {
        let encoding = Encoding::ALL[turn % 4 / 2];
        let request = Request::post("/v1/chat/stream", &json!({"message": "go"})).accept(encoding);
        let mut stream = scene.client.open(request).await;
        let frames = deltas(&mut stream, 2).await;
        streams.push((stream, frames));
    }
    scene.gateway.terminate();
    eventually("the listener to close", async || {
        Client::new(scene.client.address()).try_open(Request::get("/healthz")).await.is_err().then_some(())
    })
    .await;
    gate.open();
    let mut turns = Vec::new();
    for (number, (mut stream, mut frames)) in streams.into_iter().enumerate() {
        frames.extend(stream.rest().await);
        let end = &frames.last().unwrap().json;
        let (status, stamps) = if number % 2 == 0 { ("completed", 4) } else { ("interrupted", 2) };
        assert_eq!((&end["status"], &end["saved"]), (&json!(status), &json!(true)), "{number}: {end}");
        assert_eq!(assert_stamps(Fold::of(&frames).content()), stamps);
        turns.push((stream.turn(), end["seq"].clone(), status));
    }
    assert_eq!(scene.gateway.exit().await.code(), Some(0));
    scene.gateway.restart().await;
    for (turn, seq, status) in turns {
        let turn = scene.client.get(&format!("/v1/turns/{turn}")).await.expect(200);
        assert_eq!((&turn["seq"], &turn["status"]), (&seq, &json!(status)));
    }
    assert_eq!(scene.upstream.calls().len(), TURNS);
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let mut scene = Scene::new().await;
    let client = scene.client.clone();
    scene.upstream.push(Script::new().stamped(3).hang());
    let conversation = client.conversation().await;
    let mut live = client.ask(&conversation, "go").await;
    deltas(&mut live, 3).await;
    // A reader who never reads does not hold it up either.
    let mut request = Request::get(&format!("/v1/turns/{}/events", live.turn())).accept(Encoding::Sse);
    request.window = Some(4096);
    let stalled = client.open(request).await;
    scene.gateway.terminate();
    eventually("the first word to be heard", async || scene.gateway.log().contains("told to stop").then_some(())).await;
    let told = Instant::now();
    scene.gateway.terminate();
    scene.gateway.exit().await;
    println!("from the second SIGTERM to the exit: {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    live.leavings().await;
    drop(stalled);
    scene.gateway.restart().await;
    let answer = client.answer(&conversation).await;
    assert_eq!(answer["status"], "interrupted");
    assert_eq!(assert_stamps(answer["content"].as_str().unwrap()), 3);
    client.ask_whole(&conversation, "and now?").await.expect(200);
}

#[tokio::test]
async fn a_reader_that_never_reads_does_not_keep_it() {
    let mut scene = Scene::with(|setup| setup.set("limits.grace_s", 1)).await;
    let client = scene.client.clone();
    let text = |n: usize| format!("{n:06}{}", "x".repeat(16 << 10));
    scene.upstream.push(Script::new().deltas(300, Duration::ZERO, text).finish("stop").usage(1, 1).done());
    let conversation = client.conversation().await;
    let mut request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "go"}));
    request.window = Some(4096);
    let stalled = client.open(request.accept(Encoding::Sse)).await;
    assert_eq!(client.ended(&stalled.turn()).await["status"], "completed");
    let told = Instant::now();
    scene.gateway.terminate();
    assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
    println!("from SIGTERM to the exit, with a reader that never reads: {:?}", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
}
