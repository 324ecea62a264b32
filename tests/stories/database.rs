//! The database is away for a while: streams go on, nothing is told as saved that is not, and all is put right after.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Client, Encoding, Fold, Frame, Gate, Gateway, Outage, Record, Request, Script, Setup, Stream, Upstream,
    assert_stamps, eventually, stamp,
};

/// `unsaved_s`, where it is to be reached.
const UNSAVED: u64 = 2;

struct Scene {
    outage: Outage,
    upstream: Upstream,
    client: Client,
    conversation: String,
    _gateway: Gateway,
}

async fn scene(change: impl FnOnce(Setup) -> Setup) -> Scene {
    let (outage, upstream) = (Outage::fresh().await, Upstream::start().await);
    let setup = Gateway::at(&outage.url()).upstream(&upstream).set("limits.database_s", 1);
    let gateway = change(setup).start().await;
    let client = gateway.client();
    let conversation = client.conversation().await;
    Scene { outage, upstream, client, conversation, _gateway: gateway }
}

impl Scene {
    /// The database is back, and a turn's end is saved: the turn, as the record has it.
    async fn saved(&mut self, turn: &str) -> Record {
        self.outage.end();
        let open = format!("select cast(count(*) as text) from turns where id = '{turn}' and finished_at is null");
        eventually("the end to be saved", async || (self.outage.database.texts(&open).await == ["0"]).then_some(()))
            .await;
        // The gateway hears of its commit a moment later.
        eventually("the gateway to tell so", async || {
            let last = self.client.events(Encoding::Ndjson, turn, 0).await.rest().await.pop()?;
            (last.json["saved"] == true).then_some(())
        })
        .await;
        Record::read(&self.client, turn).await
    }

    /// The saved end, once it is there, is what readers were told, and the conversation is free.
    async fn assert_put_right(&mut self, turn: &str, seen: &[Frame]) -> Record {
        let record = self.saved(turn).await;
        let told = seen.last().unwrap();
        assert_eq!((told.kind(), told.seq(), &told.json["saved"]), ("turn.finished", None, &json!(false)));
        for field in ["status", "error", "finish_reason", "duration_ms", "first_token_ms"] {
            assert_eq!(told.json[field], record.frames.last().unwrap().json[field], "`{field}` of the end");
        }
        let before = &seen[..seen.len() - 1];
        let mut fold = Fold::of(before);
        fold.all(&record.resume(&self.client, Encoding::Sse, fold.seq).await);
        fold.assert_same_as(&record.message);
        let next = self.client.ask_whole(&self.conversation, "next").await.expect(200);
        assert_eq!(next["status"], "completed");
        record
    }
}

/// Reads on until `count` deltas have come.
async fn deltas(stream: &mut Stream, seen: &mut Vec<Frame>, count: usize) {
    while seen.iter().filter(|frame| frame.kind() == "delta").count() < count {
        seen.push(stream.event().await);
    }
}

#[tokio::test]
async fn away_for_a_moment_it_is_not_missed() {
    let mut scene = scene(|setup| setup).await;
    let (away, back) = (Gate::new(), Gate::new());
    let script = Script::new().stamped(3).gate(&away).paced(100, Duration::from_millis(20)).gate(&back).stamped(3);
    scene.upstream.push(script.finish("stop").usage(1, 106).done());
    let mut stream = scene.client.ask(&scene.conversation, "go").await;
    let mut seen = Vec::new();
    deltas(&mut stream, &mut seen, 3).await;
    scene.outage.begin().await;
    away.open();
    // All of them come while nothing can be saved.
    deltas(&mut stream, &mut seen, 103).await;
    scene.outage.end();
    back.open();
    seen.extend(stream.rest().await);
    assert!(seen.last().unwrap().json["saved"] == true);
    let record = Record::read(&scene.client, &stream.turn()).await;
    assert_eq!(record.status(), "completed");
    record.assert_owed(0, &seen);
    assert_eq!(assert_stamps(record.message["content"].as_str().unwrap()), 106);
}

#[tokio::test]
async fn away_for_too_long_a_turn_is_ended_and_told_unsaved() {
    let mut scene = scene(|setup| setup.set("limits.unsaved_s", UNSAVED as i64)).await;
    scene.upstream.when("go", Script::new().role().paced(100_000, Duration::from_millis(10)));
    let mut stream = scene.client.ask(&scene.conversation, "go").await;
    let mut seen = Vec::new();
    deltas(&mut stream, &mut seen, 10).await;
    let begun = Instant::now();
    scene.outage.begin().await;
    seen.extend(stream.rest().await);
    let told = begun.elapsed();
    assert!(told >= Duration::from_millis(UNSAVED * 1000 - 200), "given up after {told:?}");
    assert!(told <= Duration::from_secs(UNSAVED + 3), "told after {told:?}");
    let end = &seen.last().unwrap().json;
    assert_eq!((&end["status"], &end["error"]["code"]), (&json!("failed"), &json!("store_unavailable")));
    scene.upstream.call(0).await.closed().await;
    let record = scene.assert_put_right(&stream.turn(), &seen).await;
    assert!(assert_stamps(record.message["content"].as_str().unwrap()) > 100, "what was said is kept");
}

