//! A replica is restarted under many live streams: nobody is left behind, and nobody asks more than twice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Client, Database, Encoding, Fold, Frame, Gateway, Pair, Redis, Request, Script, Stream, Task, Upstream,
    assert_stamps, eventually,
};

const STREAMS: usize = 500;
/// So many are opened at once.
const AT_ONCE: usize = 25;
const DELTAS: usize = 24;

/// Reads a turn to its end: here, and when it is sent away, through the other. Gives all of it, and when it was sent away.
async fn read(mut stream: Stream, other: Client) -> (Vec<Frame>, Option<Instant>) {
    let turn = stream.turn();
    let mut frames = stream.rest().await;
    if frames.last().is_some_and(|last| last.kind() == "turn.finished") {
        return (frames, None);
    }
    let (closed, away) = (frames.pop().unwrap(), Instant::now());
    assert_eq!((closed.kind(), &closed.json["code"]), ("closed", &json!("draining")), "{}", closed.json);
    tokio::time::sleep(Duration::from_millis(closed.json["retry_after_ms"].as_u64().unwrap())).await;
    let after = frames.last().unwrap().json["seq"].as_u64().unwrap();
    frames.extend(other.events(Encoding::Sse, &turn, after).await.rest().await);
    (frames, Some(away))
}

#[tokio::test]
async fn a_replica_is_restarted_under_five_hundred_streams() {
    let (database, upstream, redis) = (Database::fresh().await, Upstream::start().await, Redis::start());
    upstream.always(Script::new().role().paced(DELTAS, Duration::from_millis(500)).finish("stop").usage(1, 12).done());
    upstream.when("quick", Script::answer(&["Here."]));
    let setup = || Gateway::on(&database).upstream(&upstream).set("cluster.redis_url", redis.url());
    let (mut one, other) = (setup().start().await, setup().start().await);
    let (a, b) = (one.client(), other.client());
    let mut readers = Vec::new();
    while readers.len() < STREAMS {
        let opening = (0..AT_ONCE).map(|_| {
            let a = a.clone();
            Task::start(async move {
                let request = Request::post("/v1/chat/stream", &json!({"message": "go"})).accept(Encoding::Sse);
                a.open(request).await
            })
        });
        let opening: Vec<Task<Stream>> = opening.collect();
        for stream in opening {
            let (stream, other) = (stream.join().await, b.clone());
            readers.push(Task::start(read(stream, other)));
        }
    }
    one.terminate();
    // Meanwhile others ask whichever they meet, the one that goes away first, and the other when they are refused.
    let asking = Task::start({
        let (a, b) = (a.clone(), b.clone());
        async move {
            let mut refused = 0;
            for round in 0..40 {
                let key = format!("quick-{round}");
                let request = Request::post("/v1/chat/stream", &json!({"message": "quick"}))
                    .header("idempotency-key", &key)
                    .header("accept", "application/json");
                let first = a.try_send(request.clone()).await;
                let answer = match first {
                    Ok(reply) if reply.status == 200 => reply,
                    Ok(_) | Err(_) => {
                        refused += 1;
                        b.send(request).await
                    }
                };
                assert_eq!(answer.expect(200)["content"], "Here.", "round {round}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            refused
        }
    });
    assert!(one.exit().await.success(), "{}", one.log());
    assert!(asking.join().await > 0, "it took new turns while it drained");
    one.restart().await;
    let mut times = Vec::new();
    let mut turns = Vec::new();
    for reader in readers {
        let (frames, away) = reader.join().await;
        times.extend(away);
        assert_eq!(frames.last().unwrap().json["status"], "completed", "it had time to end");
        let fold = Fold::of(&frames);
        assert_eq!(assert_stamps(fold.content()), DELTAS);
        turns.push((frames[0].json["turn_id"].as_str().unwrap().to_owned(), fold));
    }
    times.sort();
    assert!(times.len() > STREAMS / 2, "{} were sent away", times.len());
    let (first, last) = (times[0], times[times.len() - 1]);
    // By lot over three seconds: never a tenth of them at once.
    let busiest = (0..30).map(|at| {
        let from = first + (last - first) * at / 30;
        times.iter().filter(|time| **time >= from && **time < from + Duration::from_millis(100)).count()
    });
    assert!(busiest.max().unwrap() < STREAMS / 4 && last - first > Duration::from_secs(1), "{:?}", last - first);
    // It is back, and tells of them what the other does.
    let back = one.client();
    for (turn, fold) in turns.iter().step_by(50) {
        for client in [&back, &b] {
            fold.assert_same_as(&client.turn(turn).await["message"]);
        }
    }
    let open = "select cast(count(*) as text) from turns where finished_at is null";
    eventually("no turn to be left", async || (database.texts(open).await == ["0"]).then_some(())).await;
}

#[tokio::test]
async fn idle_feeds_leave_a_replica_that_is_told_to_stop_within_three_seconds() {
    let mut pair = Pair::new().await;
    let mut feeds = Vec::new();
    for _ in 0..20 {
        let conversation = pair.a.conversation().await;
        let target = format!("/v1/conversations/{conversation}/events");
        feeds.push(pair.a.open(Request::get(&target).accept(Encoding::Ndjson)).await);
    }
    // They look again every three seconds, each at a moment of its own.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let begun = Instant::now();
    pair.one.terminate();
    let gone = futures::future::join_all(feeds.iter_mut().map(async |feed| {
        let closed = feed.rest().await.pop().unwrap();
        assert_eq!(closed.json["code"], "draining", "{}", closed.json);
        begun.elapsed()
    }))
    .await;
    let (first, last) = (gone.iter().min().unwrap(), gone.iter().max().unwrap());
    assert!(*last < Duration::from_secs(4), "the last after {last:?}");
    assert!(*last - *first > Duration::from_millis(500), "all at once, after {first:?}");
    assert!(pair.one.exit().await.success());
}
