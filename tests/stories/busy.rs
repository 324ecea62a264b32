//! One live turn per conversation: what becomes of a message that comes while one runs.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Encoding, Frame, Gate, Request, Scene, Script, Stream, assert_stamps, eventually};

fn ask(content: &str, if_busy: &str) -> Value {
    json!({"content": content, "if_busy": if_busy})
}

/// A scene whose first answer waits at the gate, and a conversation where it is asked for.
async fn scene(gate: &Gate) -> (Scene, String, Stream) {
    let scene = Scene::with(|setup| setup.set("limits.queued_turns", 3)).await;
    let (conversation, live) = busy(&scene, gate).await;
    (scene, conversation, live)
}

async fn busy(scene: &Scene, gate: &Gate) -> (String, Stream) {
    scene.upstream.push(Script::new().stamped(2).gate(gate).stamped(2).finish("stop").usage(1, 4).done());
    let conversation = scene.client.conversation().await;
    let live = scene.client.ask(&conversation, "first").await;
    gate.reached().await;
    (conversation, live)
}

fn end(frames: &[Frame]) -> (&str, &str) {
    let last = frames.last().expect("events");
    assert!(last.is_end(), "{}", last.json);
    (last.json["status"].as_str().unwrap(), last.json["stopped_by"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_message_to_a_busy_conversation_is_refused_unless_it_says_otherwise() {
    let gate = Gate::new();
    let (scene, conversation, mut live) = scene(&gate).await;
    let target = format!("/v1/conversations/{conversation}/messages");
    for body in [json!({"content": "second"}), ask("second", "reject")] {
        for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
            let reply = scene.client.send(Request::post(&target, &body).header("accept", accept)).await;
            let problem = reply.expect(409);
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
            assert_eq!((&problem["code"], &problem["status"]), (&json!("turn_in_progress"), &json!(409)));
            assert_eq!((&problem["conversation_id"], &problem["turn_id"]), (&json!(conversation), &json!(live.turn())));
        }
    }
    let shown = scene.client.get(&format!("/v1/conversations/{conversation}")).await.expect(200);
    assert_eq!(shown["live_turn_id"], live.turn());
    assert_eq!(scene.client.messages(&conversation).await.len(), 2);
    gate.open();
    live.rest().await;
    // The end was said, so the conversation is free: no try is in vain.
    assert_eq!(scene.client.ask_whole(&conversation, "second").await.status, 200);
    let shown = scene.client.get(&format!("/v1/conversations/{conversation}")).await.expect(200);
    assert!(shown["live_turn_id"].is_null(), "{shown}");
    let odd = scene.client.post(&target, &ask("x", "wait")).await.expect(422);
    assert_eq!(odd["field"], "if_busy");
}

#[tokio::test]
async fn queued_turns_run_first_in_first_out_each_when_its_time_comes() {
    let gate = Gate::new();
    let (scene, conversation, mut live) = scene(&gate).await;
    let mut queued = Vec::new();
    for (n, content) in ["second", "third", "fourth"].into_iter().enumerate() {
        let encoding = Encoding::ALL[n % 2];
        scene.upstream.push(Script::new().stamped(n + 1).gate(&gate).finish("stop").done());
        queued.push(scene.client.ask_as(encoding, &conversation, &ask(content, "queue")).await);
    }
    let full = scene.client.post(&format!("/v1/conversations/{conversation}/messages"), &ask("fifth", "queue")).await;
    assert_eq!((full.expect(429)["code"].as_str(), full.header("retry-after").is_some()), (Some("queue_full"), true));
    let list = scene.client.messages(&conversation).await;
    let statuses: Vec<_> = list.iter().filter(|one| one["role"] == "assistant").map(|one| &one["status"]).collect();
    assert_eq!(statuses, ["running", "queued", "queued", "queued"]);
    assert_eq!((&list[2]["content"], &list[2]["parent_id"]), (&json!("second"), &list[1]["id"]));
    let mut last = live.turn();
    for (n, mut stream) in queued.into_iter().enumerate() {
        let turn = scene.client.turn(&stream.turn()).await;
        assert_eq!((&turn["status"], &turn["seq"]), (&json!("queued"), &json!(0)));
        let now = Request::get(&format!("/v1/turns/{}/events?follow=0", stream.turn())).accept(Encoding::Ndjson);
        assert!(scene.client.open(now).await.rest().await.is_empty(), "nothing is logged before its time");
        assert_eq!(scene.upstream.calls().len(), n + 1);
        gate.pass(1);
        assert_eq!(
            end(&if n == 0 { live.rest().await } else { Vec::from([ended(&scene, &last).await]) }),
            ("completed", "")
        );
        let started = stream.event().await;
        assert_eq!((started.kind(), started.seq()), ("turn.started", Some(1)));
        last = stream.turn();
        scene.upstream.call(n + 1).await;
        let shown = scene.client.get(&format!("/v1/conversations/{conversation}")).await.expect(200);
        assert_eq!(shown["live_turn_id"], last);
    }
    gate.open();
    let turn = scene.client.ended(&last).await;
    assert_eq!(turn["status"], "completed");
    let asked: Vec<_> = scene.upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["first", "second", "third", "fourth"]);
    // Each was asked with what had been said by then.
    let whole = scene.upstream.calls().pop().unwrap().body["messages"].clone();
    let said: Vec<_> = whole.as_array().unwrap().iter().map(|line| line["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["first", "[0][1][2][3]", "second", "[0]", "third", "[0][1]", "fourth"]);
}

/// The end event of a turn.
async fn ended(scene: &Scene, turn: &str) -> Frame {
    scene.client.events(Encoding::Ndjson, turn, 0).await.rest().await.pop().unwrap()
}

#[tokio::test]
async fn an_interrupt_stops_what_runs_and_what_waits_and_then_starts() {
    let gate = Gate::new();
    let (scene, conversation, mut live) = scene(&gate).await;
    let mut queued = Vec::new();
    for content in ["second", "third", "fourth"] {
        queued.push(scene.client.ask_as(Encoding::Ndjson, &conversation, &ask(content, "queue")).await);
    }
    let mut new = scene.client.ask_as(Encoding::Sse, &conversation, &ask("now", "interrupt")).await;
    let started = new.event().await;
    assert_eq!((started.kind(), started.seq()), ("turn.started", Some(1)));
    let frames = live.rest().await;
    assert_eq!(end(&frames), ("stopped", "interrupt"));
    for mut stream in queued {
        assert_eq!(end(&stream.rest().await), ("stopped", "interrupt"));
    }
    scene.upstream.call(0).await.closed().await;
    assert_eq!(end(&new.rest().await), ("completed", ""));
    let messages = scene.client.messages(&conversation).await;
    assert_eq!(assert_stamps(messages[1]["content"].as_str().unwrap()), 2, "what was said is kept");
    let asked: Vec<_> = scene.upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["first", "now"]);
    // It starts after their commit: nothing of the new turn is older than an end of the old ones.
    let time = |turn: &Value, field: &str| turn[field].as_str().unwrap().to_owned();
    let new = scene.client.turn(&new.turn()).await;
    for message in messages.iter().filter(|message| message["status"] == "stopped") {
        let old = scene.client.turn(message["turn_id"].as_str().unwrap()).await;
        assert!(time(&old, "finished_at") < time(&new, "finished_at"));
    }
}

#[tokio::test]
async fn interrupts_at_once_leave_one() {
    let gate = Gate::new();
    let (scene, conversation, live) = scene(&gate).await;
    scene.upstream.always(Script::new().stamped(1).finish("stop").done());
    let asking = (0..6).map(|n| {
        let (client, conversation) = (scene.client.clone(), conversation.clone());
        async move { client.ask_as(Encoding::ALL[n % 2], &conversation, &ask(&format!("{n}"), "interrupt")).await }
    });
    let mut ends = Vec::new();
    for mut stream in join_all(asking).await.into_iter().chain([live]) {
        let frames = stream.rest().await;
        assert_eq!(frames[0].kind(), "turn.started");
        ends.push(end(&frames).0.to_owned());
    }
    assert_eq!(ends.pop().as_deref(), Some("stopped"), "the live turn gives way");
    assert!(ends.iter().any(|end| end == "completed"), "{ends:?}");
    let shown = scene.client.get(&format!("/v1/conversations/{conversation}")).await.expect(200);
    assert!(shown["live_turn_id"].is_null(), "{shown}");
    let last = scene.client.answer(&conversation).await;
    assert_eq!(last["status"], "completed", "the newest is nobody's to interrupt: {last}");
}

#[tokio::test]
async fn the_setting_holds_where_a_request_does_not_say() {
    for (setting, status) in [("reject", 409), ("queue", 200), ("interrupt", 200)] {
        let scene = Scene::with(|setup| setup.set("stream.if_busy", setting)).await;
        let gate = Gate::new();
        let (conversation, mut live) = busy(&scene, &gate).await;
        let mut second = scene.client.ask(&conversation, "second").await;
        assert_eq!(second.status(), status, "{setting}");
        if setting == "queue" {
            assert_eq!(scene.client.turn(&second.turn()).await["status"], "queued");
        }
        let due = if setting == "interrupt" { ("stopped", "interrupt") } else { ("completed", "") };
        if setting != "interrupt" {
            gate.open();
        }
        assert_eq!(end(&live.rest().await), due, "{setting}");
        if status == 200 {
            assert_eq!(end(&second.rest().await), ("completed", ""));
        }
        // What a request says comes first.
        let gate = Gate::new();
        let (conversation, _live) = busy(&scene, &gate).await;
        let target = format!("/v1/conversations/{conversation}/messages");
        assert_eq!(scene.client.post(&target, &ask("second", "reject")).await.status, 409, "{setting}");
    }
}

#[tokio::test]
async fn there_are_as_many_live_turns_as_the_process_may_have() {
    let scene = Scene::with(|setup| setup.set("limits.max_live_turns", 2)).await;
    scene.upstream.always(Script::new().stamped(1).hang());
    let (one, two) = (scene.client.conversation().await, scene.client.conversation().await);
    let target = format!("/v1/conversations/{one}/messages");
    let keyed = Request::post(&target, &json!({"content": "go"})).header("idempotency-key", "k");
    let live = scene.client.open(keyed.clone().accept(Encoding::Ndjson)).await;
    // A queued turn is live too.
    scene.client.ask_as(Encoding::Ndjson, &one, &ask("queued", "queue")).await;
    let full = scene.client.ask_whole(&two, "more").await;
    assert_eq!(full.expect(503)["code"], "too_many_turns");
    assert!(full.header("retry-after").is_some());
    let mut source = scene.client.open(Request::get("/v1/chat/stream?message=hi&key=k2").accept(Encoding::Sse)).await;
    assert_eq!((source.status(), source.text().await), (200, ": too_many_turns\nretry: 1000\n\n".to_owned()));
    assert_eq!(scene.client.messages(&two).await.len(), 0);
    // Who comes back for a turn that is there finds it all the same.
    assert_eq!(scene.client.open(keyed.accept(Encoding::Sse)).await.turn(), live.turn());
    scene.client.stop(&live.turn()).await.expect(200);
    let mut next = eventually("a place", async || {
        let stream = scene.client.ask(&two, "more").await;
        (stream.status() == 200).then_some(stream)
    })
    .await;
    assert_eq!(next.event().await.kind(), "turn.started");
}
