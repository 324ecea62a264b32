//! An admission whose commit nobody is sure of, and whoever comes back for it through another replica.

use serde_json::{Value, json};

use crate::support::{Database, Encoding, Fold, Gateway, Proxy, Record, Request, Script, Task, Upstream, eventually};

#[tokio::test]
async fn a_turn_that_somebody_was_told_of_under_its_key_is_not_undone_by_who_was_not_sure_of_it() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(database.server()).await;
    let start = |url: &str| Gateway::at(url).upstream(&upstream).set("limits.database_s", 1).start();
    let (one, other) = (start(&database.through(&proxy)).await, start(&database.url()).await);
    let (a, b) = (one.client(), other.client());
    for if_busy in ["reject", "queue"] {
        let conversation = b.conversation().await;
        // With the other way of being busy there is a turn before it.
        let before = if if_busy == "queue" {
            upstream.push(Script::new().stamped(2).hang());
            Some(b.ask(&conversation, "before").await.turn())
        } else {
            None
        };
        let body = json!({"content": format!("go and {if_busy}"), "if_busy": if_busy});
        let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &body);
        let request = request.header("idempotency-key", if_busy).accept(Encoding::Ndjson);
        proxy.hold_replies_after(&[&conversation, "COMMIT"]);
        let asked = Task::start({
            let (a, request) = (a.clone(), request.clone());
            async move { a.send(request).await }
        });
        proxy.held().await;
        eventually("it to have happened", async || {
            (database.texts("select key from idempotency_keys").await.contains(&if_busy.to_owned())).then_some(())
        })
        .await;
        let mut stream = b.open(request.clone()).await;
        let turn = stream.turn();
        assert_eq!(asked.join().await.expect(503)["outcome"], "unknown", "who was not sure says so");
        proxy.release();
        if let Some(before) = before {
            b.stop(&before).await.expect(200);
        }
        let frames = stream.rest().await;
        assert!(frames.last().unwrap().is_end(), "{:?}", frames.last());
        let record = Record::read(&a, &turn).await;
        assert_eq!(record.status(), "completed");
        Fold::of(&frames).assert_same_as(&record.message);
        assert_eq!(a.open(request).await.turn(), turn, "there too");
        let asked = upstream.calls().into_iter().filter(|call| call.question() == format!("go and {if_busy}"));
        assert_eq!(asked.count(), 1);
    }
}

#[tokio::test]
async fn what_nobody_was_told_of_is_undone_and_a_key_begins_anew() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(database.server()).await;
    let start = |url: &str| Gateway::at(url).upstream(&upstream).set("limits.database_s", 1).start();
    let (one, other) = (start(&database.through(&proxy)).await, start(&database.url()).await);
    let (a, b) = (one.client(), other.client());
    let conversation = b.conversation().await;
    let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "go"}));
    let request = request.header("idempotency-key", "k").accept(Encoding::Ndjson);
    proxy.hold_replies_after(&[&conversation, "COMMIT"]);
    assert_eq!(a.send(request.clone()).await.expect(503)["outcome"], "unknown", "its undoing waits too");
    let unsure = database.texts("select id from turns").await;
    assert_eq!(unsure.len(), 1, "it was committed all the same");
    proxy.release();
    let gone = async || database.texts("select id from turns").await.is_empty().then_some(());
    eventually("it to be undone", gone).await;
    let turn = b.open(request).await.turn();
    assert_ne!(turn, unsure[0]);
    assert_eq!(b.ended(&turn).await["status"], "completed");
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_queued_turn_that_is_confirmed_after_its_lease_is_lost_keeps_no_reader_waiting() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(database.server()).await;
    let start = |url: &str| Gateway::at(url).upstream(&upstream).set("cluster.lease_s", 1).start();
    let (one, other) = (start(&database.through(&proxy)).await, start(&database.url()).await);
    let (a, b) = (one.client(), other.client());
    let conversation = b.conversation().await;
    upstream.push(Script::new().stamped(2).hang());
    let before = b.ask(&conversation, "before").await.turn();
    let body = json!({"content": "go", "if_busy": "queue"});
    let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &body);
    proxy.hold_replies_after(&[&conversation, "COMMIT"]);
    let asked = Task::start(async move { a.open(request.accept(Encoding::Ndjson)).await });
    let taken = async || (!database.texts("select id from turns where epoch = 2").await.is_empty()).then_some(());
    eventually("the other to take the turn", taken).await;
    proxy.release();
    let mut stream = asked.join().await;
    b.stop(&before).await.expect(200);
    let turn = stream.turn();
    assert_eq!(b.ended(&turn).await["status"], "completed");
    let mut fold = Fold::new();
    fold.all(&stream.rest().await);
    let record = Record::read(&b, &turn).await;
    if !fold.ended {
        fold.all(&record.resume(&b, Encoding::Sse, fold.seq).await);
    }
    fold.assert_same_as(&record.message);
}

