//! How conversations stand: archived, paused, resumed, ended, and ended by silence.

use serde_json::{Value, json};
use tidegate::domain::conversation::{Silence, State};

use crate::support::house::{House, at};
use crate::support::{Client, Encoding, Frame, Gate, Reply, Request, Scene, Script, eventually};

const CONVERSATIONS: &str = "/v1/conversations";

fn path(id: &str) -> String {
    format!("{CONVERSATIONS}/{id}")
}

/// Does something with a conversation, without a body.
async fn act(client: &Client, id: &str, what: &str) -> Reply {
    client.send(Request { method: "POST".into(), ..Request::get(&format!("{}/{what}", path(id))) }).await
}

async fn ask(client: &Client, id: &str) -> Reply {
    client.post(&format!("{}/messages", path(id)), &json!({"content": "hi"})).await
}

async fn state(client: &Client, id: &str) -> Value {
    client.get(&path(id)).await.expect(200)["state"].clone()
}

#[tokio::test]
async fn what_is_paused_or_ended_takes_no_messages_until_it_is_resumed() {
    let scene = Scene::new().await;
    let (client, id) = (&scene.client, &scene.client.conversation().await);
    for (what, name, code) in [("pause", "paused", "conversation_paused"), ("end", "ended", "conversation_ended")] {
        for _ in 0..2 {
            let conversation = act(client, id, what).await.expect(200);
            assert_eq!(conversation["state"], name);
            assert_eq!(conversation, client.get(&path(id)).await.expect(200));
        }
        let keyed = Request::post(&format!("{}/messages", path(id)), &json!({"content": "hi"}));
        for _ in 0..2 {
            let problem = client.send(keyed.clone().header("idempotency-key", what)).await.expect(409);
            assert_eq!((&problem["code"], &problem["conversation_id"]), (&json!(code), &json!(id)));
        }
        for _ in 0..2 {
            assert_eq!(act(client, id, "resume").await.expect(200)["state"], "active");
        }
        client.send(keyed.header("idempotency-key", what).header("accept", "application/json")).await.expect(200);
    }
    assert_eq!(scene.upstream.calls().len(), 2, "a refusal asks no model");
    act(client, id, "pause").await.expect(200);
    assert_eq!(act(client, id, "end").await.expect(200)["state"], "ended");
    assert_eq!(act(client, id, "pause").await.expect(409)["code"], "conversation_ended");
    assert_eq!(state(client, id).await, "ended");
    for what in ["archive", "unarchive", "pause", "resume", "end"] {
        assert_eq!(act(client, "conv_unknown", what).await.expect(404)["code"], "conversation_not_found");
        let body = Request::post(&format!("{}/{what}", path(id)), &json!({"colour": "red"}));
        assert_eq!(client.send(body).await.expect(422)["field"], "colour");
    }
}

#[tokio::test]
async fn an_archived_conversation_keeps_the_reason_and_takes_messages() {
    let scene = Scene::new().await;
    let (client, id) = (&scene.client, &scene.client.conversation().await);
    let archive = format!("{}/archive", path(id));
    let first = client.post(&archive, &json!({"reason": "done \u{0} é"})).await.expect(200);
    assert_eq!((&first["archive_reason"], &first["state"]), (&json!("done \u{0} é"), &json!("active")));
    assert!(first["archived_at"].is_string(), "{first}");
    assert_eq!(act(client, id, "archive").await.expect(200), first, "again, and nothing changes");
    let other = client.post(&archive, &json!({"reason": "better"})).await.expect(200);
    assert_eq!((&other["archive_reason"], &other["archived_at"]), (&json!("better"), &first["archived_at"]));
    ask(client, id).await.expect(200);
    for _ in 0..2 {
        let back = act(client, id, "unarchive").await.expect(200);
        assert_eq!((&back["archived_at"], &back["archive_reason"]), (&Value::Null, &Value::Null));
    }
    for reason in [json!(""), json!("x".repeat(501)), json!(7)] {
        assert_eq!(client.post(&archive, &json!({"reason": reason})).await.expect(422)["field"], "reason");
    }
}

#[tokio::test]
async fn turns_that_are_there_go_on_when_their_conversation_ends() {
    let scene = Scene::new().await;
    let client = &scene.client;
    for what in ["pause", "end"] {
        let id = &client.conversation().await;
        let gate = Gate::new();
        scene.upstream.push(Script::new().gate(&gate).finish("stop").done());
        let live = client.ask(id, "first").await;
        let queued = json!({"content": "second", "if_busy": "queue"});
        let waits = client.ask_as(Encoding::Ndjson, id, &queued).await;
        act(client, id, what).await.expect(200);
        assert_eq!(ask(client, id).await.status, 409);
        gate.open();
        for turn in [live.turn(), waits.turn()] {
            assert_eq!(client.ended(&turn).await["status"], "completed", "{what}");
        }
    }
}

