//! One truth: whoever reads a turn, when and from wherever, sees the same events, and they fold into the record.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream;
use serde_json::Value;

use crate::support::{
    Client, Encoding, Fold, Frame, Gate, Request, Scene, Script, Told, assert_stamps, chance, eventually,
};

/// The largest cursor there is: 2^53 − 1.
const MAX: u64 = (1 << 53) - 1;

/// The cursors to try on a turn of `last` events: all up to 300, else both ends and 200 others.
fn cursors(last: u64) -> BTreeSet<u64> {
    if last <= 300 {
        return (0..=last).collect();
    }
    let mut rng = chance();
    let ends = (0..=50).chain(last - 50..=last);
    ends.chain((0..200).map(|_| rng.u64(0..=last))).collect()
}

/// Checks what an ended turn answers at every cursor, in both encodings, against what its first reader saw.
async fn assert_replays(client: &Client, told: &Told) {
    let last = told.last();
    stream::iter(cursors(last))
        .for_each_concurrent(4, |cursor| async move {
            for encoding in Encoding::ALL {
                let mut stream = client.events(encoding, &told.turn, cursor).await;
                if cursor == last && encoding == Encoding::Sse {
                    assert_eq!((stream.status(), stream.text().await.as_str()), (204, ""));
                } else {
                    told.assert_after(cursor, &stream.rest().await);
                }
            }
        })
        .await;
    for cursor in [last + 1, last + 1000, MAX] {
        for encoding in Encoding::ALL {
            assert_snapshot_and_end(told, &client.events(encoding, &told.turn, cursor).await.rest().await);
        }
    }
    let turn = client.turn(&told.turn).await;
    assert_eq!(turn["message"], told.message, "the turn has the message as it is listed");
    assert_eq!((&turn["seq"], &turn["status"]), (&told.message["seq"], &told.message["status"]));
    assert_eq!(client.answer(&told.conversation).await, told.message);
}

fn assert_snapshot_and_end(told: &Told, frames: &[Frame]) {
    let kinds: Vec<_> = frames.iter().map(Frame::kind).collect();
    assert_eq!(kinds, ["snapshot", "turn.finished"]);
    assert_eq!(frames[0].seq(), Some(told.last() - 1));
    let message = &frames[0].json["message"];
    for field in ["finish_reason", "error", "stopped_by", "duration_ms", "first_token_ms"] {
        assert!(message.get(field).is_none_or(Value::is_null), "a snapshot has no `{field}`: {message}");
    }
    assert_eq!(frames[1].bytes, told.frames.last().unwrap().bytes, "the end is the end");
    Fold::of(frames).assert_same_as(&told.message);
}

/// The same before and after the process was told to stop, and after it was killed.
async fn assert_replays_for_ever(scene: &mut Scene, turns: &[Told]) {
    for told in turns {
        assert_replays(&scene.client, told).await;
    }
    scene.gateway.terminate();
    assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
    scene.gateway.restart().await;
    for told in turns {
        assert_replays(&scene.client, told).await;
    }
    scene.gateway.kill();
    scene.gateway.restart().await;
    for told in turns {
        assert_replays(&scene.client, told).await;
    }
}

