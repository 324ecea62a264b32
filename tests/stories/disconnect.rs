//! What becomes of a turn when its last reader leaves.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::access::user;
use crate::support::{Client, Encoding, Gate, Request, Scene, Script, Task, assert_stamps, eventually, within};

fn ask(on_disconnect: &str) -> Value {
    json!({"content": "go", "on_disconnect": on_disconnect})
}

/// An upstream that says two stamps, and two more once the gate is open.
async fn scene(gate: &Gate) -> (Scene, String) {
    let scene = Scene::new().await;
    let script = Script::new().stamped(2).gate(gate).stamped(2).finish("stop").usage(1, 4).done();
    scene.upstream.always(script);
    let conversation = scene.client.conversation().await;
    (scene, conversation)
}

fn events(turn: &str) -> Request {
    Request::get(&format!("/v1/turns/{turn}/events"))
}

/// Waits for the turn's end, which must be that of one whose readers left.
async fn assert_deserted(scene: &Scene, turn: &str, stamps: usize) {
    let ended = scene.client.ended(turn).await;
    assert_eq!(
        (&ended["status"], &ended["message"]["stopped_by"]),
        (&json!("stopped"), &json!("disconnect")),
        "{ended}"
    );
    assert_eq!(assert_stamps(ended["message"]["content"].as_str().unwrap()), stamps);
    scene.upstream.calls().last().unwrap().closed().await;
}

async fn assert_goes_on(scene: &Scene, turn: &str, gate: &Gate) {
    assert_eq!(scene.client.turn(turn).await["status"], "running");
    gate.open();
    let ended = scene.client.ended(turn).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(assert_stamps(ended["message"]["content"].as_str().unwrap()), 4);
}

#[tokio::test]
async fn a_turn_goes_on_without_readers_unless_it_is_told_otherwise() {
    for on_disconnect in ["", "continue"] {
        let gate = Gate::new();
        let (scene, conversation) = scene(&gate).await;
        let body = if on_disconnect.is_empty() { json!({"content": "go"}) } else { ask(on_disconnect) };
        let stream = scene.client.ask_as(Encoding::Sse, &conversation, &body).await;
        let (turn, port) = (stream.turn(), stream.port());
        gate.reached().await;
        stream.leave();
        eventually("the reader to be gone", async || (!scene.gateway.holds(port)).then_some(())).await;
        assert_goes_on(&scene, &turn, &gate).await;
    }
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let target = format!("/v1/conversations/{conversation}/messages");
    for wrong in ["", "stop", "grace", "grace:", "grace:-1", "grace:1.5", "CANCEL"] {
        assert_eq!(scene.client.post(&target, &ask(wrong)).await.expect(422)["field"], "on_disconnect", "{wrong}");
    }
    assert_eq!(scene.client.messages(&conversation).await.len(), 0);
}

#[tokio::test]
async fn with_cancel_the_last_reader_takes_the_turn_along() {
    for policy in ["cancel", "grace:0"] {
        for encoding in Encoding::ALL {
            let gate = Gate::new();
            let (scene, conversation) = scene(&gate).await;
            let mut first = scene.client.ask_as(encoding, &conversation, &ask(policy)).await;
            let turn = first.turn();
            let mut second = scene.client.open(events(&turn).accept(Encoding::Sse)).await;
            let mut feed = Request::get(&format!("/v1/conversations/{conversation}/events"));
            feed = feed.accept(Encoding::Ndjson);
            let mut feed = scene.client.open(feed).await;
            let waiting = Task::start({
                let (client, request) = (scene.client.clone(), events(&turn).header("accept", "application/json"));
                async move { client.open(request).await }
            });
            gate.reached().await;
            first.events(4).await;
            second.events(4).await;
            feed.events(4).await;
            let port = first.port();
            first.leave();
            eventually("the reader to be gone", async || (!scene.gateway.holds(port)).then_some(())).await;
            let port = second.port();
            second.abort();
            eventually("the reader to be gone", async || (!scene.gateway.holds(port)).then_some(())).await;
            assert_eq!(
                scene.client.turn(&turn).await["status"],
                "running",
                "a feed and who waits for JSON are readers"
            );
            drop(waiting);
            assert_eq!(scene.client.turn(&turn).await["status"], "running", "a feed is a reader");
            let left = Instant::now();
            feed.leave();
            let closed = scene.upstream.call(0).await.closed().await;
            println!("from the last reader's leaving to the upstream's close: {:?}", closed - left);
            assert_deserted(&scene, &turn, 2).await;
        }
    }
}