#[tokio::test]
async fn whoever_follows_a_conversation_hears_how_it_stands() {
    let scene = Scene::new().await;
    let (client, id) = (&scene.client, &scene.client.conversation().await);
    let mut feed = client.open(Request::get(&format!("{}/events", path(id))).accept(Encoding::Ndjson)).await;
    for (what, field, value) in [
        ("archive", "archived_at", None),
        ("pause", "state", Some("paused")),
        ("resume", "state", Some("active")),
        ("end", "state", Some("ended")),
    ] {
        act(client, id, what).await.expect(200);
        act(client, id, what).await.expect(200);
        let Frame { json: told, .. } = feed.event().await;
        assert_eq!(told["type"], "conversation.updated");
        let known = &told["conversation"][field];
        assert!(value.map_or(known.is_string(), |value| known == value), "once for each: {told}");
    }
}

#[tokio::test]
async fn silence_ends_a_conversation_for_whoever_asks() {
    let scene = Scene::with(|setup| setup.set("conversations.expire_after_s", 2)).await;
    let (client, id) = (&scene.client, &scene.client.conversation().await);
    let gate = Gate::new();
    scene.upstream.push(Script::new().gate(&gate).finish("stop").done());
    let live = client.ask(id, "long").await;
    let short = &client.conversation().await;
    let fresh = client.get(&path(short)).await.expect(200);
    let seconds = |time: &Value| time.as_str().unwrap()[17..19].parse::<i64>().unwrap();
    assert_eq!((seconds(&fresh["expires_at"]) - seconds(&fresh["last_message_at"])).rem_euclid(60), 2, "{fresh}");
    let paused = &client.conversation().await;
    assert_eq!(act(client, paused, "pause").await.expect(200)["expires_at"], Value::Null);
    let over =
        async |id: &str| eventually("silence", async || (state(client, id).await == "ended").then_some(())).await;
    over(short).await;
    assert_eq!(ask(client, short).await.expect(409)["code"], "conversation_ended");
    assert_eq!(act(client, short, "pause").await.expect(409)["code"], "conversation_ended");
    assert_eq!(state(client, paused).await, "paused", "it waits");
    assert_eq!(state(client, id).await, "active", "a live turn is no silence");
    gate.open();
    client.ended(&live.turn()).await;
    assert_eq!(state(client, id).await, "active", "its end was the last activity");
    let resumed = act(client, short, "resume").await.expect(200);
    assert_eq!((&resumed["state"], &resumed["last_message_at"]), (&json!("active"), &fresh["last_message_at"]));
    ask(client, short).await.expect(200);
    act(client, paused, "resume").await.expect(200);
    over(paused).await;
}

#[tokio::test]
async fn a_session_that_expired_is_reopened_and_one_that_was_ended_is_not() {
    let scene = Scene::with(|setup| setup.set("conversations.expire_after_s", 1).set("stream.retention_s", 1)).await;
    let client = &scene.client;
    let chat = |session: &str| {
        let body = json!({"message": "hi", "session_id": session});
        async move { client.post("/v1/chat/stream", &body).await }
    };
    let first = chat("mine").await.expect(200);
    let id = first["conversation_id"].as_str().unwrap().to_owned();
    let stored = "select cast(count(*) as text) from conversations where state = 'ended' and expired_at is not null";
    for _ in 0..2 {
        eventually("silence", async || (state(client, &id).await == "ended").then_some(())).await;
        let again = chat("mine").await.expect(200);
        assert_eq!(again["conversation_id"], *id);
        assert_eq!(state(client, &id).await, "active");
        // The second time the record says so too.
        eventually("the record", async || (scene.database.texts(stored).await == ["1"]).then_some(())).await;
    }
    let history = client.get("/v1/chat/mine/history").await.expect(200);
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(6));
    act(client, &id, "end").await.expect(200);
    assert_eq!(chat("mine").await.expect(409)["code"], "conversation_ended");
}

#[tokio::test]
async fn two_replicas_end_what_expired_at_once_and_spare_what_is_active_again() {
    let house = House::new().await;
    let mut made = Vec::new();
    for _ in 0..25 {
        made.push(house.conversation().await);
    }
    let silence = Silence::new(at(100), 10);
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let silent = house.store.silent(after.as_ref(), 10, silence).await.unwrap();
        assert!(silent.ids.len() <= 10);
        found.extend(silent.ids);
        after = silent.next;
        if after.is_none() {
            break;
        }
    }
    made.sort();
    assert_eq!(found, made);
    house
        .database
        .run("update conversations set resumed_at = 1700000095000000 where id = (select min(id) from conversations)")
        .await;
    let both = || house.store.expire(&found, silence);
    let (one, other) = tokio::join!(both(), both());
    one.unwrap();
    other.unwrap();
    for (n, id) in made.iter().enumerate() {
        let kept = house.store.conversation(&house.owner, id, Silence::new(at(100), 0)).await.unwrap().unwrap();
        assert_eq!(kept.state, if n == 0 { State::Active } else { State::Ended });
    }
    assert!(house.store.silent(None, 100, silence).await.unwrap().ids.is_empty());
}
