//! PostgreSQL behind a network: slow, silent, or gone just when a commit was on its way.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Client, Database, Encoding, Fold, Frame, Gate, Gateway, Proxy, Record, Request, Script, Setup, Upstream, eventually,
};

struct Scene {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    database: Database,
    proxy: Proxy,
}

async fn scene(change: impl FnOnce(Setup) -> Setup) -> Scene {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(database.server()).await;
    let setup = Gateway::at(&database.through(&proxy)).upstream(&upstream).set("limits.database_s", 1);
    let gateway = change(setup).start().await;
    Scene { client: gateway.client(), gateway, upstream, database, proxy }
}

impl Scene {
    async fn count(&self, table: &str) -> i64 {
        self.database.numbers(&format!("select count(*) from {table}")).await[0]
    }
}

/// What is said of the first end there is, and of nothing else: the index of words names the conversation too.
const END: [&str; 2] = ["update turns set status = $1, seq = $2", "COMMIT"];

#[tokio::test]
async fn killed_between_the_last_commit_and_its_answer_a_turn_keeps_its_end() {
    let mut scene = scene(|setup| setup.set("cluster.lease_s", 60).set("limits.database_s", 30)).await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().stamped(3).gate(&gate).finish("stop").usage(1, 3).done());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let mut seen = stream.events(5).await;
    let turn = stream.turn();
    let saved = format!("select max(last_seq) from journal where turn_id = '{turn}'");
    eventually("the deltas to be saved", async || (scene.database.numbers(&saved).await == [5]).then_some(())).await;
    scene.proxy.hold_replies_after(&END);
    gate.open();
    scene.proxy.held().await;
    let ended = format!("select count(*) from turns where id = '{turn}' and status = 'completed'");
    eventually("the end to be committed", async || (scene.database.numbers(&ended).await == [1]).then_some(())).await;
    scene.gateway.kill();
    scene.proxy.cut();
    seen.extend(stream.leavings().await);
    assert!(!seen.iter().any(Frame::is_end), "the end was told before its commit was answered");
    scene.proxy.heal();
    scene.gateway.restart().await;
    let record = Record::read(&scene.client, &turn).await;
    assert_eq!((record.status(), record.crash), ("completed", None));
    let mut fold = Fold::of(&seen);
    fold.all(&record.resume(&scene.client, Encoding::Sse, fold.seq).await);
    fold.assert_same_as(&record.message);
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_eq!(scene.client.ask_whole(&conversation, "next").await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn an_end_whose_commit_is_not_answered_is_written_once() {
    let scene = scene(|setup| setup.set("cluster.lease_s", 60)).await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().stamped(3).gate(&gate).finish("stop").usage(1, 3).done());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let mut seen = stream.events(5).await;
    scene.proxy.hold_replies_after(&END);
    gate.open();
    scene.proxy.held().await;
    scene.proxy.cut();
    scene.proxy.heal();
    seen.extend(stream.rest().await);
    assert_eq!(seen.last().unwrap().json["saved"], true);
    let record = Record::read(&scene.client, &stream.turn()).await;
    record.assert_owed(0, &seen);
    assert_eq!(scene.client.ask_whole(&conversation, "next").await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn an_admission_whose_commit_is_not_answered_leaves_nothing() {
    let scene = scene(|setup| setup.set("cluster.lease_s", 60)).await;
    let conversation = scene.client.conversation().await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let ask = |content: &str| {
        let request = Request::post(&target, &json!({ "content": content })).header("accept", "application/json");
        request.header("idempotency-key", "once")
    };
    scene.proxy.hold_replies_after(&[&conversation, "COMMIT"]);
    let refused = scene.client.send(ask("go")).await;
    assert_eq!(refused.expect(503)["code"], "store_unavailable");
    assert_eq!(scene.count("turns").await, 1, "the commit was to go through");
    scene.proxy.cut();
    scene.proxy.heal();
    eventually("what nobody was told of to be undone", async || (scene.count("turns").await == 0).then_some(())).await;
    for table in ["messages", "journal", "idempotency_keys"] {
        assert_eq!(scene.count(table).await, 0, "{table}");
    }
    let asked = eventually("the database to be back", async || {
        let reply = scene.client.send(ask("other")).await;
        (reply.status != 503).then_some(reply)
    })
    .await;
    assert_eq!(asked.expect(200)["status"], "completed");
    let asked: Vec<_> = scene.upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["other"]);
}

#[tokio::test]
async fn a_slow_server_slows_no_delta() {
    let scene = scene(|setup| setup.set("limits.database_s", 20)).await;
    let script = Script::new().paced(100, Duration::from_millis(10));
    scene.upstream.push(script.finish("stop").usage(1, 100).done());
    let conversation = scene.client.conversation().await;
    scene.proxy.delay(Duration::from_millis(100));
    let mut stream = scene.client.ask(&conversation, "go").await;
    let mut seen = stream.events(3).await;
    let begun = std::time::Instant::now();
    seen.extend(stream.events(99).await);
    // A commit takes eight hundred milliseconds or more, and the deltas one second in all.
    assert!(begun.elapsed() < Duration::from_millis(1500), "the deltas took {:?}", begun.elapsed());
    seen.extend(stream.rest().await);
    scene.proxy.heal();
    assert_eq!(seen.last().unwrap().json["saved"], true);
    Record::read(&scene.client, &stream.turn()).await.assert_owed(0, &seen);
}

#[tokio::test]
async fn readiness_tells_that_the_server_is_away_and_back() {
    let scene = scene(|setup| setup).await;
    for away in [Proxy::cut, Proxy::pause] {
        away(&scene.proxy);
        let told = eventually("readiness to say no", async || {
            let reply = scene.client.get("/readyz").await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert_eq!(told.expect(503)["components"]["store"]["status"], "unavailable");
        assert_eq!(scene.client.get("/healthz").await.status, 200);
        let reply = scene.client.get("/v1/turns/turn_x").await;
        assert_eq!(reply.expect(503)["code"], "store_unavailable");
        let mut stream = scene.client.events(Encoding::Sse, "turn_x", 0).await;
        assert_eq!((stream.status(), stream.rest().await.len()), (200, 0));
        assert_eq!(stream.comments(), ["store_unavailable"]);
        scene.proxy.heal();
        eventually("readiness to say yes", async || (scene.client.get("/readyz").await.status == 200).then_some(()))
            .await;
    }
}
