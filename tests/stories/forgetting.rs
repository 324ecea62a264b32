//! A person who is forgotten is nowhere any more, and nobody else misses anything.

use serde_json::{Value, json};

use crate::support::access::user;
use crate::support::kept::Kept;
use crate::support::{Client, Database, Encoding, Gateway, Kind, Request, Scene, Script, Task, Upstream, eventually};

/// Somebody nobody else is called like.
const ANNA: &str = "anna-4f1c9e77";
/// What only they, or a model to them, ever said; and what they called things.
const SAID: [&str; 9] = [
    "zyxquestion4f1c",
    "zyxanswer4f1c",
    "zyxtitle4f1c",
    "zyxfact4f1c",
    "zyxnote4f1c",
    "zyxmeta4f1c",
    "zyxsession4f1c",
    "zyxkey4f1c",
    "zyxreason4f1c",
];

fn forget(id: &str) -> Request {
    Request { method: "DELETE".into(), ..Request::get(&format!("/v1/users/{id}")) }
}

/// Asks until it is done.
async fn forgotten(admin: &Client, id: &str) {
    eventually("somebody to be forgotten", async || {
        let reply = admin.send(forget(id)).await;
        assert!(matches!(reply.status, 202 | 204), "{}", String::from_utf8_lossy(&reply.bytes));
        (reply.status == 204).then_some(())
    })
    .await;
}

