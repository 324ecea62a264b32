//! Two gateways on one database: each shows, stops, joins and follows what the other runs, and takes what it leaves.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stories::usage::price;
use crate::support::access::user;
use crate::support::{
    Database, Encoding, Fold, Frame, Gate, Gateway, Pair, Record, Request, Script, Setup, Stream, Task, Upstream,
    assert_stamps, eventually,
};

/// How far the other replica may be behind.
const BEHIND: Duration = Duration::from_secs(1);
/// `lease_s`, the second that a taker has, and what an unoptimised build takes for it.
const TAKEN: Duration = Duration::from_millis(1000 + 1000 + 500);

fn ask(conversation: &str, body: &Value) -> Request {
    Request::post(&format!("/v1/conversations/{conversation}/messages"), body).accept(Encoding::Ndjson)
}

fn body(content: &str, if_busy: &str) -> Value {
    json!({"content": content, "if_busy": if_busy})
}

async fn listen(mut stream: Stream) -> Vec<(Frame, Instant)> {
    let mut seen = Vec::new();
    while let Some(frame) = stream.try_event().await {
        seen.push((frame, Instant::now()));
    }
    seen
}

#[tokio::test]
async fn a_turn_of_one_is_read_on_the_other_at_most_a_second_behind() {
    let pair = Pair::without_redis().await;
    pair.upstream.push(Script::new().role().paced(150, Duration::from_millis(20)).finish("stop").usage(1, 150).done());
    let conversation = pair.a.conversation().await;
    let mine = pair.a.ask(&conversation, "go").await;
    let turn = mine.turn();
    let theirs = pair.b.events(Encoding::Sse, &turn, 0).await;
    let (mine, theirs) = tokio::join!(listen(mine), listen(theirs));
    assert_eq!(mine.len(), theirs.len());
    for ((here, early), (there, late)) in mine.iter().zip(&theirs) {
        assert_eq!(here.bytes, there.bytes);
        let behind = late.saturating_duration_since(*early);
        assert!(behind <= BEHIND, "{} came {behind:?} later", there.json);
    }
    Record::read(&pair.b, &turn).await;
}

