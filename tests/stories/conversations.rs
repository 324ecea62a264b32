//! Conversations: what they are made of, what their turns are asked with, and the pages of their messages.

use serde_json::{Value, json};

use crate::support::{Client, Encoding, Fold, Gate, Kind, Reply, Request, Scene, Script, Task};

const CONVERSATIONS: &str = "/v1/conversations";

fn messages(conversation: &Value) -> String {
    format!("{CONVERSATIONS}/{}/messages", conversation.as_str().unwrap())
}

async fn make(client: &Client, body: &Value) -> Value {
    client.post(CONVERSATIONS, body).await.expect(201)
}

/// What the upstream's call `n` was asked, as `role: content`.
fn asked(scene: &Scene, n: usize) -> Vec<String> {
    let lines = scene.upstream.calls()[n].body["messages"].clone();
    let text = |line: &Value| format!("{}: {}", line["role"].as_str().unwrap(), line["content"].as_str().unwrap());
    lines.as_array().unwrap().iter().map(text).collect()
}

#[tokio::test]
async fn a_conversation_is_what_it_was_made_with() {
    let scene = Scene::new().await;
    let body = json!({
        "title": "Tides \u{0} \u{202e}é😀", "context": {"page": "/moon", "x": null}, "metadata": {"a": [1, {"b": "\u{0}"}]},
        "config": {"model": "test-model", "instructions": "Be brief.", "temperature": 0.5, "max_tokens": 9, "timeout_seconds": 7,
            "enable_rag": false},
    });
    let reply = scene.client.post(CONVERSATIONS, &body).await;
    let made = reply.expect(201);
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("conv_"), "{id}");
    assert_eq!(reply.header("location"), Some(&*format!("{CONVERSATIONS}/{id}")));
    for field in ["title", "metadata"] {
        assert_eq!(made[field], body[field]);
    }
    assert_eq!((&made["state"], &made["live_turn_id"]), (&json!("active"), &Value::Null));
    for time in ["created_at", "last_message_at"] {
        let time = made[time].as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z') && time.contains('T'), "RFC 3339, UTC, microseconds: {time}");
    }
    assert_eq!(scene.client.get(&format!("{CONVERSATIONS}/{id}")).await.expect(200), made);
    scene.client.post(&messages(&made["id"]), &json!({"content": "hi"})).await.expect(200);
    let call = scene.upstream.call(0).await;
    assert_eq!(asked(&scene, 0), ["system: Be brief.", "user: hi"]);
    assert_eq!((&call.body["temperature"], &call.body["model"]), (&json!(0.5), &json!("test-model")));
    assert!(call.body["max_tokens"] == 9 || call.body["max_completion_tokens"] == 9, "{}", call.body);
    let plain = make(&scene.client, &json!({})).await;
    assert_eq!((&plain["metadata"], &plain["config"]), (&json!({}), &json!({})));
    scene.client.post(&messages(&plain["id"]), &json!({"content": "hi"})).await.expect(200);
    let call = scene.upstream.call(1).await;
    for absent in ["temperature", "max_tokens", "max_completion_tokens"] {
        assert!(call.body.get(absent).is_none(), "what is not set is not sent: {}", call.body);
    }
    assert_eq!(asked(&scene, 1), ["user: hi"]);
}