#[tokio::test]
async fn turns_of_every_shape_replay_from_every_cursor() {
    let mut scene = Scene::new().await;
    let odd = [
        "\u{0}",
        "a\r\nb\n\n",
        "\u{2028}\u{2029}\u{85}\u{7f}",
        "é😀",
        "data: x\n\nid: 7\n\n",
        "\"\\</script>",
        "[DONE]",
        " ",
    ];
    let thinking =
        Script::new().role().reasoning("Let me").reasoning(" see.").delta("Yes.").finish("stop").usage(9, 4).done();
    let split = Script::new().data(r#"{"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}"#);
    let split = split.data(r#"{"choices":[{"index":0,"delta":{"content":"\ude00b\udc00"}}]}"#).finish("stop").done();
    scene.upstream.when("short", Script::answer(&["Hello", " world"]));
    scene.upstream.when("odd", Script::answer(&odd));
    scene.upstream.when("thinking", thinking);
    scene.upstream.when("halves", split);
    scene.upstream.when("nothing", Script::new().role().finish("stop").done());
    scene.upstream.when("refused", Script::status(500, &[], &Value::Null));
    scene.upstream.when("error", Script::new().stamped(3).error("a secret of the upstream"));
    scene.upstream.when("cut", Script::new().stamped(3).cut());
    scene.upstream.when("many", Script::new().stamped(250).finish("stop").usage(1, 250).done());
    let mut turns = Vec::new();
    for word in ["short", "odd", "thinking", "halves", "nothing", "refused", "error", "cut", "many"] {
        turns.push(scene.told(word).await);
    }
    let texts = |at: usize, kind: &str| turns[at].texts(kind).iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(0, "delta"), ["Hello", " world"]);
    assert_eq!(texts(1, "delta"), odd);
    assert_eq!(
        (texts(2, "reasoning"), texts(2, "delta")),
        (vec!["Let me".into(), " see.".into()], vec!["Yes.".into()])
    );
    assert_eq!(turns[2].message["reasoning"], "Let me see.");
    assert_eq!(turns[3].content(), "a😀b\u{fffd}");
    assert_eq!((turns[4].content(), &turns[4].message["status"]), ("", &"completed".into()));
    let ends: Vec<_> = turns.iter().map(|told| told.message["status"].as_str().unwrap()).collect();
    let due =
        ["completed", "completed", "completed", "completed", "completed", "failed", "failed", "truncated", "completed"];
    assert_eq!(ends, due);
    assert_eq!(assert_stamps(turns[8].content()), 250);
    assert_replays_for_ever(&mut scene, &turns).await;
}

#[tokio::test]
async fn a_turn_of_thousands_replays_from_every_cursor() {
    let mut scene = Scene::with(|setup| setup.set("limits.turn_memory_bytes", 65_536)).await;
    scene.upstream.push(Script::new().stamped(3000).finish("stop").usage(1, 3000).done());
    let told = scene.told("go").await;
    assert_eq!(assert_stamps(told.content()), 3000);
    assert_eq!(told.texts("delta").len(), 3000, "no delta is merged or split");
    assert_replays_for_ever(&mut scene, &[told]).await;
}

#[tokio::test]
async fn a_demo_turn_with_nested_steps_and_sources_replays() {
    let mut scene =
        Scene::with(|setup| setup.demo().set("upstreams.0.models", vec!["fake"]).set("default_model", "demo")).await;
    let told = scene.told("What is a tide? Show the sources, steps and a table.").await;
    let kinds: BTreeSet<_> = told.frames.iter().map(Frame::kind).collect();
    for kind in ["step.started", "step.finished", "delta", "usage"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    let nested = told.frames.iter().any(|frame| frame.json["parent_id"].is_string());
    let rests = told.message["sources"].as_array().is_some_and(|sources| !sources.is_empty());
    assert!(nested && rests, "nested steps: {nested}, sources: {rests}");
    assert_replays_for_ever(&mut scene, &[told]).await;
}

#[tokio::test]
async fn a_stopped_turn_replays() {
    let mut scene = Scene::new().await;
    scene.upstream.push(Script::new().stamped(20).hang());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let mut frames = Vec::new();
    while frames.iter().filter(|frame: &&Frame| frame.kind() == "delta").count() < 20 {
        frames.push(stream.event().await);
    }
    let stopped = scene.client.stop(&stream.turn()).await.expect(200);
    frames.extend(stream.rest().await);
    let told = Told { conversation, turn: stream.turn(), frames, message: stopped };
    assert_eq!((&told.end()["status"], &told.end()["stopped_by"]), (&"stopped".into(), &"request".into()));
    assert_eq!(assert_stamps(told.content()), 20);
    Fold::of(&told.frames).assert_same_as(&told.message);
    assert_replays_for_ever(&mut scene, &[told]).await;
}

#[tokio::test]
async fn the_starting_request_streams_the_same_bytes_in_both_encodings() {
    let scene = Scene::new().await;
    for encoding in Encoding::ALL {
        let conversation = scene.client.conversation().await;
        let stream = scene.client.ask_as(encoding, &conversation, &serde_json::json!({"content": "hi"})).await;
        let told = Told::hear(&scene.client, &conversation, stream).await;
        assert_replays(&scene.client, &told).await;
    }
}

#[tokio::test]
async fn readers_of_a_live_turn_get_what_they_lack_and_then_all_that_comes() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(5).gate(&gate).stamped(5).finish("stop").usage(1, 10).done());
    let conversation = scene.client.conversation().await;
    let mut first = scene.client.ask(&conversation, "go").await;
    gate.reached().await;
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Frame| frame.text() != "[4]") {
        frames.push(first.event().await);
    }
    let reached = first.seq;
    let turn = first.turn();

    let mut readers = Vec::new();
    for encoding in Encoding::ALL {
        // One beyond what there is waits, and so does one far beyond, which gets nothing but what comes after.
        for cursor in 0..=reached + 2 {
            let mut stream = scene.client.events(encoding, &turn, cursor).await;
            let there = usize::try_from(reached.saturating_sub(cursor)).unwrap();
            let seen = stream.events(there).await;
            readers.push((cursor, stream, seen));
        }
        // Without following, a live turn shows what there is and the stream closes.
        let target = format!("/v1/turns/{turn}/events?after=2&follow=0");
        let now = scene.client.open(Request::get(&target).accept(encoding)).await.rest().await;
        assert_eq!(now.len() as u64, reached - 2);
        for (due, frame) in frames[2..].iter().zip(&now) {
            assert_eq!(due.bytes, frame.bytes);
        }
    }

    // A page that loads now shows the message as far as it is, and goes on from its seq.
    let shown = scene.client.answer(&conversation).await;
    assert_eq!((&shown["status"], &shown["seq"]), (&"running".into(), &reached.into()));
    Fold::of(&frames).assert_same_as(&shown);
    let mut page = Fold::from_message(&shown);
    let mut later = scene.client.events(Encoding::Sse, &turn, reached).await;

    gate.open();
    frames.extend(first.rest().await);
    let message = scene.client.answer(&conversation).await;
    let told = Told { conversation, turn, frames, message };
    Fold::of(&told.frames).assert_same_as(&told.message);
    for (cursor, mut stream, mut seen) in readers {
        seen.extend(stream.rest().await);
        told.assert_after(cursor, &seen);
    }
    page.all(&later.rest().await);
    page.assert_same_as(&told.message);
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn readers_that_are_cut_at_any_byte_lose_and_double_nothing() {
    let scene = Scene::with(|setup| setup.set("limits.turn_memory_bytes", 65_536)).await;
    let gate = Gate::new();
    let words = |n: usize| format!("{} ", "word\n".repeat(n % 7));
    let script = Script::new().stamped(30).gate(&gate).deltas(400, std::time::Duration::from_millis(1), words);
    scene.upstream.push(script.finish("stop").usage(1, 2).done());
    let conversation = scene.client.conversation().await;
    let first = scene.client.ask(&conversation, "go").await;
    let turn = first.turn();
    let mut rng = chance();
    let client = &scene.client;
    let readers =
        stream::iter((0..40).map(|_| rng.fork())).map(|rng| read_in_cuts(client, &turn, rng)).buffer_unordered(40);
    gate.open();
    let (told, readers) =
        futures::future::join(Told::hear(client, &conversation, first), readers.collect::<Vec<_>>()).await;
    for frames in readers {
        told.assert_after(0, &frames);
        Fold::of(&frames).assert_same_as(&told.message);
    }
    assert_eq!(scene.upstream.calls().len(), 1);
}

