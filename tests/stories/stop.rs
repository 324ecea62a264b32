//! Stop stops, and keeps what was said.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    Encoding, Fold, Frame, Gate, Request, Scene, Script, Stream, Task, Told, assert_stamps, chance, eventually,
};

/// 100 ms are promised; a build without optimizations on a busy machine gets more.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Reads on until `count` deltas have come.
async fn deltas(stream: &mut Stream, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.iter().filter(|frame: &&Frame| frame.kind() == "delta").count() < count {
        frames.push(stream.event().await);
    }
    frames
}

#[tokio::test]
async fn a_stop_lets_go_of_the_upstream_at_once_and_keeps_what_was_said() {
    let scene = Scene::new().await;
    scene.upstream.always(Script::new().stamped(5).hang());
    let conversation = scene.client.conversation().await;
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let mut stream = scene.client.ask(&conversation, "go").await;
        let mut frames = deltas(&mut stream, 5).await;
        let call = scene.upstream.call(round).await;
        assert!(!call.is_closed());
        let asked = Instant::now();
        let stopped = scene.client.stop(&stream.turn()).await.expect(200);
        slowest = slowest.max(call.closed().await.saturating_duration_since(asked));
        frames.extend(stream.rest().await);
        Fold::of(&frames).assert_same_as(&stopped);
        assert_eq!(scene.client.answer(&conversation).await, stopped, "round {round}");
        assert_eq!((&stopped["status"], &stopped["stopped_by"]), (&json!("stopped"), &json!("request")));
        assert_eq!(assert_stamps(stopped["content"].as_str().unwrap()), 5);
        let usage = &stopped["usage"];
        assert_eq!(usage["basis"], "estimated");
        assert!(usage["prompt_tokens"].as_u64().unwrap() > 0 && usage["completion_tokens"].as_u64().unwrap() >= 5);
        assert_eq!(stopped["steps"][0]["status"], "error");
    }
    println!("from a stop to the close of the upstream's connection: {slowest:?} at most");
    assert!(slowest < AT_ONCE, "{slowest:?}");
    assert_eq!(scene.upstream.calls().len(), 10);
}

#[tokio::test]
async fn a_stop_before_the_first_word_has_nothing_to_keep() {
    let scene = Scene::new().await;
    // No upstream has taken the call yet; then one has, and is thinking.
    for (round, script) in [Script::silence(), Script::new().comment("hm").hang()].into_iter().enumerate() {
        scene.upstream.push(script);
        let conversation = scene.client.conversation().await;
        let stream = scene.client.ask(&conversation, "go").await;
        let call = scene.upstream.call(round).await;
        let asked = Instant::now();
        let stopped = scene.client.stop(&stream.turn()).await.expect(200);
        assert!(call.closed().await.saturating_duration_since(asked) < AT_ONCE);
        assert_eq!((&stopped["status"], &stopped["content"]), (&json!("stopped"), &json!("")));
        assert_eq!(Told::hear(&scene.client, &conversation, stream).await.message, stopped);
        // Whether the head of the second answer was there in time is for nobody to know.
        assert!(round == 1 || stopped["usage"].is_null(), "{stopped}");
    }
}

#[tokio::test]
async fn a_call_that_was_taken_counts_though_it_is_stopped_before_the_first_word() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    // A stop may come before the head has been read: then the call was free, and the next try is another.
    let usage = eventually("a stop after the head", async || {
        let gate = Gate::new();
        scene.upstream.push(Script::new().gate(&gate).hang());
        let stream = scene.client.ask(&conversation, "How many words are these?").await;
        gate.reached().await;
        let stopped = scene.client.stop(&stream.turn()).await.expect(200);
        assert_eq!((&stopped["status"], &stopped["content"]), (&json!("stopped"), &json!("")));
        gate.open();
        (!stopped["usage"].is_null()).then(|| stopped["usage"].clone())
    })
    .await;
    assert!(usage["prompt_tokens"].as_u64().unwrap() >= 6, "{usage}");
    assert_eq!((&usage["completion_tokens"], &usage["basis"]), (&json!(0), &json!("estimated")));
}

#[tokio::test]
async fn many_stops_at_once_and_after_the_end_answer_alike() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().stamped(5).hang());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let turn = stream.turn();
    let waiting = Task::start({
        let (client, target) = (scene.client.clone(), format!("/v1/turns/{turn}/events"));
        async move { client.get(&target).await }
    });
    deltas(&mut stream, 5).await;
    let answers = join_all((0..10).map(|_| scene.client.stop(&turn))).await;
    let kept = scene.client.answer(&conversation).await;
    for answer in answers {
        assert_eq!(answer.expect(200), kept);
    }
    assert_eq!(scene.client.stop(&turn).await.expect(200), kept);
    assert_eq!(waiting.join().await.expect(200), kept, "who waited for JSON gets the message as it ended");
    let ends = scene.client.events(Encoding::Ndjson, &turn, 0).await.rest().await;
    assert_eq!(ends.iter().filter(|frame| frame.is_end()).count(), 1);
    let told = scene.told("a whole answer").await;
    assert_eq!(scene.client.stop(&told.turn).await.expect(200), told.message, "too late changes nothing");
    assert_eq!(scene.client.answer(&told.conversation).await, told.message);
}