#[tokio::test]
async fn a_title_is_the_first_sixty_characters_of_the_first_message() {
    let scene = Scene::new().await;
    let long = "é😀".repeat(40);
    let first: String = long.chars().take(60).collect();
    let by_first = make(&scene.client, &json!({"first_message": long})).await;
    assert_eq!(by_first["title"], first);
    let parts = json!([{"type": "text", "text": "a".repeat(59)}, {"type": "text", "text": "bc"}]);
    let by_parts = make(&scene.client, &json!({"first_message": parts})).await;
    assert_eq!(by_parts["title"], format!("{}b", "a".repeat(59)));
    let later = make(&scene.client, &json!({})).await;
    scene.client.post(&messages(&later["id"]), &json!({"content": "short"})).await.expect(200);
    scene.client.post(&messages(&later["id"]), &json!({"content": "another"})).await.expect(200);
    let path = format!("{CONVERSATIONS}/{}", later["id"].as_str().unwrap());
    assert_eq!(scene.client.get(&path).await.expect(200)["title"], "short");
    // A turn may be over before its conversation is told.
    let gate = Gate::new();
    scene.upstream.when("hi", Script::new().gate(&gate).finish("stop").done());
    let own = make(&scene.client, &json!({"title": "Own", "first_message": "hi"})).await;
    gate.open();
    assert_eq!(own["title"], "Own");
    let turn = own["live_turn_id"].as_str().map(str::to_owned);
    let turn = turn.unwrap_or_else(|| panic!("the first message's turn is under way: {own}"));
    assert_eq!(scene.client.ended(&turn).await["status"], "completed");
}

#[tokio::test]
async fn what_a_conversation_cannot_be_is_refused_by_the_name_of_the_field() {
    let scene = Scene::with(|setup| {
        let setup = setup.set("limits.metadata_bytes", 64).set("limits.max_turn_s", 100);
        setup.set("upstreams.0.models", vec!["test-model", "other-*"])
    })
    .await;
    let config = |field: &str, value: Value| json!({"config": {field: value}});
    let wide = json!({"metadata": {"k": "x".repeat(56)}});
    for (body, field) in [
        (json!({"title": ""}), "title"),
        (json!({"title": "x".repeat(501)}), "title"),
        (json!({"title": 7}), "title"),
        (json!({"name": "x"}), "name"),
        (json!({"first_message": ""}), "first_message"),
        (json!({"first_message": []}), "first_message"),
        (json!({"metadata": []}), "metadata"),
        (json!({"metadata": {"k": "x".repeat(57)}}), "metadata"),
        (json!({"context": "x"}), "context"),
        (config("temperature", json!(2.1)), "config.temperature"),
        (config("temperature", json!(-0.1)), "config.temperature"),
        (config("temperature", json!("1")), "config.temperature"),
        (config("max_tokens", json!(0)), "config.max_tokens"),
        (config("max_tokens", json!(-1)), "config.max_tokens"),
        (config("timeout_seconds", json!(101)), "config.timeout_seconds"),
        (config("timeout_seconds", json!(0)), "config.timeout_seconds"),
        (config("top_p", json!(1)), "config.top_p"),
    ] {
        let reply = scene.client.post(CONVERSATIONS, &body).await;
        let problem = reply.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!(field)), "{body}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
    for model in ["none", "", "other-\u{0}", "other-\n"] {
        let problem = scene.client.post(CONVERSATIONS, &config("model", json!(model))).await.expect(404);
        assert_eq!(problem["code"], "model_not_found", "{model:?}");
    }
    assert_eq!(scene.client.post(CONVERSATIONS, &json!({"assistant_id": "asst_x"})).await.status, 404);
    assert_eq!(scene.database.numbers("select count(*) from conversations").await, [0]);
    let edges =
        [wide, json!({"title": "x".repeat(500)}), config("temperature", json!(2)), config("model", json!("other-1"))];
    for body in edges {
        make(&scene.client, &body).await;
    }
    for id in ["conv_unknown", "turn_x", "a%20b"] {
        let problem = scene.client.get(&format!("{CONVERSATIONS}/{id}")).await.expect(404);
        assert_eq!(problem["code"], "conversation_not_found");
        assert_eq!(scene.client.get(&messages(&json!(id))).await.status, 404);
        assert_eq!(scene.client.post(&messages(&json!(id)), &json!({"content": "hi"})).await.status, 404);
    }
    assert_eq!(scene.client.get(&format!("{CONVERSATIONS}/a%00b")).await.status, 404);
    let one = make(&scene.client, &json!({})).await;
    for (body, status, field) in [
        (json!({"content": "hi", "model": "other-\u{0}"}), 404, "model"),
        (json!({"content": "hi", "parent_id": "msg_\u{0}"}), 422, "parent_id"),
        (json!({"content": "hi", "metadata": {"k": "x".repeat(57)}}), 422, "metadata"),
        (json!({"content": null}), 422, "content"),
        (json!({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}), 422, "content"),
        (json!({}), 422, "content"),
    ] {
        let problem = scene.client.post(&messages(&one["id"]), &body).await.expect(status);
        assert_eq!(problem["field"], field, "{body}: {problem}");
    }
}

