//! Gateways that share a Redis: what runs on one is read on the others as it comes, and without Redis a little later.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Encoding, Fold, Frame, Gate, Pair, Record, Request, Script, Stream, Task, assert_stamps, eventually, within,
};

/// Only to catch hangs.
const SOON: Duration = Duration::from_secs(30);

pub fn gated(gate: &Gate) -> Script {
    Script::new().stamped(2).gate(gate).stamped(2).gate(gate).stamped(2).finish("stop").usage(1, 6).done()
}

pub async fn deltas(stream: &mut Stream, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.iter().filter(|frame: &&Frame| frame.kind() == "delta").count() < count {
        frames.push(within("a delta", stream.event()).await);
    }
    frames
}

fn bytes(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &frame.bytes[..]).collect()
}

/// A turn of the one that waits at its gate twice, and a reader of it at each.
pub struct Shown {
    pub conversation: String,
    pub turn: String,
    pub gate: Gate,
    pub mine: Stream,
    pub theirs: Stream,
}

impl Shown {
    pub async fn by(pair: &Pair) -> Self {
        let gate = Gate::new();
        pair.upstream.push(gated(&gate));
        let conversation = pair.a.conversation().await;
        let mine = pair.a.ask(&conversation, "go").await;
        let turn = mine.turn();
        let theirs = pair.b.events(Encoding::Ndjson, &turn, 0).await;
        Self { conversation, turn, gate, mine, theirs }
    }
}

#[tokio::test]
async fn what_one_shows_the_other_shows_before_it_is_saved() {
    let pair = Pair::new().await;
    let Shown { conversation, gate, mut mine, mut theirs, .. } = Shown::by(&pair).await;
    let (mut here, mut there) = (deltas(&mut mine, 2).await, deltas(&mut theirs, 2).await);
    // From here on nothing can be saved.
    let block = pair.outage.database.block_tables("journal").await;
    gate.pass(1);
    here.extend(deltas(&mut mine, 2).await);
    there.extend(deltas(&mut theirs, 2).await);
    drop(block);
    gate.open();
    here.extend(mine.rest().await);
    there.extend(theirs.rest().await);
    assert_eq!(bytes(&here), bytes(&there));
    assert_eq!(assert_stamps(Fold::of(&there).content()), 6);
    Fold::of(&there).assert_same_as(&pair.b.answer(&conversation).await);
}

#[tokio::test]
async fn many_who_come_at_any_time_to_either_see_the_same_events_once() {
    let pair = Pair::new().await;
    pair.upstream.push(Script::new().role().paced(400, Duration::from_millis(4)).finish("stop").usage(1, 400).done());
    let conversation = pair.a.conversation().await;
    let mine = pair.a.ask(&conversation, "go").await;
    let turn = mine.turn();
    let mut readers = Vec::new();
    for at in 0..40u64 {
        let (client, turn) = ([&pair.a, &pair.b][at as usize % 2].clone(), turn.clone());
        readers.push(Task::start(async move {
            tokio::time::sleep(Duration::from_millis(at * 40)).await;
            let encoding = if at % 4 < 2 { Encoding::Ndjson } else { Encoding::Sse };
            (at, client.events(encoding, &turn, at * 7).await.rest().await)
        }));
    }
    let mut mine = mine;
    let whole = mine.rest().await;
    for reader in readers {
        let (at, frames) = reader.join().await;
        let seqs: Vec<u64> = frames.iter().map(|frame| frame.json["seq"].as_u64().unwrap()).collect();
        let owed: Vec<u64> = (at * 7 + 1..=whole.len() as u64).collect();
        assert_eq!(seqs, owed, "a reader after {}", at * 7);
        assert!(frames.iter().zip(&whole[(at * 7) as usize..]).all(|(one, other)| one.json == other.json));
    }
    Record::read(&pair.b, &turn).await;
}