#[tokio::test]
async fn a_waiting_json_request_is_a_reader() {
    let gate = Gate::new();
    let (scene, conversation) = scene(&gate).await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let waiting = Task::start({
        let (client, target) = (scene.client.clone(), target.clone());
        async move { client.post(&target, &ask("cancel")).await }
    });
    gate.reached().await;
    let turn = scene.client.answer(&conversation).await["turn_id"].as_str().unwrap().to_owned();
    assert_eq!(scene.client.turn(&turn).await["status"], "running");
    drop(waiting);
    assert_deserted(&scene, &turn, 2).await;
    // One that stays gets its answer.
    let waiting = Task::start({
        let client = scene.client.clone();
        async move { client.post(&target, &ask("cancel")).await }
    });
    gate.open();
    assert_eq!(waiting.join().await.expect(200)["status"], "completed");
}

#[tokio::test]
async fn whoever_may_change_nothing_neither_ends_a_turn_nor_keeps_it() {
    let gate = Gate::new();
    let scene = Scene::closed().await;
    scene.upstream.always(Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let read = scene.bearing(&scene.gateway.key("shop", "read").text);
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let anna = scene.bearing(&user("anna"));
    let conversation = anna.conversation().await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let request = Request::post(&target, &ask("cancel")).header("prefer", "respond-async");
    let reply = anna.send(request.header("accept", "application/json")).await;
    let turn = reply.expect(202)["id"].as_str().unwrap().to_owned();
    gate.reached().await;
    let (of_turn, of_feed) = (format!("/v1/turns/{turn}/events"), format!("/v1/conversations/{conversation}/events"));
    let ticket = async |object: Value| {
        let ticket = anna.post("/v1/tickets", &object).await.expect(200);
        format!("ticket={}", ticket["ticket"].as_str().unwrap())
    };
    let by_turn = format!("{of_turn}?{}", ticket(json!({ "turn_id": turn })).await);
    let by_feed = format!("{of_feed}?{}", ticket(json!({ "conversation_id": conversation })).await);
    // Once nobody reads, a whole turn passes elsewhere: whoever's leaving counts has been missed by then.
    scene.upstream.when("meanwhile", Script::answer(&["yes"]));
    let elsewhere = anna.conversation().await;
    let assert_runs = async |why: &str| {
        eventually("nobody to read", async || (admin.readers().await == 0).then_some(())).await;
        anna.ask_whole(&elsewhere, "meanwhile").await.expect(200);
        // Its end may be long in coming; the model is left at once.
        assert!(!scene.upstream.call(0).await.is_closed(), "{why}");
        assert_eq!(anna.turn(&turn).await["status"], "running", "{why}");
    };
    let onlookers = [(&scene.client, &by_turn), (&scene.client, &by_feed), (&read, &of_turn), (&read, &of_feed)];
    for (client, target) in onlookers {
        let mut reader = client.open(Request::get(target).accept(Encoding::Sse)).await;
        reader.events(3).await;
        reader.leave();
        assert_runs(target).await;
    }
    let waiting = Task::start({
        let (client, request) = (read.clone(), events(&turn).header("accept", "application/json"));
        async move { client.open(request).await }
    });
    eventually("the request to wait", async || (admin.readers().await == 1).then_some(())).await;
    drop(waiting);
    assert_runs("a request that waited").await;

    let mut onlooker = scene.client.open(Request::get(&by_turn).accept(Encoding::Ndjson)).await;
    let mut reader = anna.events(Encoding::Ndjson, &turn, 0).await;
    reader.events(3).await;
    reader.leave();
    let end = onlooker.rest().await.pop().unwrap();
    assert_eq!((&end.json["status"], &end.json["stopped_by"]), (&json!("stopped"), &json!("disconnect")));
}

#[tokio::test]
async fn with_grace_a_reader_who_comes_back_in_time_finds_the_turn_alive() {
    let gate = Gate::new();
    let (scene, conversation) = scene(&gate).await;
    let first = scene.client.ask_as(Encoding::Ndjson, &conversation, &ask("grace:2")).await;
    let turn = first.turn();
    gate.reached().await;
    for _ in 0..3 {
        let again = scene.client.open(events(&turn).accept(Encoding::Sse)).await;
        assert_eq!(again.status(), 200);
        drop(again);
    }
    drop(first);
    let left = Instant::now();
    let back = scene.client.open(events(&turn).accept(Encoding::Sse)).await;
    assert_eq!(scene.client.turn(&turn).await["status"], "running");
    // Whoever is back clears the clock: as long as it stays, nothing happens.
    eventually("the grace to be over", async || (left.elapsed().as_secs() >= 3).then_some(())).await;
    assert_eq!(scene.client.turn(&turn).await["status"], "running");
    let left = Instant::now();
    back.leave();
    let closed = scene.upstream.call(0).await.closed().await;
    let waited = closed.duration_since(left).as_millis();
    assert!((1900..10_000).contains(&waited), "the grace of 2 s took {waited} ms");
    assert_deserted(&scene, &turn, 2).await;
}

#[tokio::test]
async fn the_setting_holds_where_a_request_does_not_say() {
    let scene = Scene::with(|setup| setup.set("stream.on_disconnect", "cancel")).await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let conversation = scene.client.conversation().await;
    let mut stream = scene.client.ask(&conversation, "go").await;
    let turn = stream.turn();
    stream.events(4).await;
    stream.leave();
    assert_deserted(&scene, &turn, 2).await;
    let body = json!({"message": "go"});
    let mut stream = scene.client.open(Request::post("/v1/chat/stream", &body).accept(Encoding::Sse)).await;
    let turn = stream.turn();
    stream.events(4).await;
    stream.leave();
    assert_deserted(&scene, &turn, 2).await;
    let stream = scene.client.ask_as(Encoding::Ndjson, &conversation, &ask("continue")).await;
    let (turn, port) = (stream.turn(), stream.port());
    gate.reached_by(3).await;
    stream.leave();
    eventually("the reader to be gone", async || (!scene.gateway.holds(port)).then_some(())).await;
    assert_goes_on(&scene, &turn, &gate).await;
}

#[tokio::test]
async fn a_turn_that_nobody_has_read_yet_waits_for_its_first_reader() {
    let gate = Gate::new();
    let (scene, conversation) = scene(&gate).await;
    let target = format!("/v1/conversations/{conversation}/messages");
    let request = Request::post(&target, &ask("cancel")).header("prefer", "respond-async");
    let reply = scene.client.send(request.header("accept", "application/json")).await;
    let turn = reply.expect(202)["id"].as_str().unwrap().to_owned();
    gate.reached().await;
    assert_eq!(scene.client.turn(&turn).await["status"], "running", "asking how it stands is not reading it");
    let reader = scene.client.open(events(&turn).accept(Encoding::Ndjson)).await;
    assert_eq!(scene.client.turn(&turn).await["status"], "running");
    reader.leave();
    assert_deserted(&scene, &turn, 2).await;
    // One that is never read at all comes to its end.
    let request = Request::post(&target, &ask("cancel")).header("prefer", "respond-async");
    let reply = scene.client.send(request.header("accept", "application/json")).await;
    gate.reached_by(2).await;
    assert_goes_on(&scene, reply.expect(202)["id"].as_str().unwrap(), &gate).await;
}

#[tokio::test]
async fn a_first_reader_who_is_gone_at_once_has_been_there() {
    let gate = Gate::new();
    let (scene, conversation) = scene(&gate).await;
    let target = format!("/v1/conversations/{conversation}/messages");
    for times in 1..=5 {
        let request = Request::post(&target, &ask("cancel")).header("prefer", "respond-async");
        let reply = scene.client.send(request.header("accept", "application/json")).await;
        let turn = reply.expect(202)["id"].as_str().unwrap().to_owned();
        gate.reached_by(times).await;
        // What the model has written by then is still to be read.
        let said = async || scene.client.turn(&turn).await["message"]["content"].as_str().map(assert_stamps);
        eventually("both deltas", async || (said().await == Some(2)).then_some(())).await;
        scene.client.open(events(&turn).accept(Encoding::Sse)).await.leave();
        assert_deserted(&scene, &turn, 2).await;
    }
}

#[tokio::test]
async fn a_queued_turn_whose_reader_leaves_never_starts() {
    let gate = Gate::new();
    let (scene, conversation) = scene(&gate).await;
    let mut live = scene.client.ask(&conversation, "first").await;
    gate.reached().await;
    let body = json!({"content": "second", "if_busy": "queue", "on_disconnect": "cancel"});
    let queued = scene.client.ask_as(Encoding::Sse, &conversation, &body).await;
    let turn = queued.turn();
    queued.leave();
    let ended = scene.client.ended(&turn).await;
    assert_eq!((&ended["status"], &ended["message"]["stopped_by"]), (&json!("stopped"), &json!("disconnect")));
    gate.open();
    assert_eq!(live.rest().await.pop().unwrap().json["status"], "completed");
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn whoever_closes_its_half_is_gone() {
    let gate = Gate::new();
    let (scene, conversation) = scene(&gate).await;
    for (times, accept) in ["application/x-ndjson", "text/event-stream", "application/json"].into_iter().enumerate() {
        let body = ask("cancel").to_string();
        let head = format!(
            "POST /v1/conversations/{conversation}/messages HTTP/1.1\r\nhost: {}\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            scene.client.address(),
            body.len()
        );
        let mut socket = TcpStream::connect(scene.client.address()).await.unwrap();
        socket.write_all((head + &body).as_bytes()).await.unwrap();
        gate.reached_by(times + 1).await;
        let turn = scene.client.answer(&conversation).await["turn_id"].as_str().unwrap().to_owned();
        socket.shutdown().await.unwrap();
        assert_deserted(&scene, &turn, 2).await;
        let mut rest = Vec::new();
        // Cut short, by an end or by a reset: there is no more to come.
        let _ = within("the gateway to close its half", socket.read_to_end(&mut rest)).await;
        assert!(!String::from_utf8_lossy(&rest).contains("\"completed\""));
    }
}

#[tokio::test]
async fn whoever_asks_and_leaves_unread_leaves_nothing_that_runs() {
    let mut scene = Scene::new().await;
    scene.upstream.always(Script::new().stamped(2).hang());
    let (mut conversations, mut block) = (Vec::new(), None);
    for round in 0..60 {
        if round < 50 {
            conversations.push(scene.client.conversation().await);
        } else if block.is_none() {
            // The last ones leave while their turns wait for the database.
            block = Some(scene.database.block().await);
        }
        let conversation = &conversations[round % 50];
        let target = format!("/v1/conversations/{conversation}/messages");
        let accept = ["application/x-ndjson", "application/json", "text/event-stream"][round % 3];
        scene.client.knock(Request::post(&target, &ask("cancel")).header("accept", accept), Duration::ZERO).await;
    }
    drop(block);
    // What was asked is decided once the gateway has gone, and it goes as soon as nothing runs.
    scene.gateway.terminate();
    assert!(scene.gateway.exit().await.success(), "{}", scene.gateway.log());
    scene.gateway.restart().await;
    for conversation in conversations {
        for answer in scene.client.messages(&conversation).await.iter().filter(|one| one["role"] == "assistant") {
            // `interrupted` would be one that ran until the end of the grace.
            assert_eq!((&answer["status"], &answer["stopped_by"]), (&json!("stopped"), &json!("disconnect")));
        }
    }
}

#[tokio::test]
async fn a_turn_has_as_many_readers_as_it_may() {
    let scene = Scene::with(|setup| setup.set("limits.readers_per_turn", 2)).await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").done());
    let conversation = scene.client.conversation().await;
    let mut first = scene.client.ask(&conversation, "go").await;
    let turn = first.turn();
    let second = scene.client.open(events(&turn).accept(Encoding::Sse)).await;
    for accept in ["application/x-ndjson", "application/json"] {
        let crowded = scene.client.send(events(&turn).header("accept", accept)).await;
        assert_eq!(crowded.expect(503)["code"], "too_many_readers");
        assert!(crowded.header("retry-after").is_some());
    }
    let mut crowded = scene.client.open(events(&turn).accept(Encoding::Sse)).await;
    assert_eq!((crowded.status(), crowded.text().await), (200, ": too_many_readers\nretry: 1000\n\n".to_owned()));
    second.leave();
    let mut third = eventually("a place", async || {
        let stream = scene.client.open(events(&turn).accept(Encoding::Ndjson)).await;
        (stream.status() == 200).then_some(stream)
    })
    .await;
    gate.open();
    assert_eq!(first.rest().await.len(), third.rest().await.len());
    // A turn that has ended costs nothing to read.
    let mut late = Vec::new();
    for _ in 0..5 {
        late.push(scene.client.open(events(&turn).accept(Encoding::Sse)).await);
    }
    assert!(late.iter().all(|stream| stream.status() == 200));
}

#[tokio::test]
async fn whoever_may_change_nothing_keeps_nobody_away_who_may() {
    let gate = Gate::new();
    let scene = Scene::with(|setup| setup.closed().set("limits.readers_per_turn", 4)).await;
    scene.upstream.always(Script::new().stamped(2).gate(&gate).stamped(2).finish("stop").usage(1, 4).done());
    let anna = scene.bearing(&user("anna"));
    let conversation = anna.conversation().await;
    let turn = anna.ask(&conversation, "go").await.turn();
    let (of_turn, of_feed) = (format!("/v1/turns/{turn}/events"), format!("/v1/conversations/{conversation}/events"));
    let ticket = async |object: Value| {
        let ticket = anna.post("/v1/tickets", &object).await.expect(200);
        format!("ticket={}", ticket["ticket"].as_str().unwrap())
    };
    let open = async |client: &Client, target: &str| client.open(Request::get(target).accept(Encoding::Ndjson)).await;
    // A feed is a reader of its turn as well.
    let mut seats = Vec::new();
    for (target, ticket) in [
        (&of_feed, ticket(json!({ "conversation_id": conversation })).await),
        (&of_turn, ticket(json!({ "turn_id": turn })).await),
    ] {
        let looks_on = format!("{target}?{ticket}");
        loop {
            let mut stream = open(&scene.client, &looks_on).await;
            if stream.status() == 503 {
                assert!(stream.text().await.contains("too_many_readers"));
                break;
            }
            stream.events(2).await;
            seats.push(stream);
            assert!(seats.len() <= 2, "half of the seats");
        }
    }
    assert_eq!(seats.len(), 2);
    for target in [&of_turn, &of_feed] {
        let mut stream = open(&anna, target).await;
        stream.events(2).await;
        seats.push(stream);
    }
    assert_eq!(open(&anna, &of_turn).await.status(), 503);
}