#[tokio::test]
async fn a_message_answers_its_parent_and_the_model_sees_that_path() {
    let scene = Scene::with(|setup| setup.set("instructions", "House rules.")).await;
    let conversation = scene.client.conversation().await;
    let target = format!("{CONVERSATIONS}/{conversation}/messages");
    for n in ["a1", "a2", "a3", "a4"] {
        scene.upstream.push(Script::answer(&[n]));
    }
    let one = scene.client.post(&target, &json!({"content": "q1"})).await.expect(200);
    let two = scene.client.post(&target, &json!({"content": "q2"})).await.expect(200);
    let branch = scene.client.post(&target, &json!({"content": "q3", "parent_id": one["id"]})).await.expect(200);
    let newest = scene.client.post(&target, &json!({"content": "q4"})).await.expect(200);
    assert_eq!(asked(&scene, 1), ["system: House rules.", "user: q1", "assistant: a1", "user: q2"]);
    assert_eq!(asked(&scene, 2), ["system: House rules.", "user: q1", "assistant: a1", "user: q3"]);
    assert_eq!(asked(&scene, 3)[1..], ["user: q1", "assistant: a1", "user: q3", "assistant: a3", "user: q4"]);
    let list = scene.client.messages(&conversation).await;
    let parent = |n: usize| list[n]["parent_id"].clone();
    assert_eq!(list.len(), 8, "every branch is shown");
    assert_eq!(
        (parent(0), parent(2), parent(4), parent(6)),
        (Value::Null, one["id"].clone(), one["id"].clone(), branch["id"].clone())
    );
    assert_eq!((parent(3), &newest["parent_id"]), (list[2]["id"].clone(), &list[6]["id"]));
    assert_eq!(two["content"], "a2");
    // A user's message may be answered again: what it said is then the end of the path.
    scene.client.post(&target, &json!({"content": "q5", "parent_id": list[2]["id"]})).await.expect(200);
    assert_eq!(asked(&scene, 4)[1..], ["user: q1", "assistant: a1", "user: q2", "user: q5"]);
    let other = scene.told("elsewhere").await;
    for parent in [&json!("msg_unknown"), &other.message["id"]] {
        let problem = scene.client.post(&target, &json!({"content": "x", "parent_id": parent})).await.expect(422);
        assert_eq!(problem["field"], "parent_id");
    }
}

#[tokio::test]
async fn parts_are_kept_as_they_came_and_read_as_one_text() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let parts = json!([{"type": "text", "text": "Hello, "}, {"type": "text", "text": "wor\u{0}ld"}]);
    let mut stream =
        scene.client.ask_as(Encoding::Ndjson, &conversation, &json!({"content": parts, "metadata": {"k": 1}})).await;
    stream.rest().await;
    assert_eq!(asked(&scene, 0), ["user: Hello, wor\u{0}ld"]);
    let list = scene.client.messages(&conversation).await;
    assert_eq!((&list[0]["content"], &list[0]["metadata"]), (&parts, &json!({"k": 1})));
    assert_eq!((&list[0]["role"], &list[0]["status"]), (&json!("user"), &json!("completed")));
}