/// Reads a turn, leaving again and again after a random number of bytes, and resuming in either encoding, by header or
/// by query.
async fn read_in_cuts(client: &Client, turn: &str, mut rng: fastrand::Rng) -> Vec<Frame> {
    let (mut frames, mut seq) = (Vec::new(), 0);
    loop {
        let encoding = Encoding::ALL[rng.usize(..2)];
        let request = match rng.bool() {
            true => Request::get(&format!("/v1/turns/{turn}/events")).header("last-event-id", &seq.to_string()),
            false => Request::get(&format!("/v1/turns/{turn}/events?after={seq}")),
        };
        let mut stream = client.open(request.accept(encoding)).await;
        if stream.status() == 204 {
            return frames;
        }
        stream.bytes(rng.usize(1..20_000)).await;
        let come = stream.come();
        seq = come.iter().rev().find_map(Frame::seq).unwrap_or(seq);
        frames.extend(come);
        if frames.last().is_some_and(Frame::is_end) {
            return frames;
        }
        if rng.bool() { stream.abort() } else { stream.leave() }
    }
}

#[tokio::test]
async fn a_cursor_is_the_header_then_the_query_then_nothing() {
    let scene = Scene::new().await;
    let told = scene.told("hi").await;
    let get = |query: &str| Request::get(&format!("/v1/turns/{}/events{query}", told.turn)).accept(Encoding::Ndjson);
    let cases = [
        (get(""), 0),
        (get("?after=2"), 2),
        (get("?after=2").header("last-event-id", ""), 2),
        (get("?after=2").header("last-event-id", "3"), 3),
        (get("").header("last-event-id", "0"), 0),
    ];
    for (request, cursor) in cases {
        told.assert_after(cursor, &scene.client.open(request).await.rest().await);
    }
    for bad in ["abc", "-1", "%2B1", "1.5", "1e3", "9007199254740992", "%201", "0x1"] {
        for encoding in Encoding::ALL {
            let request = Request::get(&format!("/v1/turns/{}/events?after={bad}", told.turn)).accept(encoding);
            assert_eq!(scene.client.send(request).await.expect(422)["code"], "invalid_cursor", "{bad}");
        }
    }
    let reply = scene.client.send(get("?after=1").header("last-event-id", "x")).await;
    assert_eq!(reply.expect(422)["code"], "invalid_cursor");
}