#[tokio::test]
async fn a_turn_of_one_is_stopped_through_the_other_within_a_second() {
    let pair = Pair::without_redis().await;
    pair.upstream.push(Script::new().role().stamped(5).hang());
    let conversation = pair.a.conversation().await;
    let mut stream = pair.a.ask(&conversation, "go").await;
    while stream.event().await.kind() != "delta" {}
    let (call, turn, asked) = (pair.upstream.call(0).await, stream.turn(), Instant::now());
    let message = pair.b.stop(&turn).await.expect(200);
    assert_eq!((&message["status"], &message["stopped_by"]), (&json!("stopped"), &json!("request")));
    let cancelled = call.closed().await.saturating_duration_since(asked);
    assert!(cancelled <= BEHIND, "the upstream was let go after {cancelled:?}");
    assert!(stream.rest().await.last().unwrap().is_end());
    assert_eq!(Record::read(&pair.b, &turn).await.message, message);
    assert_eq!(pair.b.ask_whole(&conversation, "next").await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn a_turn_queued_on_one_follows_the_live_turn_of_the_other() {
    let pair = Pair::without_redis().await;
    let gate = Gate::new();
    pair.upstream.when("first", Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let conversation = pair.a.conversation().await;
    let first = pair.a.ask(&conversation, "first").await;
    gate.reached().await;
    assert_eq!(pair.b.open(ask(&conversation, &body("no", "reject"))).await.status(), 409);
    let second = pair.b.open(ask(&conversation, &body("second", "queue"))).await;
    assert_eq!(pair.b.turn(&second.turn()).await["status"], "queued");
    let turns = [first.turn(), second.turn()];
    let (first, second) = (Task::start(listen(first)), Task::start(listen(second)));
    assert_eq!(pair.upstream.calls().len(), 1);
    gate.open();
    let (first, second) = (first.join().await, second.join().await);
    assert!(first.last().unwrap().0.is_end() && second.last().unwrap().0.is_end());
    assert!(second[0].1 >= first.last().unwrap().1 - Duration::from_millis(50), "it began before its time");
    for turn in turns {
        assert_eq!(Record::read(&pair.a, &turn).await.status(), "completed");
    }
}

#[tokio::test]
async fn a_turn_of_one_is_interrupted_through_the_other() {
    let pair = Pair::without_redis().await;
    pair.upstream.when("first", Script::new().stamped(2).hang());
    let conversation = pair.a.conversation().await;
    let first = pair.a.ask(&conversation, "first").await;
    let call = pair.upstream.call(0).await;
    let mut second = pair.b.open(ask(&conversation, &body("second", "interrupt"))).await;
    assert_eq!(second.rest().await.last().unwrap().json["status"], "completed");
    call.closed().await;
    let record = Record::read(&pair.b, &first.turn()).await;
    assert_eq!((record.status(), &record.message["stopped_by"]), ("stopped", &json!("interrupt")));
    assert_eq!(pair.b.messages(&conversation).await.len(), 4);
}

#[tokio::test]
async fn a_reader_on_the_other_keeps_a_turn_that_is_to_end_with_its_last() {
    let pair = Pair::without_redis().await;
    pair.upstream.push(Script::new().role().paced(1000, Duration::from_millis(20)).hang());
    let conversation = pair.a.conversation().await;
    let request = ask(&conversation, &json!({"content": "go", "on_disconnect": "cancel"}));
    let reply = pair.a.send(request.header("prefer", "respond-async")).await;
    let turn = reply.expect(202)["id"].as_str().unwrap().to_owned();
    let mut reader = pair.b.events(Encoding::Ndjson, &turn, 0).await;
    // Longer than a reader elsewhere is remembered.
    while reader.event().await.seq() < Some(200) {}
    assert!(!pair.upstream.call(0).await.is_closed());
    reader.leave();
    pair.upstream.call(0).await.closed().await;
    let record = Record::read(&pair.b, &turn).await;
    assert_eq!((record.status(), &record.message["stopped_by"]), ("stopped", &json!("disconnect")));
    assert!(assert_stamps(record.message["content"].as_str().unwrap()) >= 198);
}

#[tokio::test]
async fn a_reader_who_has_just_come_to_the_other_keeps_the_turn_whose_last_reader_leaves() {
    let pair = Pair::without_redis().await;
    for is_feed in [false, true, false, true, false, true] {
        pair.upstream.push(Script::new().role().paced(1000, Duration::from_millis(20)).hang());
        let conversation = pair.a.conversation().await;
        let mut mine = pair.a.open(ask(&conversation, &json!({"content": "go", "on_disconnect": "cancel"}))).await;
        while mine.event().await.kind() != "delta" {}
        let feed = Request::get(&format!("/v1/conversations/{conversation}/events")).accept(Encoding::Ndjson);
        let mut theirs =
            if is_feed { pair.b.open(feed).await } else { pair.b.events(Encoding::Ndjson, &mine.turn(), 0).await };
        mine.leave();
        // Longer than it takes to hear of readers.
        while theirs.event().await.seq() < Some(60) {}
        let call = pair.upstream.call(pair.upstream.calls().len() - 1).await;
        assert!(!call.is_closed());
        theirs.leave();
        call.closed().await;
    }
}

#[tokio::test]
async fn whoever_only_looks_on_at_the_other_keeps_no_turn() {
    let (database, upstream, folder) = (Database::fresh().await, Upstream::start().await, TempDir::new().unwrap());
    let pepper = folder.path().join("pepper").to_str().unwrap().to_owned();
    let start = || {
        let setup = Gateway::on(&database).upstream(&upstream).set("cluster.lease_s", 1).closed();
        setup.set("auth.pepper_file", &*pepper).start()
    };
    let (one, other) = (start().await, start().await);
    upstream.push(Script::new().role().paced(1000, Duration::from_millis(20)).hang());
    let (anna, read) = (one.client().bearing(&user("anna")), other.client().bearing(&one.key("shop", "read").text));
    let conversation = anna.conversation().await;
    let mut reader = anna.open(ask(&conversation, &json!({"content": "go", "on_disconnect": "cancel"}))).await;
    let turn = reader.turn();
    let mut onlooker = read.events(Encoding::Ndjson, &turn, 0).await;
    onlooker.events(20).await;
    reader.events(20).await;
    reader.leave();
    let end = onlooker.rest().await.pop().unwrap();
    assert_eq!((&end.json["status"], &end.json["stopped_by"]), (&json!("stopped"), &json!("disconnect")));
}

#[tokio::test]
async fn a_key_used_on_one_joins_the_same_turn_on_the_other() {
    let pair = Pair::without_redis().await;
    let gate = Gate::new();
    pair.upstream.always(Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let conversation = pair.a.conversation().await;
    let request = ask(&conversation, &json!({"content": "go"})).header("idempotency-key", "once");
    let mut first = pair.a.open(request.clone()).await;
    gate.reached().await;
    let mut second = pair.b.open(request.clone()).await;
    assert_eq!(first.turn(), second.turn());
    gate.open();
    let (first, second) = tokio::join!(first.rest(), second.rest());
    let bytes = |frames: &[Frame]| frames.iter().map(|frame| frame.bytes.clone()).collect::<Vec<_>>();
    assert_eq!(bytes(&first), bytes(&second));
    assert_eq!(bytes(&pair.b.open(request).await.rest().await), bytes(&first));
    assert_eq!(pair.upstream.calls().len(), 1);
}

#[tokio::test]
async fn what_two_admit_together_is_what_one_may() {
    let (database, upstream, gate) = (Database::fresh().await, Upstream::start().await, Gate::new());
    upstream.always(Script::new().role().gate(&gate).delta("Hello").finish("stop").usage(5, 3).done());
    let applications = toml::toml! {
        [[applications]]
        name = "default"
        [applications.limits]
        concurrent_turns = 25
        budget_month_nano_usd = 2_000_000_000
    };
    let start = || {
        let setup =
            Gateway::on(&database).upstream(&upstream).set("applications", applications["applications"].clone());
        let setup = setup.set("cluster.lease_s", 1);
        setup.set("prices", vec![price("test-*", "2026-01-01", 1_000_000_000)]).start()
    };
    let (mut one, other) = (start().await, start().await);
    let (a, b) = (one.client(), other.client());
    for round in 0..2 {
        let ask = |caller: usize| {
            let body = json!({"message": "hi", "session_id": format!("{round}-{caller}")});
            let client = if caller.is_multiple_of(2) { &a } else { &b };
            client.send(Request::post("/v1/chat/stream", &body).header("prefer", "respond-async"))
        };
        let replies = futures::future::join_all((0..200).map(ask)).await;
        let turns: Vec<Value> = replies.iter().filter(|reply| reply.status == 202).map(|reply| reply.json()).collect();
        if round == 0 {
            assert_eq!(turns.len(), 25);
            assert!(replies.iter().all(|reply| matches!(reply.status, 202 | 429)));
        }
        gate.open();
        for turn in turns {
            assert_eq!(a.ended(turn["id"].as_str().unwrap()).await["status"], "completed");
        }
    }
    // What one held when it died, the other settles.
    upstream.always(Script::new().role().stamped(5).hang());
    let conversation = a.conversation().await;
    let mut stream = a.ask(&conversation, "hi").await;
    while stream.event().await.kind() != "delta" {}
    one.kill();
    assert_eq!(b.ended(&stream.turn()).await["status"], "interrupted");
    let used = "select cast(sum(used) as text) from quota_counters where measure = 'turns'";
    assert_eq!(database.texts(used).await, ["0"]);
    let spent = "select cast(sum(cost_nano_usd) as text) from usage_records";
    let used = "select cast(sum(used) as text) from quota_counters where measure = 'month'";
    assert_eq!(database.texts(used).await, database.texts(spent).await);
}

#[tokio::test]
async fn what_a_dead_replica_leaves_is_taken_within_its_lease_and_a_second() {
    let mut pair = Pair::without_redis().await;
    pair.upstream.when("first", Script::new().role().paced(500, Duration::from_millis(10)).hang());
    let conversation = pair.a.conversation().await;
    let mut first = pair.a.ask(&conversation, "first").await;
    let second = pair.a.open(ask(&conversation, &body("second", "queue"))).await;
    let (turn, queued) = (first.turn(), second.turn());
    let watcher = Task::start(listen(pair.b.events(Encoding::Sse, &turn, 0).await));
    let mut seen = first.events(30).await;
    let killed = Instant::now();
    pair.one.kill();
    seen.extend(first.leavings().await);
    let watched = watcher.join().await;
    let (end, told) = watched.last().unwrap();
    assert!(end.is_end());
    let taken = told.saturating_duration_since(killed);
    assert!(taken <= TAKEN, "taken over after {taken:?}");
    let record = Record::read(&pair.b, &turn).await;
    assert_eq!(record.status(), "interrupted");
    for frames in [seen, watched.into_iter().map(|(frame, _)| frame).collect()] {
        let mut fold = Fold::of(&frames);
        if !fold.ended {
            fold.all(&record.resume(&pair.b, Encoding::Ndjson, fold.seq).await);
        }
        fold.assert_same_as(&record.message);
    }
    assert_eq!(pair.b.ended(&queued).await["status"], "completed");
    Record::read(&pair.b, &queued).await;
    let asked: Vec<_> = pair.upstream.calls().iter().map(|call| call.question()).collect();
    assert_eq!(asked, ["first", "second"]);
}

#[tokio::test]
async fn what_was_queued_at_a_dead_replica_and_is_not_wanted_any_more_asks_no_model() {
    for wanted in ["interrupt", "delete"] {
        let mut pair = Pair::without_redis().await;
        pair.upstream.when("first", Script::new().role().stamped(2).hang());
        let conversation = pair.a.conversation().await;
        let _first = pair.a.ask(&conversation, "first").await;
        let _second = pair.a.open(ask(&conversation, &body("second", "queue"))).await;
        pair.upstream.call(0).await;
        pair.one.kill();
        // Before it is known that the other has died.
        if wanted == "interrupt" {
            let mut third = pair.b.open(ask(&conversation, &body("third", "interrupt"))).await;
            assert_eq!(third.rest().await.last().unwrap().json["status"], "completed");
            let answers = pair.b.messages(&conversation).await;
            let ends: Vec<_> = answers.iter().filter(|message| message["role"] == "assistant").collect();
            assert_eq!((&ends[1]["status"], &ends[1]["stopped_by"]), (&json!("stopped"), &json!("interrupt")));
        } else {
            let path = format!("/v1/conversations/{conversation}");
            let deleted = pair.b.send(Request { method: "DELETE".to_owned(), ..Request::get(&path) }).await;
            assert_eq!(deleted.status, 204);
        }
        let asked: Vec<_> = pair.upstream.calls().iter().map(|call| call.question()).collect();
        assert!(!asked.contains(&"second".to_owned()), "{wanted}: {asked:?}");
    }
}

#[tokio::test]
async fn whoever_has_long_to_do_with_what_a_dead_replica_left_keeps_its_own_turns() {
    let mut pair = Pair::without_redis().await;
    let third = Setup::new(&pair.outage.url()).upstream(&pair.upstream).set("cluster.lease_s", 1).start().await;
    let gate = Gate::new();
    pair.upstream.when("dies", Script::new().role().stamped(2).hang());
    pair.upstream.when("lives", Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let mut dies = pair.a.ask(&pair.a.conversation().await, "dies").await;
    let turn = dies.turn();
    dies.events(4).await;
    let mut living = Vec::new();
    for client in [pair.b.clone(), third.client()] {
        let mut stream = client.ask(&client.conversation().await, "lives").await;
        stream.events(4).await;
        living.push(stream);
    }
    let unsaved = "select cast(count(*) as text) from turns t where coalesce((select max(j.last_seq) from journal j \
                   where j.turn_id = t.id), 0) < 4";
    eventually("all of it to be saved", async || (pair.outage.database.texts(unsaved).await == ["0"]).then_some(()))
        .await;
    // Nobody can end a turn, and those that live have nothing to save, which would renew a lease as well.
    let block = pair.outage.database.block_tables("messages").await;
    pair.one.kill();
    let taken = "select cast(count(*) as text) from turns where epoch > 1";
    eventually("its turn to be taken", async || (pair.outage.database.texts(taken).await == ["1"]).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    drop(block);
    assert_eq!(pair.b.ended(&turn).await["status"], "interrupted");
    gate.open();
    for stream in &mut living {
        assert_eq!(stream.rest().await.last().unwrap().json["status"], "completed");
    }
    assert_eq!(pair.outage.database.texts(taken).await, ["1"]);
}

#[tokio::test]
async fn a_long_erasure_makes_nobody_seem_dead() {
    let pair = Pair::without_redis().await;
    let replicas = "select cast(count(*) as text) from replicas where fenced_at is null";
    assert_eq!(pair.outage.database.texts(replicas).await, ["2"]);
    // As whoever erases holds it (`ERASING`).
    let erasing = pair.outage.database.hold("select pg_advisory_xact_lock(1953064037)").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(pair.outage.database.texts(replicas).await, ["2"]);
    drop(erasing);
    let answer = pair.a.ask_whole(&pair.a.conversation().await, "go").await.expect(200);
    assert_eq!(answer["status"], "completed");
    assert_eq!(
        pair.outage.database.texts("select cast(count(*) as text) from replicas").await,
        ["2"],
        "by the same names"
    );
}

#[tokio::test]
async fn a_database_that_answers_and_takes_nothing_down_makes_nobody_seem_dead() {
    let pair = Pair::without_redis().await;
    let replicas = "select string_agg(id || coalesce(fenced_at::text, ''), ' ' order by id) from replicas";
    let before = pair.outage.database.texts(replicas).await;
    let block = pair.outage.database.hold("lock table replicas in share mode").await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    drop(block);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(pair.outage.database.texts(replicas).await, before);
    let answer = pair.a.ask_whole(&pair.a.conversation().await, "go").await.expect(200);
    assert_eq!(answer["status"], "completed");
}

#[tokio::test]
async fn a_replica_that_slept_through_its_lease_writes_nothing_more_and_says_so() {
    let pair = Pair::without_redis().await;
    pair.upstream.when("first", Script::new().role().paced(2000, Duration::from_millis(10)).hang());
    let conversation = pair.a.conversation().await;
    let mut first = pair.a.ask(&conversation, "first").await;
    let turn = first.turn();
    let mut seen = first.events(30).await;
    let call = pair.upstream.call(0).await;
    pair.one.freeze();
    assert_eq!(pair.b.ended(&turn).await["status"], "interrupted");
    let record = Record::read(&pair.b, &turn).await;
    let rows = "select cast(count(*) as text) || ' ' || max(last_seq) from journal";
    let written = pair.outage.database.texts(rows).await;
    pair.one.thaw();
    seen.extend(first.rest().await);
    let closed = seen.pop().unwrap();
    assert_eq!((closed.kind(), &closed.json["code"]), ("closed", &json!("lost_lease")), "{}", closed.json);
    call.closed().await;
    // It goes on under another name, and serves.
    let next = pair.a.ask_whole(&conversation, "next").await.expect(200);
    assert_eq!(next["status"], "completed");
    let others = format!("{rows} where turn_id = '{turn}'");
    assert_eq!(pair.outage.database.texts(&others).await, written);
    assert_eq!(Record::read(&pair.a, &turn).await.message, record.message);
    assert_ne!(next["turn_id"], turn);
    let mut fold = Fold::of(&seen);
    fold.all(&record.resume(&pair.a, Encoding::Sse, fold.seq).await);
    fold.assert_same_as(&record.message);
    let open = "select cast(count(*) as text) from turns where finished_at is null";
    assert_eq!(pair.outage.database.texts(open).await, ["0"]);
}

#[tokio::test]
async fn a_replica_that_freezes_in_the_middle_of_a_transaction_keeps_nobody_waiting() {
    let pair = Pair::without_redis().await;
    pair.upstream.when("first", Script::new().role().paced(2000, Duration::from_millis(10)).hang());
    let conversation = pair.a.conversation().await;
    let mut first = pair.a.ask(&conversation, "first").await;
    let turn = first.turn();
    first.events(5).await;
    // Its journal has taken the replica's own row, and waits for this one.
    let block = pair.outage.database.block_tables("journal").await;
    let waiting = "select cast(count(*) as text) from pg_locks l join pg_database d on d.oid = l.database \
                   where d.datname = current_database() and not l.granted";
    eventually("the journal to wait", async || (pair.outage.database.texts(waiting).await != ["0"]).then_some(()))
        .await;
    pair.one.freeze();
    drop(block);
    assert_eq!(pair.b.ended(&turn).await["status"], "interrupted");
    let record = Record::read(&pair.b, &turn).await;
    pair.one.thaw();
    assert_eq!(pair.a.ask_whole(&conversation, "next").await.expect(200)["status"], "completed");
    assert_eq!(Record::read(&pair.a, &turn).await.message, record.message);
}
