//! A conversation's feed: every turn, whoever started it, one after the other.

use serde_json::{Value, json};

use crate::support::{Client, Closing, Encoding, Fold, Frame, Gate, Request, Scene, Script, Stream, Told, eventually};

const MAX: u64 = (1 << 53) - 1;

async fn open(client: &Client, encoding: Encoding, conversation: &str, after: &str) -> Stream {
    let query = if after.is_empty() { String::new() } else { format!("?after={after}") };
    let target = format!("/v1/conversations/{conversation}/events{query}");
    let stream = client.open(Request::get(&target).accept(encoding)).await;
    assert_eq!(stream.status(), 200, "a feed is never refused for its cursor, and never a 204");
    stream
}

/// An event as the turn's own stream has it.
fn own(frame: &Frame) -> Value {
    let mut event = frame.json.clone();
    let fields = event.as_object_mut().unwrap();
    fields.remove("cursor");
    if frame.kind() != "turn.started" {
        fields.remove("turn_id");
    }
    event
}

/// The next event of a turn: a conversation that gets its title by the first one says so in between.
async fn numbered(stream: &mut Stream) -> Frame {
    loop {
        let frame = stream.event().await;
        if frame.kind() != "conversation.updated" {
            return frame;
        }
    }
}

/// Reads so many events as are due, which must be those of these turns, from the first of them after `cursor` on.
async fn assert_tells(stream: &mut Stream, turns: &[(u64, &Told)], cursor: (u64, u64)) {
    for (number, told) in turns.iter().filter(|(number, _)| *number >= cursor.0) {
        let skip = if *number == cursor.0 { usize::try_from(cursor.1).unwrap() } else { 0 };
        for due in &told.frames[skip..] {
            let frame = numbered(stream).await;
            assert_eq!(own(&frame), due.json, "after {cursor:?}");
            assert_eq!(frame.json["turn_id"], told.turn);
            assert_eq!(frame.json["cursor"], format!("{number}.{}", due.seq().unwrap()));
        }
    }
}

async fn ask(scene: &Scene, conversation: &str, content: &str) -> Told {
    let stream = scene.client.ask(conversation, content).await;
    Told::hear(&scene.client, conversation, stream).await
}

#[tokio::test]
async fn a_feed_tells_turn_after_turn_from_any_cursor_for_ever() {
    let mut scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let mut turns = Vec::new();
    let from_now: Vec<_> = {
        let mut feeds = Vec::new();
        for encoding in Encoding::ALL {
            feeds.push(open(&scene.client, encoding, &conversation, "").await);
        }
        feeds
    };
    for n in 0..3 {
        scene.upstream.push(Script::new().stamped(n + 1).finish("stop").usage(1, 1).done());
        turns.push(ask(&scene, &conversation, "go").await);
    }
    let numbered: Vec<(u64, &Told)> = (1..).zip(&turns).collect();
    for mut feed in from_now {
        assert_tells(&mut feed, &numbered, (0, 0)).await;
    }
    for life in ["the first", "after a stop", "after a kill"] {
        match life {
            "after a stop" => scene.gateway.terminate(),
            "after a kill" => scene.gateway.kill(),
            _ => {}
        }
        if life != "the first" {
            scene.gateway.exit().await;
            scene.gateway.restart().await;
        }
        for encoding in Encoding::ALL {
            for after in ["0", "0.0", "1.0"] {
                assert_tells(&mut open(&scene.client, encoding, &conversation, after).await, &numbered, (0, 0)).await;
            }
            for (number, told) in &numbered {
                for seq in 0..=told.last() {
                    let mut feed = open(&scene.client, encoding, &conversation, &format!("{number}.{seq}")).await;
                    assert_tells(&mut feed, &numbered, (*number, seq)).await;
                }
            }
        }
    }
    // By the header as well, and a cursor beyond all there is waits.
    let target = format!("/v1/conversations/{conversation}/events?after=1.1");
    let request = Request::get(&target).accept(Encoding::Sse).header("last-event-id", "3.2");
    assert_tells(&mut scene.client.open(request).await, &numbered, (3, 2)).await;
    let mut idle = open(&scene.client, Encoding::Sse, &conversation, "4.0").await;
    let mut last = open(&scene.client, Encoding::Ndjson, &conversation, &format!("3.{}", turns[2].last())).await;
    let fourth = ask(&scene, &conversation, "more").await;
    for feed in [&mut idle, &mut last] {
        assert_tells(feed, &[(4, &fourth)], (4, 0)).await;
    }
}