#[tokio::test]
async fn whoever_is_told_that_nothing_was_started_may_ask_again_without_a_key() {
    let (database, _upstream, proxy, mut gateway) = behind_a_proxy(1).await;
    let client = gateway.client();
    let conversation = client.conversation().await;
    proxy.hold_one_after(&[&conversation, "COMMIT"]);
    let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "go"}));
    let problem = client.send(request).await.expect(503);
    assert_eq!((&problem["code"], &problem["outcome"]), (&json!("store_unavailable"), &Value::Null));
    assert_eq!(problem["turn_id"], Value::Null);
    // Nobody takes over what was undone before it was said.
    gateway.kill();
    assert!(database.texts("select id from turns").await.is_empty(), "{problem}");
}

#[tokio::test]
async fn what_another_replica_took_meanwhile_is_not_said_to_be_undone() {
    let (database, _upstream, proxy, gateway) = behind_a_proxy(2).await;
    let client = gateway.client();
    let conversation = client.conversation().await;
    proxy.hold_one_after(&[&conversation, "COMMIT"]);
    let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "go"}));
    let asked = Task::start({
        let client = client.clone();
        async move { client.send(request).await }
    });
    let committed = async || database.texts("select id from turns").await.pop();
    let turn = eventually("it to be committed", committed).await;
    database.run("update turns set epoch = 2, replica_id = 'another'").await;
    let problem = asked.join().await.expect(503);
    assert_eq!((&problem["code"], &problem["outcome"]), (&json!("store_unavailable"), &json!("unknown")));
    assert_eq!(problem["turn_id"], json!(turn), "it can be looked for");
    // That one is not alive, so it is ended here in time.
    assert_eq!(client.ended(&turn).await["status"], "interrupted");
}

#[tokio::test]
async fn who_finds_no_database_to_ask_is_sure_that_nothing_was_started() {
    let (_database, _upstream, proxy, gateway) = behind_a_proxy(1).await;
    let client = gateway.client();
    proxy.cut();
    let problem = client.post("/v1/chat/stream", &json!({"message": "go"})).await.expect(503);
    assert_eq!((&problem["code"], &problem["outcome"]), (&json!("store_unavailable"), &Value::Null));
}

#[tokio::test]
async fn a_refusal_names_the_turn_that_was_started_all_the_same() {
    let (_database, upstream, proxy, gateway) = behind_a_proxy(1).await;
    let client = gateway.client();
    let asks: [(&str, Value, &str); 2] = [
        // A statement's words are sent when a connection has it for the first time.
        ("/v1/chat/stream", json!({"message": "go"}), "t.id = $1 and t.application_id = $2"),
        ("/v1/conversations", json!({"first_message": "go"}), "from conversations c where c.id = $1"),
    ];
    for (target, body, read_after_it) in asks {
        proxy.hold_replies_after(&[read_after_it]);
        let request = Request::post(target, &body).header("accept", "application/json");
        let problem = client.send(request).await.expect(503);
        proxy.release();
        assert_eq!(problem["code"], "store_unavailable", "{problem}");
        let turn = problem["turn_id"].as_str().unwrap_or_else(|| panic!("{target}: {problem}"));
        assert!(problem["conversation_id"].is_string(), "{problem}");
        assert_eq!(client.ended(turn).await["status"], "completed");
    }
    assert_eq!(upstream.calls().len(), 2, "each asked the model once");
}

/// A gateway that waits so many seconds for its database, with a proxy between them.
async fn behind_a_proxy(database_s: i64) -> (Database, Upstream, Proxy, Gateway) {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(database.server()).await;
    let setup = Gateway::at(&database.through(&proxy)).upstream(&upstream);
    let gateway = setup.set("limits.database_s", database_s).start().await;
    (database, upstream, proxy, gateway)
}