#[tokio::test]
async fn without_redis_the_other_reads_the_record_and_with_it_again_what_is_said() {
    let mut pair = Pair::new().await;
    let Shown { conversation, gate, mut mine, mut theirs, .. } = Shown::by(&pair).await;
    let mut seen = deltas(&mut theirs, 2).await;
    pair.redis.kill();
    let state = async |wanted: &str| {
        let (client, wanted) = (pair.b.clone(), wanted.to_owned());
        eventually("readiness to say how Redis stands", async || {
            let ready = client.get("/readyz").await;
            (ready.expect(200)["status"] == wanted).then_some(ready.json())
        })
        .await
    };
    assert_eq!(state("degraded").await["components"]["cluster"]["status"], "unavailable");
    let metrics = pair.b.get("/metrics").await.bytes;
    assert!(String::from_utf8_lossy(&metrics).contains("\ntidegate_cluster_up 0\n"), "and to Prometheus");
    gate.pass(1);
    seen.extend(deltas(&mut theirs, 2).await);
    // It is back, and knows nothing.
    pair.redis.restart();
    let ready = pair.b.clone();
    eventually("Redis to be back", async || {
        (ready.get("/readyz").await.expect(200)["status"] == "ready").then_some(())
    })
    .await;
    gate.open();
    let all = mine.rest().await;
    seen.extend(theirs.rest().await);
    assert_eq!(bytes(&all), bytes(&seen));
    // The next turn is read through it, from its first event.
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let mut mine = pair.a.ask(&conversation, "go on").await;
    let mut theirs = pair.b.events(Encoding::Ndjson, &mine.turn(), 0).await;
    deltas(&mut theirs, 2).await;
    let block = pair.outage.database.block_tables("journal").await;
    gate.pass(1);
    deltas(&mut theirs, 2).await;
    drop(block);
    gate.open();
    mine.rest().await;
    assert_eq!(theirs.rest().await.last().unwrap().json["status"], "completed");
}

#[tokio::test]
async fn a_redis_that_answers_nothing_keeps_nobody_waiting() {
    let pair = Pair::new().await;
    pair.redis.freeze();
    let asked = Instant::now();
    let whole = pair.a.ask_whole(&pair.a.conversation().await, "go").await;
    assert_eq!(whole.expect(200)["status"], "completed");
    let conversation = pair.a.conversation().await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let mut mine = pair.a.ask(&conversation, "go").await;
    let mut theirs = pair.b.events(Encoding::Sse, &mine.turn(), 0).await;
    gate.open();
    let (here, there) = tokio::join!(mine.rest(), theirs.rest());
    assert_eq!(here.len(), there.len());
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert_eq!(pair.b.get("/readyz").await.expect(200)["status"], "degraded");
    let metrics = pair.b.get("/metrics").await.bytes;
    assert!(String::from_utf8_lossy(&metrics).contains("\ntidegate_cluster_up 0\n"), "and Prometheus hears of it");
    pair.redis.thaw();
}

#[tokio::test]
async fn a_redis_without_memory_costs_nothing_but_time() {
    let pair = Pair::new().await;
    pair.redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let Shown { gate, mut mine, mut theirs, .. } = Shown::by(&pair).await;
    gate.open();
    assert_eq!(bytes(&mine.rest().await), bytes(&theirs.rest().await));
    assert_eq!(pair.b.get("/readyz").await.expect(200)["components"]["cluster"]["status"], "unavailable");
}

#[tokio::test]
async fn an_end_that_cannot_be_saved_is_told_on_the_other_as_well() {
    let mut pair = Pair::with(|setup| setup.set("limits.unsaved_s", 2)).await;
    let Shown { turn, gate, mut mine, mut theirs, .. } = Shown::by(&pair).await;
    let mut there = deltas(&mut theirs, 2).await;
    // What comes now comes through Redis.
    let block = pair.outage.database.block_tables("journal").await;
    gate.pass(1);
    there.extend(deltas(&mut theirs, 2).await);
    pair.outage.begin().await;
    drop(block);
    gate.open();
    let (here, rest) = tokio::join!(mine.rest(), theirs.rest());
    there.extend(rest);
    for last in [here.last().unwrap(), there.last().unwrap()] {
        let told = (last.kind(), &last.json["saved"], last.json.get("seq"));
        assert_eq!(told, ("turn.finished", &json!(false), None), "{}", last.json);
    }
    pair.outage.end();
    let saved = pair.b.ended(&turn).await;
    there.pop();
    let mut fold = Fold::of(&there);
    fold.all(&pair.b.events(Encoding::Ndjson, &turn, fold.seq).await.rest().await);
    fold.assert_same_as(&saved["message"]);
}