#[tokio::test]
async fn a_feed_follows_a_live_turn_and_what_is_queued_behind_it() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    let conversation = scene.client.conversation().await;
    let before = ask(&scene, &conversation, "before").await;
    scene.upstream.push(Script::new().stamped(3).gate(&gate).stamped(3).finish("stop").usage(1, 6).done());
    let live = scene.client.ask(&conversation, "live").await;
    gate.reached().await;
    let queue = json!({"content": "queued", "if_busy": "queue"});
    let stopped = scene.client.ask_as(Encoding::Ndjson, &conversation, &queue).await;
    let queued = scene.client.ask_as(Encoding::Ndjson, &conversation, &queue).await;
    let mut feeds = Vec::new();
    for encoding in Encoding::ALL {
        for (after, cursor) in
            [("", (2, 0)), ("0", (0, 0)), ("1.4", (1, 4)), ("2.3", (2, 3)), ("3.0", (3, 0)), ("4.0", (4, 0))]
        {
            feeds.push((open(&scene.client, encoding, &conversation, after).await, cursor));
        }
    }
    // Stopped while it is queued, it logs before the live one ends; a feed keeps the order of the turns.
    scene.client.stop(&stopped.turn()).await.expect(200);
    let stopped = hear(stopped).await;
    for (feed, cursor) in feeds.iter_mut().filter(|(_, cursor)| cursor.0 == 2) {
        let there = 5 - cursor.1;
        let seen = feed.events(usize::try_from(there).unwrap()).await;
        assert!(seen.iter().all(|frame| frame.json["turn_id"] == live.turn()));
        *cursor = (2, 5);
    }
    gate.open();
    let (live, queued) = (hear(live).await, hear(queued).await);
    let turns = [(1, &before), (2, &live), (3, &stopped), (4, &queued)];
    for (mut feed, cursor) in feeds {
        assert_tells(&mut feed, &turns, cursor).await;
    }
}

/// A turn of which only the stream is looked at.
async fn hear(mut stream: Stream) -> Told {
    let frames = stream.rest().await;
    Told { conversation: String::new(), turn: stream.turn(), frames, message: Value::Null }
}

#[tokio::test]
async fn a_cursor_beyond_a_turns_end_gets_its_snapshot_and_end_and_then_the_later_turns() {
    let scene = Scene::with(|setup| setup.set("stream.retention_s", 1)).await;
    let conversation = scene.client.conversation().await;
    let (one, two) = (ask(&scene, &conversation, "one").await, ask(&scene, &conversation, "two").await);
    let kept = |number: u64, told: &Told, feed: &[Frame]| {
        let cursor = |seq: u64| json!(format!("{number}.{seq}"));
        assert_eq!((feed[0].kind(), &feed[0].json["cursor"]), ("snapshot", &cursor(told.last() - 1)));
        assert_eq!((feed[1].kind(), &feed[1].json["cursor"]), ("turn.finished", &cursor(told.last())));
        assert!(feed.iter().all(|frame| frame.json["turn_id"] == told.turn));
        let own: Vec<_> = feed.iter().map(own).collect();
        let mut fold = Fold::new();
        own.iter().for_each(|event| fold.apply(event));
        fold.assert_same_as(&told.message);
    };
    for encoding in Encoding::ALL {
        for seq in [one.last() + 1, MAX] {
            let mut feed = open(&scene.client, encoding, &conversation, &format!("1.{seq}")).await;
            kept(1, &one, &feed.events(2).await);
        }
    }
    eventually("the turns' events to be dropped", async || {
        let frame = open(&scene.client, Encoding::Ndjson, &conversation, "2.0").await.event().await;
        (frame.kind() == "snapshot").then_some(())
    })
    .await;
    for encoding in Encoding::ALL {
        for (after, first) in [("0", &one), ("1.3", &one), ("2.1", &two)] {
            let mut feed = open(&scene.client, encoding, &conversation, after).await;
            if first.turn == one.turn {
                kept(1, &one, &feed.events(2).await);
            }
            kept(2, &two, &feed.events(2).await);
        }
        let mut feed = open(&scene.client, encoding, &conversation, &format!("1.{}", one.last())).await;
        kept(2, &two, &feed.events(2).await);
    }
    for wrong in ["x", "1", "1.", ".1", "1.2.3", "-1.0", "1.9007199254740992", "%201.1"] {
        let target = format!("/v1/conversations/{conversation}/events?after={wrong}");
        for encoding in Encoding::ALL {
            let reply = scene.client.send(Request::get(&target).accept(encoding)).await;
            assert_eq!(reply.expect(422)["code"], "invalid_cursor", "{wrong}");
        }
    }
}