#[tokio::test]
async fn messages_come_in_pages_that_fit_together() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let target = format!("{CONVERSATIONS}/{conversation}/messages");
    let empty = scene.client.get(&target).await.expect(200);
    assert_eq!((&empty["data"], &empty["next_cursor"]), (&json!([]), &Value::Null));
    for n in 0..12 {
        scene.client.ask_whole(&conversation, &format!("q{n}")).await.expect(200);
    }
    let all = scene.client.messages(&conversation).await;
    assert_eq!(all.len(), 24);
    assert_eq!(scene.client.get(&target).await.expect(200)["data"].as_array().unwrap()[..], all[4..], "20 by default");
    for limit in [1, 5, 7, 24, 100] {
        let (mut pages, mut before) = (Vec::new(), String::new());
        loop {
            let page = scene.client.get(&format!("{target}?limit={limit}{before}")).await.expect(200);
            let data = page["data"].as_array().unwrap().clone();
            assert!(data.len() <= limit && !data.is_empty());
            pages = [data, pages].concat();
            assert_eq!(page["feed_cursor"], "12.9", "the feed goes on behind the newest, whatever the page");
            let Some(next) = page["next_cursor"].as_str() else { break };
            before = format!("&before={next}");
        }
        assert_eq!(pages, all, "limit {limit}");
    }
    for wrong in
        ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "before=x", "before=", "after=1", "limit=1&limit=2"]
    {
        let problem = scene.client.get(&format!("{target}?{wrong}")).await.expect(422);
        assert_eq!(problem["code"], "invalid_request", "{wrong}");
        assert_eq!(problem["field"], wrong.split('=').next().unwrap());
    }
}

#[tokio::test]
async fn a_page_and_the_feed_after_it_miss_nothing_while_a_turn_runs() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    let (gate, pace) = (Gate::new(), std::time::Duration::from_millis(1));
    let script = (0..20).fold(Script::new().stamped(3), |script, _| script.gate(&gate).paced(7, pace));
    scene.upstream.push(script.gate(&gate).finish("stop").usage(1, 143).done());
    let mut live = scene.client.ask(&conversation, "go").await;
    let body = json!({"content": "next", "if_busy": "queue"});
    let mut queued = scene.client.ask_as(Encoding::Ndjson, &conversation, &body).await;
    let mut pages = Vec::new();
    for _ in 0..20 {
        // While the page is made, the turn goes on.
        gate.pass(1);
        let limit = if pages.len() % 2 == 0 { 2 } else { 100 };
        let page =
            scene.client.get(&format!("{CONVERSATIONS}/{conversation}/messages?limit={limit}")).await.expect(200);
        let encoding = Encoding::ALL[pages.len() % 2];
        let cursor = page["feed_cursor"].as_str().unwrap().to_owned();
        let feed = Request::get(&format!("{CONVERSATIONS}/{conversation}/events?after={cursor}")).accept(encoding);
        let mut feed = scene.client.open(feed).await;
        let due = queued.turn();
        let reading = Task::start(async move {
            let mut frames = Vec::new();
            while !frames
                .last()
                .is_some_and(|frame: &crate::support::Frame| frame.is_end() && frame.json["turn_id"] == due)
            {
                frames.push(feed.event().await);
            }
            frames
        });
        pages.push((page, reading));
    }
    gate.open();
    live.rest().await;
    queued.rest().await;
    let kept = scene.client.messages(&conversation).await;
    for (page, reading) in pages {
        let frames = reading.join().await;
        for message in page["data"].as_array().unwrap().iter().filter(|message| message["role"] == "assistant") {
            // What the feed tells of this message, after what the page has.
            let mut fold = if message["status"] == "queued" { Fold::new() } else { Fold::from_message(message) };
            let own = frames.iter().filter(|frame| frame.json["turn_id"] == message["turn_id"]);
            own.for_each(|frame| fold.apply(&frame.json));
            fold.assert_same_as(kept.iter().find(|one| one["id"] == message["id"]).unwrap());
        }
    }
}

fn path(conversation: &Value) -> String {
    format!("{CONVERSATIONS}/{}", conversation["id"].as_str().unwrap())
}

async fn rename(client: &Client, conversation: &Value, title: &Value) -> Reply {
    let request = Request::post(&path(conversation), &json!({ "title": title }));
    client.send(Request { method: "PATCH".into(), ..request }).await
}

async fn delete(client: &Client, conversation: &Value) -> Reply {
    client.send(Request { method: "DELETE".into(), ..Request::get(&path(conversation)) }).await
}