#[tokio::test]
async fn a_stop_that_races_the_end_has_one_winner() {
    let scene = Scene::new().await;
    let mut rng = chance();
    let mut ends = [0, 0];
    for _ in 0..40 {
        let gate = Gate::new();
        scene.upstream.push(Script::new().stamped(5).gate(&gate).finish("stop").usage(1, 5).done());
        let conversation = scene.client.conversation().await;
        let mut stream = scene.client.ask(&conversation, "go").await;
        let turn = stream.turn();
        let mut frames = deltas(&mut stream, 5).await;
        let stopping = Task::start({
            let (client, turn, after) = (scene.client.clone(), turn.clone(), rng.u64(0..1500));
            async move {
                tokio::time::sleep(Duration::from_micros(after)).await;
                client.stop(&turn).await
            }
        });
        tokio::time::sleep(Duration::from_micros(rng.u64(0..1500))).await;
        gate.open();
        frames.extend(stream.rest().await);
        let stopped = stopping.join().await.expect(200);
        assert_eq!(scene.client.answer(&conversation).await, stopped);
        Fold::of(&frames).assert_same_as(&stopped);
        assert_eq!(frames.iter().filter(|frame| frame.is_end()).count(), 1);
        assert_eq!(assert_stamps(stopped["content"].as_str().unwrap()), 5);
        let by_request = stopped["status"] == "stopped";
        assert!(by_request || stopped["status"] == "completed", "{stopped}");
        assert_eq!(stopped["stopped_by"].is_string(), by_request);
        ends[usize::from(by_request)] += 1;
        // Said means saved: the conversation is free, whoever won.
        assert_eq!(scene.client.ask_whole(&conversation, "and now?").await.status, 200);
    }
    println!("completed: {}, stopped: {}", ends[0], ends[1]);
}

#[tokio::test]
async fn a_queued_turn_is_stopped_without_a_word_and_the_next_is_not_held_up() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(2).gate(&gate).finish("stop").done());
    let conversation = scene.client.conversation().await;
    let mut live = scene.client.ask(&conversation, "one").await;
    let queue = |content: &str| json!({"content": content, "if_busy": "queue"});
    let mut two = scene.client.ask_as(Encoding::Ndjson, &conversation, &queue("two")).await;
    let mut three = scene.client.ask_as(Encoding::Sse, &conversation, &queue("three")).await;
    let stopped = scene.client.stop(&two.turn()).await.expect(200);
    let frames = two.rest().await;
    let kinds: Vec<_> = frames.iter().map(Frame::kind).collect();
    assert_eq!(kinds, ["turn.started", "turn.finished"]);
    Fold::of(&frames).assert_same_as(&stopped);
    assert_eq!(
        (&stopped["status"], &stopped["content"], &stopped["usage"]),
        (&json!("stopped"), &json!(""), &Value::Null)
    );
    assert_eq!(scene.client.turn(&live.turn()).await["status"], "running", "the live turn is not touched");
    gate.open();
    assert_eq!(live.rest().await.pop().unwrap().json["status"], "completed");
    assert_eq!(three.rest().await.pop().unwrap().json["status"], "completed");
    let asked: Vec<_> = scene.upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["one", "three"]);
}

#[tokio::test]
async fn a_stop_that_cannot_be_saved_yet_says_so_and_is_done_later() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().stamped(5).hang());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let turn = stream.turn();
    let mut frames = deltas(&mut stream, 5).await;
    let block = scene.database.block().await;
    let call = scene.upstream.call(0).await;
    let asked = Instant::now();
    let stopping = Task::start({
        let (client, turn) = (scene.client.clone(), turn.clone());
        async move { client.stop(&turn).await }
    });
    let closed = call.closed().await.saturating_duration_since(asked);
    println!("from a stop to the close of the upstream's connection, with the database blocked: {closed:?}");
    assert!(closed < AT_ONCE, "the upstream is let go of before anything is saved: {closed:?}");
    let stopping = stopping.join().await;
    assert_eq!(stopping.expect(202), json!({"turn_id": turn, "status": "stopping"}));
    assert!(asked.elapsed() >= Duration::from_secs(5), "{:?}", asked.elapsed());
    drop(block);
    frames.extend(stream.rest().await);
    let kept = scene.client.stop(&turn).await.expect(200);
    Fold::of(&frames).assert_same_as(&kept);
    assert_eq!((&kept["status"], &kept["stopped_by"]), (&json!("stopped"), &json!("request")));
    assert_eq!(assert_stamps(kept["content"].as_str().unwrap()), 5);
}

#[tokio::test]
async fn what_is_no_turn_cannot_be_stopped() {
    let scene = Scene::new().await;
    for id in ["turn_unknown", "turn_01890a5d-ac96-774b-bcce-b302099a8057", "conv_x", "%F0%9F%98%80"] {
        assert_eq!(scene.client.stop(id).await.expect(404)["code"], "turn_not_found", "{id}");
    }
    let told = scene.told("hi").await;
    let target = format!("/v1/turns/{}/stop", told.turn);
    let bare = Request { body: None, ..Request { method: "POST".into(), ..Request::get(&target) } };
    assert_eq!(scene.client.send(bare).await.expect(200), told.message, "a stop needs no body");
    assert_eq!(scene.client.post(&target, &json!({"why": 1})).await.expect(422)["field"], "why");
    let wrong = scene.client.get(&target).await;
    assert_eq!((wrong.expect(405)["code"].as_str(), wrong.header("allow")), (Some("method_not_allowed"), Some("POST")));
}