#[tokio::test]
async fn a_deleted_conversation_says_so_on_its_feeds_and_closes() {
    let scene = Scene::new().await;
    let body = json!({"message": "go", "session_id": "s"});
    for round in 0..2 {
        scene.upstream.push(if round == 0 { Script::answer(&["a"]) } else { Script::new().stamped(1).hang() });
        let live = scene.client.open(Request::post("/v1/chat/stream", &body).accept(Encoding::Ndjson)).await;
        let conversation = live.header("conversation-id").unwrap().to_owned();
        if round == 0 {
            scene.client.ended(&live.turn()).await;
        }
        let mut feeds = Vec::new();
        for encoding in Encoding::ALL {
            for after in ["", "0", "1.2", "2.0"] {
                feeds.push((open(&scene.client, encoding, &conversation, after).await, after));
            }
        }
        let reset = Request { method: "DELETE".into(), ..Request::get("/v1/chat/s") };
        scene.client.send(reset).await.expect(200);
        for (mut feed, after) in feeds {
            let frames = feed.rest().await;
            let last = frames.last().unwrap();
            assert_eq!((last.kind(), &last.json["conversation_id"]), ("conversation.deleted", &json!(conversation)));
            assert!(last.id.is_none() && last.seq().is_none() && last.json.get("cursor").is_none(), "{}", last.json);
            if round == 1 && after != "2.0" {
                let end = &frames[frames.len() - 2].json;
                assert_eq!(
                    (&end["type"], &end["stopped_by"]),
                    (&json!("turn.finished"), &json!("deletion")),
                    "after {after}"
                );
            }
        }
        let gone = Request::get(&format!("/v1/conversations/{conversation}/events")).accept(Encoding::Sse);
        assert_eq!(scene.client.send(gone).await.expect(404)["code"], "conversation_not_found");
    }
}

#[tokio::test]
async fn a_drain_sends_an_idle_feed_away_and_lets_a_busy_one_hear_the_end() {
    let mut scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let (quiet, loud) = (scene.client.conversation().await, scene.client.conversation().await);
    let live = scene.client.ask(&loud, "go").await;
    gate.reached().await;
    let mut feeds = Vec::new();
    for encoding in Encoding::ALL {
        feeds.push((open(&scene.client, encoding, &quiet, "").await, open(&scene.client, encoding, &loud, "").await));
    }
    scene.gateway.terminate();
    let mut busy = Vec::new();
    for (mut idle, loud) in feeds {
        assert_sent_away(&idle.rest().await);
        assert!(idle.retry().is_none_or(|retry| (500..=3000).contains(&retry)), "{:?}", idle.retry());
        busy.push(loud);
    }
    gate.open();
    let live = hear(live).await;
    assert_eq!(live.end()["status"], "completed");
    for mut feed in busy {
        assert_tells(&mut feed, &[(1, &live)], (1, 0)).await;
        assert_sent_away(&feed.rest().await);
        assert_eq!(feed.closing, Some(Closing::Clean));
    }
    assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
    // Whoever comes back afterwards goes on where it was.
    scene.gateway.restart().await;
    let mut again = open(&scene.client, Encoding::Sse, &loud, "1.3").await;
    assert_tells(&mut again, &[(1, &live)], (1, 3)).await;
}

fn assert_sent_away(frames: &[Frame]) {
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!((frames[0].kind(), &frames[0].json["code"], frames[0].seq()), ("closed", &json!("draining"), None));
    assert!(frames[0].json["retry_after_ms"].as_u64().is_none_or(|wait| (500..=3000).contains(&wait)));
}

#[tokio::test]
async fn a_conversation_is_followed_by_as_many_as_may() {
    let scene = Scene::with(|setup| setup.set("limits.readers_per_turn", 2)).await;
    let (conversation, other) = (scene.client.conversation().await, scene.client.conversation().await);
    let first = open(&scene.client, Encoding::Ndjson, &conversation, "").await;
    let second = open(&scene.client, Encoding::Sse, &conversation, "").await;
    let target = format!("/v1/conversations/{conversation}/events");
    let crowded = scene.client.send(Request::get(&target)).await;
    assert_eq!(crowded.expect(503)["code"], "too_many_readers");
    let mut crowded = scene.client.open(Request::get(&target).accept(Encoding::Sse)).await;
    assert_eq!((crowded.status(), crowded.text().await), (200, ": too_many_readers\nretry: 1000\n\n".to_owned()));
    drop(open(&scene.client, Encoding::Sse, &other, "").await);
    first.leave();
    eventually("a place", async || (scene.client.open(Request::get(&target)).await.status() == 200).then_some(()))
        .await;
    drop(second);
}