/// The titles of all pages of a list, and how many pages there were.
async fn titles(client: &Client, query: &str) -> (Vec<String>, usize) {
    let (mut titles, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.get(&format!("{CONVERSATIONS}?{query}{cursor}")).await.expect(200);
        pages += 1;
        let title = |conversation: &Value| conversation["title"].as_str().unwrap().to_owned();
        titles.extend(page["data"].as_array().unwrap().iter().map(title));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (titles, pages),
        }
    }
}

#[tokio::test]
async fn conversations_are_listed_by_what_was_active_last() {
    let scene = Scene::new().await;
    assert_eq!(titles(&scene.client, "").await, (vec![], 1));
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(make(&scene.client, &json!({"title": format!("c{n}"), "metadata": {"n": n}})).await);
    }
    let (all, pages) = titles(&scene.client, "limit=3").await;
    assert_eq!((all.join(" ").as_str(), pages), ("c6 c5 c4 c3 c2 c1 c0", 3));
    scene.client.post(&messages(&made[2]["id"]), &json!({"content": "hi"})).await.expect(200);
    assert_eq!(titles(&scene.client, "limit=1").await.0.join(" "), "c2 c6 c5 c4 c3 c1 c0");
    rename(&scene.client, &made[0], &json!("c0")).await.expect(200);
    assert_eq!(
        titles(&scene.client, "limit=7").await,
        (["c2", "c6", "c5", "c4", "c3", "c1", "c0"].map(str::to_owned).into(), 1)
    );
    let page = scene.client.get(&format!("{CONVERSATIONS}?limit=2")).await.expect(200);
    assert_eq!(page["data"][1], made[6], "each is as it is by itself");
    for conversation in &made {
        delete(&scene.client, conversation).await.expect(204);
    }
    assert_eq!(titles(&scene.client, "").await, (vec![], 1));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=1", "cursor"),
        ("cursor=a1.conv_1", "cursor"),
        ("cursor=a-1.conv_00000000000000000000000000000000", "cursor"),
        ("cursor=a1.conv_0000000000000000000000000000000%00", "cursor"),
        ("cursor=c1.conv_00000000000000000000000000000000", "cursor"),
        ("sort=title&cursor=t0.conv_00000000000000000000000000000000", "cursor"),
        ("sort=title&cursor=t0g.conv_00000000000000000000000000000000", "cursor"),
        ("sort=size", "sort"),
        ("state=live", "state"),
        ("include_archived=yes", "include_archived"),
        ("q=1&q=2", "q"),
        ("order=up", "order"),
    ] {
        let problem = scene.client.get(&format!("{CONVERSATIONS}?{query}")).await.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!(field)), "{query}");
    }
    let long = format!("{CONVERSATIONS}?q={}", "x".repeat(501));
    assert_eq!(scene.client.get(&long).await.expect(422)["field"], "q");
}

#[tokio::test]
async fn a_conversation_can_be_renamed_and_its_feeds_hear_of_it() {
    let scene = Scene::new().await;
    let conversation = make(&scene.client, &json!({"title": "Before"})).await;
    let mut feeds = Vec::new();
    for encoding in Encoding::ALL {
        let feed = Request::get(&format!("{}/events", path(&conversation))).accept(encoding);
        feeds.push(scene.client.open(feed).await);
    }
    let title = json!("After \u{0} é😀");
    let renamed = rename(&scene.client, &conversation, &title).await.expect(200);
    assert_eq!((&renamed["title"], &renamed["last_message_at"]), (&title, &conversation["last_message_at"]));
    assert_eq!(scene.client.get(&path(&conversation)).await.expect(200), renamed);
    for feed in &mut feeds {
        let frame = feed.event().await;
        assert_eq!((frame.kind(), &frame.json["conversation"]), ("conversation.updated", &renamed));
        assert!(frame.id.is_none() && frame.seq().is_none() && frame.json.get("cursor").is_none(), "{}", frame.json);
    }
    // A title that it was given stays when the first message comes.
    scene.client.post(&messages(&conversation["id"]), &json!({"content": "hi"})).await.expect(200);
    assert_eq!(scene.client.get(&path(&conversation)).await.expect(200)["title"], title);
    let unchanged = Request { method: "PATCH".into(), ..Request::post(&path(&conversation), &json!({})) };
    assert_eq!(scene.client.send(unchanged).await.expect(200)["title"], title);
    for wrong in [json!(""), json!("x".repeat(501)), json!(7), json!([])] {
        let problem = rename(&scene.client, &conversation, &wrong).await.expect(422);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_request"), &json!("title")), "{wrong}");
    }
    let stranger = json!({"id": "conv_00000000000000000000000000000000"});
    assert_eq!(rename(&scene.client, &stranger, &json!("x")).await.expect(404)["code"], "conversation_not_found");
}