#[tokio::test]
async fn a_turn_whose_events_are_dropped_still_has_its_end() {
    let scene = Scene::with(|setup| setup.set("stream.retention_s", 1)).await;
    scene.upstream.push(Script::new().reasoning("Hm.").stamped(40).finish("stop").usage(3, 40).done());
    let told = scene.told("go").await;
    let client = &scene.client;
    eventually("a turn's events to be dropped", async || {
        let frames = client.events(Encoding::Ndjson, &told.turn, 0).await.rest().await;
        (frames[0].kind() == "snapshot").then_some(())
    })
    .await;
    for encoding in Encoding::ALL {
        for cursor in [0, 1, told.last() - 1, told.last() + 1, MAX] {
            assert_snapshot_and_end(&told, &client.events(encoding, &told.turn, cursor).await.rest().await);
        }
    }
    assert_eq!(client.events(Encoding::Sse, &told.turn, told.last()).await.status(), 204);
    assert!(client.events(Encoding::Ndjson, &told.turn, told.last()).await.rest().await.is_empty());
    assert_eq!(client.answer(&told.conversation).await, told.message);
}

#[tokio::test]
async fn a_record_that_lacks_events_closes_its_readers_and_shows_nothing_else() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::answer(&["Hello", " world"]));
    let told = scene.told("go").await;
    scene.database.run(&format!("delete from journal where turn_id = '{}' and first_seq > 1", told.turn)).await;
    let frames = scene.client.events(Encoding::Ndjson, &told.turn, 0).await.rest().await;
    let kinds: Vec<_> = frames.iter().map(Frame::kind).collect();
    assert_eq!(kinds, ["turn.started", "closed"]);
    assert_eq!((&frames[1].json["code"], frames[1].seq()), (&"unavailable".into(), None));
}