#[tokio::test]
async fn a_replica_that_wakes_shows_nothing_of_what_came_while_it_slept() {
    let pair = Pair::new().await;
    pair.upstream.when("first", Script::new().role().paced(3000, Duration::from_millis(5)).hang());
    let conversation = pair.a.conversation().await;
    let mut first = pair.a.ask(&conversation, "first").await;
    let turn = first.turn();
    let mut theirs = pair.b.events(Encoding::Ndjson, &turn, 0).await;
    let mut seen = first.events(30).await;
    pair.one.freeze();
    assert_eq!(pair.b.ended(&turn).await["status"], "interrupted");
    let record = Record::read(&pair.b, &turn).await;
    let there = theirs.rest().await;
    let passed = pair.redis.cli(&["XLEN", &format!("tidegate:turn:{turn}")]);
    // What it had logged before it fell asleep.
    let logged = seen.len() + first.come().len();
    pair.one.thaw();
    let after = first.rest().await;
    let last = after.last().unwrap();
    assert_eq!((last.kind(), &last.json["code"]), ("closed", &json!("lost_lease")), "{}", last.json);
    seen.extend(after);
    assert!(seen.len() < logged + 40, "it went on: {} events, {logged} before it slept", seen.len());
    assert_eq!(pair.redis.cli(&["XLEN", &format!("tidegate:turn:{turn}")]), passed, "others read nothing of it");
    // Who read it elsewhere has been told the rest, and the end.
    assert_eq!(there.last().unwrap().json["status"], "interrupted");
    Fold::of(&there).assert_same_as(&record.message);
}

#[tokio::test]
async fn readers_of_a_replica_that_is_told_to_stop_go_on_elsewhere_one_after_the_other() {
    let mut pair = Pair::new().await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let conversation = pair.a.conversation().await;
    let mut mine = pair.a.ask(&conversation, "go").await;
    let turn = mine.turn();
    let mut frames = deltas(&mut mine, 2).await;
    let mut readers = Vec::new();
    for _ in 0..40 {
        let mut reader = pair.a.events(Encoding::Sse, &turn, 0).await;
        deltas(&mut reader, 2).await;
        readers.push(Task::start(async move {
            let rest = reader.rest().await;
            (rest, Instant::now())
        }));
    }
    pair.one.terminate();
    let mut times = Vec::new();
    for reader in readers {
        let (rest, at) = reader.join().await;
        let last = rest.last().unwrap();
        assert_eq!((last.kind(), &last.json["code"]), ("closed", &json!("draining")), "{}", last.json);
        assert!(last.json["retry_after_ms"].is_u64());
        times.push(at);
    }
    times.sort();
    let spread = times[39] - times[0];
    assert!(spread > Duration::from_millis(900), "all went at once: within {spread:?}");
    frames.extend(mine.rest().await);
    assert_eq!(frames.pop().unwrap().json["code"], "draining");
    // The turn goes on where it is, and is read where they are.
    let mut theirs = pair.b.events(Encoding::Ndjson, &turn, frames.len() as u64).await;
    gate.pass(1);
    frames.extend(deltas(&mut theirs, 2).await);
    gate.open();
    frames.extend(theirs.rest().await);
    assert_eq!(frames.last().unwrap().json["status"], "completed");
    assert_eq!(assert_stamps(Fold::of(&frames).content()), 6);
    assert!(pair.one.exit().await.success(), "{}", pair.one.log());
    Fold::of(&frames).assert_same_as(&pair.b.answer(&conversation).await);
}

#[tokio::test]
async fn in_strict_the_other_shows_nothing_that_is_not_saved() {
    let pair = Pair::with(|setup| setup.set("stream.durability", "strict")).await;
    let Shown { gate, mut mine, mut theirs, .. } = Shown::by(&pair).await;
    let mut seen = deltas(&mut theirs, 2).await;
    let block = pair.outage.database.block_tables("journal").await;
    gate.pass(1);
    gate.reached_by(2).await;
    assert!(theirs.come().is_empty(), "it is not saved");
    drop(block);
    seen.extend(deltas(&mut theirs, 2).await);
    gate.open();
    seen.extend(theirs.rest().await);
    assert_eq!(bytes(&mine.rest().await), bytes(&seen));
}