#[tokio::test]
async fn an_end_that_was_reached_stays_what_it_is() {
    let mut scene = scene(|setup| setup.set("limits.unsaved_s", UNSAVED as i64)).await;
    let gate = Gate::new();
    scene.upstream.when("go", Script::new().stamped(3).gate(&gate).stamped(3).finish("stop").usage(1, 6).done());
    let mut stream = scene.client.ask(&scene.conversation, "go").await;
    let mut seen = Vec::new();
    deltas(&mut stream, &mut seen, 3).await;
    scene.outage.begin().await;
    gate.open();
    seen.extend(stream.rest().await);
    assert_eq!(seen.last().unwrap().json["status"], "completed");
    let record = scene.assert_put_right(&stream.turn(), &seen).await;
    assert_eq!(assert_stamps(record.message["content"].as_str().unwrap()), 6);
    assert_eq!(record.message["usage"]["basis"], "reported");
}

#[tokio::test]
async fn too_much_that_is_unsaved_ends_a_turn_long_before_its_time() {
    let mut scene = scene(|setup| setup.set("limits.unsaved_bytes", 100_000)).await;
    let text = |n: usize| format!("{}{}", stamp(n), ".".repeat(1000));
    scene.upstream.when("go", Script::new().deltas(100_000, Duration::from_millis(5), text));
    let mut stream = scene.client.ask(&scene.conversation, "go").await;
    let mut seen = Vec::new();
    deltas(&mut stream, &mut seen, 3).await;
    scene.outage.begin().await;
    let begun = Instant::now();
    seen.extend(stream.rest().await);
    assert!(begun.elapsed() < Duration::from_secs(15), "told after {:?}", begun.elapsed());
    assert_eq!(seen.last().unwrap().json["error"]["code"], "store_unavailable");
    scene.upstream.call(0).await.closed().await;
    scene.assert_put_right(&stream.turn(), &seen).await;
}

#[tokio::test]
async fn what_cannot_be_admitted_is_refused_and_leaves_nothing() {
    let mut scene = scene(|setup| setup).await;
    let target = format!("/v1/conversations/{}/messages", scene.conversation);
    let ask = |content: &str| Request::post(&target, &json!({ "content": content })).header("idempotency-key", "once");
    scene.outage.begin().await;
    for request in [ask("go"), ask("go"), Request::post("/v1/conversations", &json!({"first_message": "go"}))] {
        let reply = scene.client.send(request.header("accept", "application/json")).await;
        assert_eq!(reply.expect(503)["code"], "store_unavailable");
        assert!(reply.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()), "{:?}", reply.headers);
    }
    let spoken = "/v1/chat/stream?message=go&session_id=mine&key=k";
    let mut stream = scene.client.open(Request::get(spoken).accept(Encoding::Sse)).await;
    assert_eq!((stream.status(), stream.rest().await.len()), (200, 0));
    assert_eq!(stream.comments(), ["store_unavailable"]);
    assert!(stream.retry().is_some());
    scene.outage.end();

    // The key is free, for another question too.
    let asked = eventually("the database to be back", async || {
        let reply = scene.client.send(ask("other").header("accept", "application/json")).await;
        (reply.status != 503).then_some(reply)
    })
    .await;
    assert_eq!(asked.expect(200)["status"], "completed");
    assert_eq!(scene.client.messages(&scene.conversation).await.len(), 2);
    let history = scene.client.get("/v1/chat/mine/history").await.expect(200);
    assert_eq!(history["messages"], json!([]));
    let kept = |table: &str| format!("select cast(count(*) as text) from {table}");
    for (table, count) in [("conversations", "1"), ("turns", "1"), ("idempotency_keys", "1")] {
        assert_eq!(scene.outage.database.texts(&kept(table)).await, [count], "{table}");
    }
    let asked: Vec<_> = scene.upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["other"]);
}

#[tokio::test]
async fn whoever_waits_for_json_is_told_that_the_end_is_unsaved() {
    let mut scene = scene(|setup| setup.set("limits.unsaved_s", UNSAVED as i64)).await;
    let gate = Gate::new();
    scene.upstream.when("go", Script::new().stamped(3).gate(&gate).finish("stop").usage(1, 3).done());
    let (client, conversation) = (scene.client.clone(), scene.conversation.clone());
    let waiting = crate::support::Task::start(async move { client.ask_whole(&conversation, "go").await });
    gate.reached().await;
    scene.outage.begin().await;
    gate.open();
    let refused = waiting.join().await;
    let problem: Value = refused.expect(503);
    assert_eq!(problem["code"], "store_unavailable");
    let turn = problem["turn_id"].as_str().unwrap().to_owned();
    assert_eq!(scene.saved(&turn).await.status(), "completed");
}
