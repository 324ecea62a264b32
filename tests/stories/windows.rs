//! The moments in which a crash is at its worst: before the upstream is asked, and between a commit and its telling.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Client, Database, Encoding, Fold, Frame, Gate, Gateway, Proxy, Record, Request, Scene, Script, Stream, Task,
    Upstream, chance, stamp,
};

/// A question under a key: asked again, it is the same one.
fn question(conversation: &str, text: &str) -> Request {
    let body = json!({ "content": text });
    let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &body);
    request.accept(Encoding::Ndjson).header("idempotency-key", &format!("{conversation}-{text}"))
}

/// The turn was interrupted, its key still means it, and the conversation takes the next question.
async fn assert_interrupted(client: &Client, conversation: &str, stream: &mut Stream) -> Record {
    let mut seen = vec![stream.event().await];
    seen.extend(stream.leavings().await);
    let again = client.open(question(conversation, "go")).await;
    assert_eq!(again.turn(), stream.turn());
    let record = Record::read(client, &stream.turn()).await;
    assert_eq!(record.status(), "interrupted");
    assert_resumes(client, &record, &seen).await;
    let next = client.ask_whole(conversation, "next").await.expect(200);
    assert_eq!(next["status"], "completed");
    record
}

/// A reader that comes back to where it was gets what it is owed, and folds it all into the record.
async fn assert_resumes(client: &Client, record: &Record, seen: &[Frame]) {
    let mut fold = Fold::of(seen);
    fold.all(&record.resume(client, Encoding::Ndjson, fold.seq).await);
    fold.assert_same_as(&record.message);
}

#[tokio::test]
async fn killed_before_its_upstream_is_reached_a_turn_is_never_asked() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(upstream.address()).await;
    proxy.pause();
    let setup = Gateway::on(&database).upstream_at(&format!("http://{}/v1", proxy.address()));
    let mut gateway = setup.set("cluster.lease_s", 1).start().await;
    let client = gateway.client();
    let conversation = client.conversation().await;
    let mut stream = client.open(question(&conversation, "go")).await;
    gateway.kill();
    // What it holds is dropped while the gateway starts.
    proxy.cut();
    gateway.restart().await;
    proxy.heal();
    let record = assert_interrupted(&client, &conversation, &mut stream).await;
    assert!(record.message["usage"].is_null(), "nobody took the call: {}", record.message);
    let asked: Vec<_> = upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["next"]);
}

#[tokio::test]
async fn killed_while_its_upstream_thinks_a_turn_is_not_asked_again() {
    let mut scene = Scene::with(|setup| setup.set("cluster.lease_s", 1)).await;
    scene.upstream.when("go", Script::silence());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.open(question(&conversation, "go")).await;
    scene.upstream.call(0).await;
    scene.gateway.kill();
    scene.gateway.restart().await;
    scene.upstream.when("next", Script::answer(&["Here."]));
    assert_interrupted(&scene.client, &conversation, &mut stream).await;
    assert_eq!(scene.upstream.calls().len(), 2, "the one that was killed, and the next");
}

#[tokio::test]
async fn an_end_that_is_committed_and_not_yet_told_stays_the_only_one() {
    let mut scene = Scene::with(|setup| setup.set("cluster.lease_s", 1)).await;
    let text = |n: usize| format!("{}{}", stamp(n), ".".repeat(16_000));
    scene.upstream.push(Script::new().deltas(500, Duration::ZERO, text).finish("stop").usage(1, 500).done());
    let conversation = scene.client.conversation().await;
    // It takes so little that the end cannot have reached it when the record has it.
    let mut request = question(&conversation, "go");
    request.window = Some(4096);
    let mut stream = scene.client.open(request).await;
    assert_eq!(scene.client.ended(&stream.turn()).await["status"], "completed");
    scene.gateway.kill();
    let seen = stream.leavings().await;
    assert!(!seen.iter().any(Frame::is_end), "the reader has read on by itself");
    scene.gateway.restart().await;
    let record = Record::read(&scene.client, &stream.turn()).await;
    assert_eq!((record.status(), record.crash), ("completed", None));
    assert_resumes(&scene.client, &record, &seen).await;
    assert_eq!(scene.client.open(question(&conversation, "go")).await.turn(), stream.turn());
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_is_queued_just_as_the_live_one_ends_begins() {
    let scene = Scene::new().await;
    scene.upstream.always(Script::new().role().delta("Yes.").finish("stop").usage(1, 1).done());
    let mut rng = chance();
    for _ in 0..15 {
        let pairs = (0..8).map(|_| Task::start(end_and_queue(scene.client.clone(), rng.u64(0..12_000))));
        for pair in pairs.collect::<Vec<_>>() {
            pair.join().await;
        }
    }
}

async fn end_and_queue(client: Client, micros: u64) {
    let conversation = client.conversation().await;
    let mut first = client.ask(&conversation, "first").await;
    tokio::time::sleep(Duration::from_micros(micros)).await;
    let body = json!({"content": "second", "if_busy": "queue"});
    let mut second = client.ask_as(Encoding::Ndjson, &conversation, &body).await;
    for stream in [&mut first, &mut second] {
        assert_eq!(stream.rest().await.last().unwrap().json["status"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_turns_end_each_has_one_end_told_or_not() {
    /// Turns that end at the same time.
    const TURNS: usize = 10;
    /// By then a kill has come between a commit and its telling.
    const TRIES: usize = 60;
    let mut scene = Scene::with(|setup| setup.set("cluster.lease_s", 1)).await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().role().stamped(3).gate(&gate).finish("stop").usage(1, 3).done());
    let mut rng = chance();
    for round in 0..TRIES {
        let mut readers = Vec::new();
        for _ in 0..TURNS {
            let conversation = scene.client.conversation().await;
            let mut stream = scene.client.open(question(&conversation, "go")).await;
            let turn = stream.turn();
            readers.push((turn, Task::start(async move { stream.leavings().await })));
        }
        gate.reached_by(TURNS * (round + 1)).await;
        gate.pass(TURNS);
        tokio::time::sleep(Duration::from_micros(rng.u64(0..20_000))).await;
        scene.gateway.kill();
        scene.gateway.restart().await;
        let mut found = false;
        for (turn, reader) in readers {
            let (seen, record) = (reader.join().await, Record::read(&scene.client, &turn).await);
            let told = seen.iter().any(Frame::is_end);
            assert!(matches!(record.status(), "completed" | "interrupted"), "{}", record.message);
            assert!(!told || record.status() == "completed", "an end was told that is not the record's");
            if !told {
                assert_resumes(&scene.client, &record, &seen).await;
            }
            found |= !told && record.status() == "completed";
        }
        assert_eq!(scene.upstream.calls().len(), TURNS * (round + 1), "each question is asked once");
        if found {
            println!("kill {} came between a commit and its telling", round + 1);
            return;
        }
    }
    panic!("no kill in {TRIES} came between a commit and its telling");
}