#[tokio::test]
async fn whoever_waits_for_an_answer_elsewhere_has_it_when_it_is_there() {
    let pair = Pair::new().await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let conversation = pair.a.conversation().await;
    let turn = pair.a.ask(&conversation, "go").await.turn();
    let (b, target) = (pair.b.clone(), format!("/v1/turns/{turn}/events"));
    let waiting = Task::start(async move { b.get(&target).await });
    gate.reached().await;
    gate.open();
    assert_eq!(waiting.join().await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn a_turn_has_as_many_readers_as_it_may_where_it_does_not_run() {
    let pair = Pair::with(|setup| setup.set("limits.readers_per_turn", 3)).await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let conversation = pair.a.conversation().await;
    let turn = pair.a.ask(&conversation, "go").await.turn();
    let target = format!("/v1/turns/{turn}/events");
    let asked = || Request::get(&target).accept(Encoding::Ndjson);
    // All at once, so that none of them finds the others counted by chance.
    let (mut readers, crowded): (Vec<_>, Vec<_>) = futures::future::join_all((0..20).map(|_| pair.b.open(asked())))
        .await
        .into_iter()
        .partition(|stream| stream.status() == 200);
    assert_eq!((readers.len(), crowded.len()), (3, 17));
    for accept in ["application/x-ndjson", "application/json"] {
        let crowded = pair.b.send(Request::get(&target).header("accept", accept)).await;
        assert_eq!(crowded.expect(503)["code"], "too_many_readers");
    }
    // Whoever goes back to the record stays one of them.
    pair.redis.freeze();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pair.b.open(asked()).await.status(), 503);
    pair.redis.thaw();
    // Whoever waits for the end is one like any other.
    readers.pop().unwrap().leave();
    eventually("one to have left", async || (pair.b.readers().await == 2).then_some(())).await;
    let (b, waits) = (pair.b.clone(), target.clone());
    let waiting = Task::start(async move { b.get(&waits).await });
    eventually("somebody to wait", async || (pair.b.readers().await == 3).then_some(())).await;
    assert_eq!(pair.b.open(asked()).await.status(), 503);
    gate.open();
    assert_eq!(waiting.join().await.expect(200)["status"], "completed");
    for mut reader in readers {
        assert!(reader.rest().await.last().unwrap().is_end());
    }
}

#[tokio::test]
async fn a_feed_hears_of_what_is_done_through_the_other() {
    let pair = Pair::new().await;
    let conversation = pair.a.conversation().await;
    let target = format!("/v1/conversations/{conversation}/events?after=0");
    let mut feed = pair.b.open(Request::get(&target).accept(Encoding::Ndjson)).await;
    // By itself it looks every three seconds; of five times, one may fall on that.
    let mut soon = 0;
    for round in 0..5 {
        let asked = Instant::now();
        let answer = pair.a.ask_whole(&conversation, &format!("round {round}")).await.expect(200);
        while feed.event().await.kind() != "turn.finished" {}
        soon += usize::from(asked.elapsed() < Duration::from_millis(1500));
        assert_eq!(answer["status"], "completed");
    }
    assert!(soon >= 4, "it heard of {soon} in 5 before it looked");
    let gone = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/conversations/{conversation}")) };
    let gone = pair.a.send(gone).await;
    assert_eq!(gone.status, 204);
    let last = feed.rest().await.pop().unwrap();
    assert_eq!(last.kind(), "conversation.deleted");
}

#[tokio::test]
async fn after_redis_stood_still_in_mid_turn_nobody_asks_it_again_and_again() {
    let pair = Pair::new().await;
    pair.upstream.push(Script::new().role().paced(300, Duration::from_millis(20)).finish("stop").usage(1, 300).done());
    let conversation = pair.a.conversation().await;
    let mine = pair.a.ask(&conversation, "go").await;
    let mut theirs = pair.b.events(Encoding::Ndjson, &mine.turn(), 0).await;
    let mut seen = deltas(&mut theirs, 20).await;
    pair.redis.freeze();
    seen.extend(deltas(&mut theirs, 100).await);
    pair.redis.thaw();
    // What was said meanwhile is missing there.
    seen.extend(deltas(&mut theirs, 50).await);
    pair.redis.cli(&["CONFIG", "RESETSTAT"]);
    seen.extend(deltas(&mut theirs, 50).await);
    let stats = pair.redis.cli(&["INFO", "commandstats"]);
    let ranges =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls=")?.split(',').next()?.parse().ok());
    assert!(ranges.unwrap_or(0u64) < 10, "{stats}");
    seen.extend(theirs.rest().await);
    let mut mine = mine;
    assert_eq!(bytes(&mine.rest().await), bytes(&seen));
}

#[tokio::test]
async fn in_strict_an_end_that_cannot_be_saved_is_told_on_the_other_as_well() {
    let mut pair = Pair::with(|setup| setup.set("limits.unsaved_s", 2).set("stream.durability", "strict")).await;
    let Shown { turn, gate, mut mine, mut theirs, .. } = Shown::by(&pair).await;
    deltas(&mut theirs, 2).await;
    eventually("the other to follow it", async || {
        let asked = pair.redis.cli(&["INFO", "commandstats"]);
        asked.contains("cmdstat_xrange:").then_some(())
    })
    .await;
    // Its last look at the record is over by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    pair.outage.begin().await;
    gate.open();
    let (here, there) = tokio::join!(mine.rest(), theirs.rest());
    for last in [here.last().unwrap(), there.last().unwrap()] {
        let told = (last.kind(), &last.json["saved"], last.json.get("seq"));
        assert_eq!(told, ("turn.finished", &json!(false), None), "{}", last.json);
    }
    pair.outage.end();
    assert_eq!(pair.b.ended(&turn).await["status"], "completed");
}

/// Reads on at the other, to the end, as whoever has these frames.
async fn assert_goes_on(pair: &Pair, turn: &str, gate: &Gate, mut frames: Vec<Frame>) {
    let mut theirs = pair.b.events(Encoding::Ndjson, turn, frames.len() as u64).await;
    gate.pass(1);
    frames.extend(deltas(&mut theirs, 2).await);
    gate.open();
    frames.extend(theirs.rest().await);
    assert_eq!(frames.last().unwrap().json["status"], "completed", "{}", frames.last().unwrap().json);
}

#[tokio::test]
async fn who_is_sent_away_is_not_gone() {
    let pair = Pair::new().await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let conversation = pair.a.conversation().await;
    let body = json!({"content": "go", "on_disconnect": "cancel"});
    let mut mine = pair.a.ask_as(Encoding::Ndjson, &conversation, &body).await;
    let turn = mine.turn();
    let mut frames = deltas(&mut mine, 2).await;
    pair.one.terminate();
    frames.extend(mine.rest().await);
    let closed = frames.pop().unwrap();
    assert_eq!(closed.json["code"], "draining", "{}", closed.json);
    tokio::time::sleep(Duration::from_millis(closed.json["retry_after_ms"].as_u64().unwrap())).await;
    assert_goes_on(&pair, &turn, &gate, frames).await;
}

#[tokio::test]
async fn who_is_sent_away_by_a_replica_that_does_not_run_the_turn_is_not_gone() {
    let pair = Pair::new().await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let conversation = pair.b.conversation().await;
    let body = json!({"content": "go", "on_disconnect": "cancel"});
    let asked = pair.b.ask_as(Encoding::Ndjson, &conversation, &body).await;
    let turn = asked.turn();
    let mut mine = pair.a.events(Encoding::Ndjson, &turn, 0).await;
    let mut frames = deltas(&mut mine, 2).await;
    asked.leave();
    pair.one.terminate();
    frames.extend(mine.rest().await);
    let closed = frames.pop().unwrap();
    assert_eq!(closed.json["code"], "draining", "{}", closed.json);
    // For so long it counts where the turn runs, although nobody speaks for it any more.
    let wait = closed.json["retry_after_ms"].as_u64().unwrap();
    assert!((500..=1000).contains(&wait), "{}", closed.json);
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_goes_on(&pair, &turn, &gate, frames).await;
}

#[tokio::test]
async fn while_the_database_is_away_nobody_is_taken_to_have_left() {
    let mut pair = Pair::new().await;
    let gate = Gate::new();
    pair.upstream.push(gated(&gate));
    let conversation = pair.a.conversation().await;
    let body = json!({"content": "go", "on_disconnect": "cancel"});
    let mut mine = pair.a.ask_as(Encoding::Ndjson, &conversation, &body).await;
    let mut theirs = pair.b.events(Encoding::Ndjson, &mine.turn(), 0).await;
    deltas(&mut mine, 2).await;
    deltas(&mut theirs, 2).await;
    // Its owner knows of it.
    let touched = "select cast(count(*) as text) from turns where read_at is not null";
    eventually("the reader to be told of", async || (pair.outage.database.texts(touched).await == ["1"]).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    mine.leave();
    pair.outage.begin().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    pair.outage.end();
    gate.open();
    assert_eq!(theirs.rest().await.last().unwrap().json["status"], "completed");
}