/// Uses all there is to use, as one person.
async fn live(scene: &Scene, id: &str, said: bool) {
    let word = |at: usize| if said { SAID[at] } else { "plain" };
    let (anna, service) = (scene.bearing(&user(id)), scene.bearing(&scene.gateway.key("shop", "service").text));
    let for_anna = service.with_header("tidegate-user", id);
    let new = json!({"title": word(2), "context": {"fact": word(3)}, "metadata": {"meta": word(5)}});
    let conversation = anna.post("/v1/conversations", &new).await.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/conversations/{conversation}");
    let asked = json!({"content": word(0), "metadata": {"meta": word(5)}});
    let asked = Request::post(&format!("{path}/messages"), &asked).header("idempotency-key", word(7));
    let answer = for_anna.send(asked.header("accept", "application/json")).await.expect(200);
    let (turn, message) = (answer["turn_id"].as_str().unwrap(), answer["id"].as_str().unwrap());
    anna.post(&format!("/v1/messages/{message}/regenerate"), &json!({})).await.expect(200);
    let rated = json!({"rating": "down", "note": word(4)});
    for_anna.post(&format!("/v1/messages/{message}/feedback"), &rated).await.expect(200);
    anna.post("/v1/chat/stream", &json!({"message": word(0), "session_id": word(6)})).await.expect(200);
    let other = anna.conversation().await;
    anna.ask_whole(&other, word(0)).await.expect(200);
    let erased = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/conversations/{other}")) };
    assert_eq!(anna.send(erased).await.status, 204, "its keys are tombstones");
    assert_eq!(for_anna.get(&format!("{path}/export")).await.status, 200);
    let ticket = anna.post("/v1/tickets", &json!({"turn_id": turn})).await.expect(200);
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    assert_eq!(scene.client.get(&format!("/v1/turns/{turn}?ticket={ticket}")).await.status, 200);
    anna.post("/v1/tickets", &json!({"conversation_id": conversation})).await.expect(200);
    assert_eq!(anna.post("/v1/session", &json!({})).await.status, 204);
    anna.post(&format!("{path}/archive"), &json!({"reason": word(8)})).await.expect(200);
    assert_eq!(anna.get("/v1/keys").await.status, 403);
    eventually("the index", async || {
        let found = anna.get(&format!("/v1/conversations?include_archived=true&q={}", word(2))).await.expect(200);
        (!found["data"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_of_somebody_who_is_forgotten_is_found_anywhere() {
    let scene =
        Scene::with(|setup| setup.closed().set("applications.0.limits.per_user.tokens_per_minute", 1_000_000)).await;
    scene.upstream.always(Script::answer(&[SAID[1], " and more"]));
    scene.upstream.when("endless", Script::new().stamped(2).hang());
    let key = scene.gateway.key("shop", "admin");
    let admin = scene.bearing(&key.text);
    live(&scene, ANNA, true).await;
    scene.upstream.always(Script::answer(&["something else"]));
    live(&scene, "bert", false).await;
    let bert = scene.bearing(&user("bert"));
    let theirs = bert.get("/v1/conversations?include_archived=true").await.expect(200);
    let kept = Kept::read(&scene.database).await;
    for word in SAID.into_iter().chain([ANNA]) {
        assert!(!kept.places(word).is_empty(), "{word} is there before");
    }
    for table in ["people", "usage_totals", "audit", "quota_counters", "idempotency_keys", "tickets", "turns"] {
        assert!(kept.places(ANNA).contains(&table), "{table} knows them before");
    }
    let used = admin.get("/v1/usage?group_by=model").await.expect(200);

    // Two turns that are live, read by themselves and by somebody else.
    let anna = scene.bearing(&user(ANNA));
    let conversation = anna.conversation().await;
    let mut own = anna.ask(&conversation, &format!("endless {}", SAID[0])).await;
    while own.event().await.kind() != "delta" {}
    let turn = own.turn();
    let mut other = admin.events(Encoding::Sse, &turn, 0).await;
    let queued = json!({"content": SAID[0], "if_busy": "queue"});
    let mut waiting = anna.ask_as(Encoding::Ndjson, &conversation, &queued).await;
    let before = rows(&admin).await;

    assert_eq!(admin.send(forget(ANNA)).await.status, 204, "it takes no longer than an answer waits");
    let last = own.leavings().await.pop().unwrap();
    assert_eq!(last.json["code"], "revoked", "{}", last.json);
    assert_eq!(waiting.leavings().await.pop().unwrap().json["code"], "revoked");
    let ended = other.leavings().await.pop().unwrap();
    assert!(ended.kind() == "closed" || ended.json["stopped_by"] == "deletion", "{}", ended.json);

    Kept::read(&scene.database).await.assert_nothing_of(SAID.into_iter().chain([ANNA]));
    for word in SAID.into_iter().chain([ANNA]) {
        assert!(!scene.gateway.log().contains(word), "{word} is in the log");
    }
    // What they did is told by a pseudonym, and what was used stays counted.
    let after = rows(&admin).await;
    assert_eq!(after.len(), before.len() + 1);
    let gone = after[0]["object"]["id"].as_str().unwrap();
    assert_eq!((&after[0]["action"], gone.starts_with("gone_")), (&json!("user.forget"), true));
    let theirs_before = before.iter().filter(|row| row["actor"]["id"] == ANNA).count();
    let theirs_after = after.iter().filter(|row| row["actor"]["id"] == gone).count();
    assert!(theirs_before > 5);
    assert_eq!(theirs_before, theirs_after);
    assert!(before.iter().filter(|row| row["actor"]["id"] == ANNA).all(|row| row["address"] == "127.0.0.1"));
    assert!(after.iter().filter(|row| row["actor"]["id"] == gone).all(|row| row.get("address").is_none()));
    assert!(after.iter().any(|row| row["actor"]["acting_for"]["id"] == gone && row["actor"]["kind"] == "key"));
    let now = admin.get("/v1/usage?group_by=model").await.expect(200);
    assert!(now["totals"]["calls"].as_u64() >= used["totals"]["calls"].as_u64(), "{now}");
    let users = admin.get("/v1/usage?group_by=user").await.expect(200);
    let nobody = users["rows"].as_array().unwrap().iter().find(|row| row["user"].is_null()).unwrap();
    assert!(nobody["calls"].as_u64().unwrap() >= 4, "{users}");

    // Nobody else misses anything; whoever comes back is somebody new.
    assert_eq!(bert.get("/v1/conversations?include_archived=true").await.expect(200), theirs);
    let found = bert.get("/v1/conversations?include_archived=true&q=plain").await.expect(200);
    assert_eq!(found["data"].as_array().map(Vec::len), theirs["data"].as_array().map(Vec::len));
    let people = admin.get("/v1/users").await.expect(200);
    assert_eq!(people["data"].as_array().unwrap().len(), 1);
    assert_eq!(anna.get("/v1/conversations").await.expect(200)["data"], json!([]));
    anna.conversation().await;
    assert_eq!(admin.get("/v1/users").await.expect(200)["data"].as_array().unwrap().len(), 2);
    for id in ["nobody-yet", ANNA] {
        assert_eq!(admin.send(forget(id)).await.status, 204, "{id}");
    }
    Kept::read(&scene.database).await.assert_nothing_of([ANNA]);
}

async fn rows(admin: &Client) -> Vec<Value> {
    admin.get("/v1/audit?limit=100").await.expect(200)["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_forgetting_that_a_crash_breaks_off_goes_on() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    upstream.always(Script::answer(&["yes"]));
    let mut gateway = Gateway::on(&database).upstream(&upstream).closed().set("stream.retention_s", 1).start().await;
    let admin = gateway.client().bearing(&gateway.key("shop", "admin").text);
    let (anna, bert) = (gateway.client().bearing(&user(ANNA)), gateway.client().bearing(&user("bert")));
    for _ in 0..300 {
        anna.conversation().await;
    }
    let theirs = bert.conversation().await;
    let owned = format!("select count(*) from conversations where owner_id = 'user:{ANNA}'");
    let left = async || database.numbers(&owned).await[0];
    assert_eq!(left().await, 300);
    let asking = Task::start({
        let admin = admin.clone();
        async move { admin.try_send(forget(ANNA)).await.map(|reply| reply.status).ok() }
    });
    eventually("some of it to be gone", async || (left().await < 300).then_some(())).await;
    gateway.kill();
    assert_eq!(asking.join().await, None);
    let rest = left().await;
    assert!(rest > 0, "it was in the middle");
    println!("{rest} of 300 were left");
    gateway.restart().await;
    // Nobody asks again.
    let people = format!("select count(*) from people where owner_id = 'user:{ANNA}'");
    eventually("the rest to be gone", async || (database.numbers(&people).await[0] == 0).then_some(())).await;
    assert_eq!(left().await, 0);
    let deeds = rows(&admin).await;
    assert_eq!(deeds.iter().filter(|row| row["action"] == "user.forget").count(), 1);
    assert_eq!(database.texts(&format!("select id from audit where actor_id = '{ANNA}'")).await, Vec::<String>::new());
    bert.get(&format!("/v1/conversations/{theirs}")).await.expect(200);
}

#[tokio::test]
async fn while_somebody_is_forgotten_they_are_refused_and_a_visitor_is_forgotten_alike() {
    let scene = Scene::closed().await;
    scene.upstream.always(Script::answer(&["yes"]));
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let visitor = scene.bearing(&scene.visitor("wk_shop").await);
    let said = visitor.post("/v1/chat/stream", &json!({"message": SAID[0], "session_id": "s"})).await.expect(200);
    let people = admin.get("/v1/users").await.expect(200);
    let id = people["data"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("vis_"), "{people}");
    let watching = async {
        let refused = eventually("them to be refused", async || {
            let reply = visitor.get("/v1/conversations").await;
            (reply.status != 200).then_some(reply)
        })
        .await;
        assert_eq!(refused.expect(403)["code"], "forbidden");
        let marked = "select person_id from people where forgetting_at is not null";
        assert_eq!(scene.database.texts(marked).await, [id.as_str()]);
    };
    tokio::join!(forgotten(&admin, &id), watching);
    let texts = [SAID[0], &id, said["id"].as_str().unwrap()];
    Kept::read(&scene.database).await.assert_nothing_of(texts);
    let abroad = scene.bearing(&scene.gateway.key("bank", "admin").text);
    let anna = scene.bearing(&user(ANNA));
    let conversation = anna.conversation().await;
    assert_eq!(abroad.send(forget(ANNA)).await.status, 204, "theirs is another");
    anna.get(&format!("/v1/conversations/{conversation}")).await.expect(200);
    assert_eq!(admin.send(forget("%20%01")).await.expect(422)["field"], "id");
}

#[tokio::test]
async fn who_comes_back_keeps_what_they_say_however_often_their_forgetting_was_asked_for() {
    let scene = Scene::closed().await;
    scene.upstream.always(Script::answer(&["yes"]));
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let anna = scene.bearing(&user(ANNA));
    let before = anna.conversation().await;
    let asking = || {
        let admin = admin.clone();
        Task::start(async move { admin.send(forget(ANNA)).await.status })
    };
    let mut first = asking();
    let mut others = Vec::new();
    // Out of step with each other, so that each would come to its end at a time of its own.
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        eventually("a little time to pass", async || (begun.elapsed().as_millis() >= 130).then_some(())).await;
        others.push(std::mem::replace(&mut first, asking()));
    }
    let last = first;
    assert_eq!(others.remove(0).join().await, 204);
    let after = anna.conversation().await;
    anna.ask_whole(&after, "hi").await.expect(200);
    for other in others.into_iter().chain([last]) {
        assert_eq!(other.join().await, 204);
    }
    anna.get(&format!("/v1/conversations/{after}")).await.expect(200);
    assert_eq!(anna.messages(&after).await.len(), 2);
    anna.get(&format!("/v1/conversations/{before}")).await.expect(404);
}

#[tokio::test]
async fn who_asks_and_who_erases_at_once_do_not_lock_each_other_out() {
    let mut scene = Scene::with(|setup| setup.set("stream.retention_s", 1)).await;
    scene.upstream.always(Script::answer(&["one", " and", " another", " and", " another"]));
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let client = scene.client.clone();
            Task::start(async move {
                for round in 0..12 {
                    let session = format!("s{number}-{round}");
                    let asked = json!({"message": "some words to be found", "session_id": session});
                    let request = Request::post("/v1/chat/stream", &asked).accept(Encoding::Ndjson);
                    let mut stream = client.open(request).await;
                    // Some are erased in the middle, some when all has been said.
                    if (number + round) % 2 == 0 {
                        while stream.event().await.kind() != "delta" {}
                    } else {
                        stream.leavings().await;
                    }
                    let reset = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/chat/{session}")) };
                    assert_eq!(client.send(reset).await.status, 200);
                }
            })
        })
        .collect();
    for task in tasks {
        task.join().await;
    }
    // A server's connections tell what they counted when they end.
    scene.gateway.terminate();
    scene.gateway.exit().await;
    if scene.database.kind() == Kind::Postgres {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        assert_eq!(scene.database.numbers(deadlocks).await, [0]);
    }
    assert_eq!(scene.database.numbers("select count(*) from conversations").await, [0]);
    assert_eq!(scene.database.numbers("select count(*) from journal").await, [0]);
    assert_eq!(scene.database.numbers("select count(*) from indexed").await, [0]);
}

#[tokio::test]
async fn what_is_deleted_is_not_in_the_tail_either() {
    let scene = Scene::new().await;
    scene.upstream.always(Script::answer(&[SAID[1], " more"]));
    scene.upstream.when("other", Script::answer(&["kept"]));
    let (one, two) = (scene.client.conversation().await, scene.client.conversation().await);
    let mut stream = scene.client.ask(&one, SAID[0]).await;
    stream.rest().await;
    scene.client.ask_whole(&two, "other").await.expect(200);
    assert!(!Kept::read(&scene.database).await.places(SAID[1]).is_empty());
    let erase = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/conversations/{one}")) };
    assert_eq!(scene.client.send(erase).await.status, 204);
    let kept = Kept::read(&scene.database).await;
    let left = kept.places(SAID[1]);
    // The index passes over what is gone until that part of it is written anew, and SQLite's log starts over by and by.
    assert!(!left.contains(&"tail") && !left.contains(&"journal"), "{left:?}");
    assert_eq!(scene.client.messages(&two).await.len(), 2);
}