#[tokio::test]
async fn a_feed_hears_of_what_was_done_though_nobody_told_it() {
    let scene = Scene::new().await;
    let conversation = make(&scene.client, &json!({"title": "Before"})).await;
    let mut feed = scene.client.open(Request::get(&format!("{}/events", path(&conversation)))).await;
    // As by a commit whose answer was lost.
    let after = if scene.database.kind() == Kind::Postgres { "'After'::bytea" } else { "cast('After' as blob)" };
    scene.database.run(&format!("update conversations set title = {after}")).await;
    let frame = feed.event().await;
    assert_eq!((frame.kind(), &frame.json["conversation"]["title"]), ("conversation.updated", &json!("After")));
    scene.database.run("delete from conversations").await;
    assert_eq!(feed.event().await.kind(), "conversation.deleted");
    assert!(feed.try_event().await.is_none());
}

#[tokio::test]
async fn a_deleted_conversation_is_gone_with_its_live_turn() {
    let scene = Scene::new().await;
    scene.upstream.push(Script::new().stamped(1).hang());
    let conversation = make(&scene.client, &json!({"first_message": "hi"})).await;
    let call = scene.upstream.call(0).await;
    let turn = conversation["live_turn_id"].as_str().unwrap().to_owned();
    delete(&scene.client, &conversation).await.expect(204);
    call.closed().await;
    for path in [path(&conversation), messages(&conversation["id"]), format!("/v1/turns/{turn}")] {
        scene.client.get(&path).await.expect(404);
    }
    for table in ["conversations", "turns", "messages", "journal"] {
        assert_eq!(scene.database.numbers(&format!("select count(*) from {table}")).await, [0], "{table}");
    }
    assert_eq!(delete(&scene.client, &conversation).await.expect(404)["code"], "conversation_not_found");
}

#[tokio::test]
async fn long_messages_come_a_few_at_a_time_and_all_of_them() {
    let scene = Scene::new().await;
    let conversation = scene.client.conversation().await;
    // As JSON a control character is six bytes.
    let piece = "\u{1}".repeat(100_000);
    let long = piece.repeat(4);
    scene.upstream.always(Script::answer(&[piece.as_str(); 4]));
    for _ in 0..5 {
        scene.client.ask_whole(&conversation, "go").await.expect(200);
    }
    scene.upstream.always(Script::answer(&["x".repeat(1 << 19).as_str(); 20]));
    scene.client.ask_whole(&conversation, "longer than a page").await.expect(200);
    let target = format!("/v1/conversations/{conversation}/messages?limit=100");
    let (mut all, mut before, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let reply = scene.client.send(Request::get(&format!("{target}{before}"))).await;
        let page = reply.expect(200);
        let data = page["data"].as_array().unwrap().clone();
        assert!(data.len() == 1 || reply.bytes.len() < (8 << 20) + 2000, "{} bytes", reply.bytes.len());
        all.splice(0..0, data);
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!((all.len(), pages), (12, 3));
    assert_eq!(all[11]["content"].as_str().unwrap().len(), 20 << 19);
    assert!(all[1..10].iter().step_by(2).all(|answer| answer["content"] == long));
    let exported = scene.client.send(Request::get(&format!("/v1/conversations/{conversation}/export"))).await;
    assert_eq!(exported.status, 200);
    let exported = String::from_utf8(exported.bytes.to_vec()).unwrap();
    assert_eq!(exported.matches("\"role\":\"assistant\"").count(), 6);
}
