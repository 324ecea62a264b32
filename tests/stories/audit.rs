//! Who did what is told to whoever looks after an application, each deed once, and stays told.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::access::{claims, signed, user};
use crate::support::{Client, Kind, Reply, Request, Scene, Script, eventually};

/// What is audited of each route that starts, makes, changes or hands out something; `None` for what tells of itself in
/// the record, or needs nobody.
const ROUTES: &[(&str, &str, Option<&str>)] = &[
    // A turn is the record of itself, and of the key it was asked with.
    ("post", "/v1/chat/stream", None),
    ("post", "/v1/conversations/{id}/messages", None),
    // A visitor is nobody until their first message.
    ("post", "/v1/visitors", None),
    ("post", "/v1/conversations", Some("conversation.create")),
    ("patch", "/v1/conversations/{id}", Some("conversation.update")),
    ("patch", "/v1/conversations/{id}/context", Some("context.update")),
    ("delete", "/v1/conversations/{id}/context", Some("context.clear")),
    ("post", "/v1/conversations/{id}/archive", Some("conversation.archive")),
    ("post", "/v1/conversations/{id}/unarchive", Some("conversation.unarchive")),
    ("post", "/v1/conversations/{id}/pause", Some("conversation.pause")),
    ("post", "/v1/conversations/{id}/end", Some("conversation.end")),
    ("post", "/v1/conversations/{id}/resume", Some("conversation.resume")),
    ("get", "/v1/conversations/{id}/export", Some("conversation.export")),
    ("post", "/v1/messages/{id}/feedback", Some("message.rate")),
    ("post", "/v1/messages/{id}/regenerate", Some("message.regenerate")),
    ("post", "/v1/turns/{id}/stop", Some("turn.stop")),
    ("post", "/v1/tickets", Some("ticket.create")),
    ("post", "/v1/session", Some("session.create")),
    ("delete", "/v1/session", Some("session.delete")),
    ("delete", "/v1/chat/{session_id}", Some("conversation.delete")),
    ("delete", "/v1/conversations/{id}", Some("conversation.delete")),
    ("post", "/v1/keys", Some("key.create")),
    ("post", "/v1/keys/{id}/rotate", Some("key.rotate")),
    ("delete", "/v1/keys/{id}", Some("key.revoke")),
    ("patch", "/v1/users/{id}", Some("user.deactivate")),
    ("delete", "/v1/users/{id}", Some("user.forget")),
];

/// Rows of the audit log, the newest first.
async fn rows(admin: &Client, query: &str) -> Vec<Value> {
    let list = admin.get(&format!("/v1/audit?limit=100{query}")).await.expect(200);
    list["data"].as_array().unwrap().clone()
}

fn request(method: &str, target: &str, body: &Value) -> Request {
    let request = if body.is_null() { Request::get(target) } else { Request::post(target, body) };
    Request { method: method.to_uppercase(), ..request }
}

/// Does what a route is for, once: the answer, and the id of what it was done to.
async fn done(scene: &Scene, client: &Client, method: &str, path: &str) -> (Reply, Value) {
    let conversation = client.conversation().await;
    let (mut id, mut body) = (conversation.clone(), Value::Null);
    match path {
        "/v1/conversations" => body = json!({}),
        "/v1/conversations/{id}" if method == "patch" => body = json!({"title": "secret title"}),
        "/v1/conversations/{id}/context" if method == "patch" => body = json!({"secret": "fact"}),
        "/v1/conversations/{id}/archive" => body = json!({"reason": "secret reason"}),
        "/v1/messages/{id}/feedback" | "/v1/messages/{id}/regenerate" => {
            let message = client.ask_whole(&conversation, "secret question").await.expect(200);
            id = message["id"].as_str().unwrap().to_owned();
            body = if path.ends_with("feedback") { json!({"rating": "up", "note": "secret note"}) } else { json!({}) };
        }
        "/v1/turns/{id}/stop" => {
            let mut stream = client.ask(&conversation, "endless secret").await;
            while stream.event().await.kind() != "delta" {}
            id = stream.turn();
        }
        "/v1/tickets" => body = json!({"conversation_id": conversation}),
        "/v1/chat/{session_id}" => {
            let asked = json!({"message": "secret question", "session_id": "secret-session"});
            let told = client.post("/v1/chat/stream", &asked).await.expect(200);
            id = told["conversation_id"].as_str().unwrap().to_owned();
        }
        "/v1/keys" => body = json!({"role": "read"}),
        "/v1/keys/{id}" | "/v1/keys/{id}/rotate" => {
            id = scene.gateway.key("shop", "read").id;
            body = if method == "post" { json!({}) } else { Value::Null };
        }
        "/v1/users/{id}" => {
            id = "carl".to_owned();
            body = json!({"active": false});
        }
        _ => {}
    }
    if method == "post" && body.is_null() {
        body = json!({});
    }
    let target = path.replace("{id}", &id).replace("{session_id}", "secret-session");
    let reply = client.send(request(method, &target, &body).header("accept", "application/json")).await;
    let made = reply.json()["id"].clone();
    let object = match path {
        "/v1/session" => Value::Null,
        "/v1/conversations" | "/v1/keys" => made,
        _ => json!(id),
    };
    (reply, object)
}

/// Whoever asks, by how the log names them, and whether they are an admin.
async fn callers(scene: &Scene) -> Vec<(Client, Value, bool)> {
    let key = |role: &str| scene.gateway.key("shop", role);
    let (admin, service) = (key("admin"), key("service"));
    let visitor = scene.visitor("wk_shop").await;
    scene.upstream.when("endless", Script::new().stamped(2).hang());
    let text = |token: &str| token.to_owned();
    let mut callers = Vec::new();
    for (token, actor, is_admin, user_id) in [
        (text(&admin.text), json!({"kind": "key", "id": admin.id}), true, None),
        (text(&service.text), json!({"kind": "key", "id": service.id}), false, None),
        (
            text(&service.text),
            json!({"kind": "key", "id": service.id, "acting_for": {"kind": "user", "id": "anna"}}),
            false,
            Some("anna"),
        ),
        (user("bert"), json!({"kind": "user", "id": "bert"}), false, None),
        (visitor, json!({"kind": "visitor"}), false, None),
    ] {
        let client = scene.bearing(&token);
        let client = user_id.map_or(client.clone(), |id| client.with_header("tidegate-user", id));
        // A session is that of a cookie, which stands beside the header here.
        callers.push((client.with_header("cookie", &format!("tidegate_session={token}")), actor, is_admin));
    }
    callers
}

#[tokio::test]
async fn each_deed_is_one_row_that_says_who_did_it() {
    let scene = Scene::closed().await;
    let document = scene.client.get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().unwrap();
    let there: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone())))
        .filter(|(method, _)| ["post", "put", "patch", "delete"].contains(&method.as_str()))
        .collect();
    let told = ROUTES.iter().filter(|(method, ..)| *method != "get");
    let told: BTreeSet<_> = told.map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(there, told, "each route that changes something stands in the table, with what is audited of it");

    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let mut walked = 0;
    for (client, actor, is_admin) in callers(&scene).await {
        for (method, path, action) in ROUTES {
            let is_theirs = is_admin || !(path.starts_with("/v1/keys") || path.starts_with("/v1/users"));
            let Some(action) = action.filter(|_| is_theirs) else { continue };
            let is_session = *path == "/v1/session";
            let (reply, object) = done(&scene, &client, method, path).await;
            assert!((200..300).contains(&reply.status), "{method} {path}: {}", String::from_utf8_lossy(&reply.bytes));
            let request = reply.header("request-id").unwrap();
            let all = rows(&admin, &format!("&action={action}")).await;
            let mine: Vec<&Value> = all.iter().filter(|row| row["request_id"] == request).collect();
            assert_eq!(mine.len(), 1, "{method} {path} by {actor}: {mine:?}");
            let row = mine[0];
            let mut who = row["actor"].clone();
            if actor == json!({"kind": "visitor"}) {
                assert!(who["id"].as_str().unwrap().starts_with("vis_"));
                who = json!({"kind": who["kind"]});
            }
            // A cookie holds a token, and no header that says for whom.
            if !is_session {
                assert_eq!(who, actor, "{method} {path}");
            }
            assert_eq!((&row["result"], &row["times"]), (&json!("ok"), &json!(1)));
            assert_eq!(row["address"], "127.0.0.1", "{row}");
            if action == "user.forget" {
                assert!(row["object"]["id"].as_str().unwrap().starts_with("gone_"), "{row}");
            } else {
                assert_eq!(row["object"]["id"], object, "{method} {path}");
            }
            walked += 1;
        }
    }
    assert!(walked > 90, "{walked}");
    // Whatever was said, it is not in there.
    assert!(scene.database.texts("select cast(count(*) as text) from audit").await[0].parse::<u32>().unwrap() > 90);
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("/v1/audit?limit=100{cursor}")).await.expect(200);
        let text = page.to_string();
        assert!(!text.contains("secret") && !text.contains("tg_") && !text.contains("eyJ"), "{text}");
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn what_is_refused_is_told_too_and_a_flood_of_it_in_two_rows() {
    let mut scene = Scene::closed().await;
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let (anna, bert) = (scene.bearing(&user("anna")), scene.bearing(&user("bert")));
    let conversation = anna.conversation().await;
    let target = format!("/v1/conversations/{conversation}");
    for _ in 0..40 {
        assert_eq!(bert.send(request("patch", &target, &json!({"title": "mine"}))).await.status, 403);
    }
    let service = scene.gateway.key("shop", "service");
    assert_eq!(scene.bearing(&service.text).get("/v1/keys").await.status, 403);
    assert_eq!(anna.send(request("post", "/v1/turns/my%20secret/stop", &json!({}))).await.status, 404);
    let refused = |row: &Value| (row["actor"]["id"].clone(), row["action"].clone(), row["result"].clone());
    let known = eventually("what was refused", async || {
        let rows = rows(&admin, "").await;
        let refusals: Vec<Value> = rows.into_iter().filter(|row| row["result"] != "ok").collect();
        (refusals.len() == 3).then_some(refusals)
    })
    .await;
    let told: Vec<_> = known.iter().rev().map(refused).collect();
    assert_eq!(told[0], (json!("bert"), json!("conversation.update"), json!("forbidden")));
    assert_eq!(told[1], (json!(service.id), json!("admin.read"), json!("forbidden")));
    assert_eq!(told[2], (json!("anna"), json!("turn.stop"), json!("turn_not_found")));
    assert_eq!((&known[2]["object"]["id"], &known[2]["times"]), (&json!(conversation), &json!(1)));
    assert_eq!(known[0].get("object"), None, "what is no id of ours is not repeated");
    // What came again is told when its minute is over, or the process is.
    scene.gateway.terminate();
    scene.gateway.exit().await;
    scene.gateway.restart().await;
    let again = rows(&admin, "&actor=bert").await;
    assert_eq!((again.len(), &again[0]["times"], &again[0]["object"]["id"]), (2, &json!(39), &json!(conversation)));
}

#[tokio::test]
async fn the_log_comes_by_pages_and_by_what_is_looked_for_and_is_each_applications_own() {
    let scene = Scene::closed().await;
    let admin = scene.gateway.key("shop", "admin");
    let (admin, id) = (scene.bearing(&admin.text), admin.id);
    let abroad = scene.bearing(&scene.gateway.key("bank", "admin").text);
    let (anna, bert) = (scene.bearing(&user("anna")), scene.bearing(&user("bert")));
    let one = anna.conversation().await;
    for client in [&anna, &bert, &anna, &bert] {
        client.conversation().await;
    }
    let all = rows(&admin, "").await;
    assert_eq!(all.len(), 6);
    assert_eq!((&all[5]["actor"], &all[5]["object"]["id"]), (&json!({"kind": "cli"}), &json!(id)));
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("/v1/audit?limit=2{cursor}")).await.expect(200);
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    let text = |row: &Value| row["at"].as_str().unwrap().to_owned();
    assert_eq!(rows(&admin, "&actor=anna").await.len(), 3);
    assert_eq!(rows(&admin, "&actor=bert&action=conversation.create").await.len(), 2);
    assert_eq!(rows(&admin, &format!("&object={one}")).await, [all[4].clone()]);
    assert_eq!(rows(&admin, &format!("&from={}", text(&all[2]))).await, all[..3]);
    assert_eq!(rows(&admin, &format!("&to={}", text(&all[2]))).await, all[3..]);
    assert_eq!(rows(&admin, "&action=key.create").await, [all[5].clone()]);
    for (query, field) in [
        ("action=x", "action"),
        ("actor=", "actor"),
        ("object=%00", "object"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("from=now", "from"),
        ("q=x", "q"),
    ] {
        let refusal = admin.get(&format!("/v1/audit?{query}")).await.expect(422);
        assert_eq!(refusal["field"], field, "{refusal}");
    }
    let theirs = rows(&abroad, "").await;
    assert_eq!((theirs.len(), &theirs[0]["action"]), (1, &json!("key.create")), "their own key, and nothing else");
    assert!(rows(&abroad, "&actor=anna").await.is_empty());
    let anna_abroad = scene.bearing(&signed(crate::support::access::BANK, &claims("anna")));
    assert_eq!(anna_abroad.get("/v1/audit").await.status, 403);

    assert!(scene.gateway.keys(&["revoke", &id]).0);
    let other = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let last = rows(&other, "&action=key.revoke").await;
    assert_eq!((&last[0]["actor"], &last[0]["object"]["id"]), (&json!({"kind": "cli"}), &json!(id)));
}

#[tokio::test]
async fn nobody_changes_the_log_not_even_past_the_gateway() {
    let scene = Scene::closed().await;
    scene.bearing(&user("anna")).conversation().await;
    let all = "select id || ' ' || at || ' ' || actor_kind || ' ' || result || ' ' || times from audit order by id";
    let before = scene.database.texts(all).await;
    assert!(!before.is_empty());
    for statement in [
        "delete from audit",
        "update audit set result = 'forbidden'",
        "update audit set actor_id = 'bert'",
        "update audit set object_id = null",
        "update audit set at = at + 1",
        "update audit set address = '192.0.2.1'",
        "update audit set times = 2",
        // A permit that is far ahead permits no more.
        "insert into audit_permits (application_id, before) values ('shop', 9000000000000000000); delete from audit",
    ] {
        assert!(scene.database.refuses(statement).await, "{statement}");
    }
    // What is put in the place of a row that is there is refused, or is not put there.
    let columns = "id, application_id, at, actor_kind, action, result, times";
    let another = "select id, application_id, 1, 'system', action, 'ok', 7 from audit";
    let replaces = match scene.database.kind() {
        Kind::Sqlite => vec![
            format!("insert or replace into audit ({columns}) {another}"),
            format!("insert into audit ({columns}) {another} where true on conflict (id) do update set times = 7"),
        ],
        Kind::Postgres => {
            vec![format!("insert into audit ({columns}) {another} on conflict (id) do update set times = 7")]
        }
    };
    for statement in replaces {
        scene.database.refuses(&statement).await;
        assert_eq!(scene.database.texts(all).await, before, "{statement}");
    }
    assert_eq!(scene.database.texts(all).await, before);
}

#[tokio::test]
async fn who_is_refused_over_and_over_hides_nobody_elses_refusals() {
    let scene = Scene::closed().await;
    let (visitor, mallory) = (scene.bearing(&scene.visitor("wk_shop").await), scene.bearing(&user("mallory")));
    let delete =
        |id: usize| Request { method: "DELETE".into(), ..Request::get(&format!("/v1/conversations/conv_{id:032}")) };
    for id in 0..100 {
        visitor.send(delete(id)).await.expect(404);
    }
    mallory.send(delete(7)).await.expect(404);
    let rows = "select count(*) from audit where actor_kind = 'user' and object_id is not null";
    eventually("the last refusal", async || (scene.database.numbers(rows).await == [1]).then_some(())).await;
    let rows = "select count(*) from audit where actor_kind = 'visitor' and object_id is ";
    assert_eq!(scene.database.numbers(&format!("{rows} not null")).await, [32], "so many are told apart");
    assert_eq!(scene.database.numbers(&format!("{rows} null and action = 'conversation.delete'")).await, [1]);
}

#[tokio::test]
async fn whoever_asks_for_the_head_of_a_file_is_handed_nothing() {
    let scene = Scene::closed().await;
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let anna = scene.bearing(&user("anna"));
    let path = format!("/v1/conversations/{}/export", anna.conversation().await);
    let head = anna.send(request("head", &path, &Value::Null)).await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    assert!(head.header("content-disposition").is_some_and(|name| name.starts_with("attachment")));
    assert_eq!(rows(&admin, "&action=conversation.export").await, Vec::<Value>::new());
    assert_eq!(anna.get(&path).await.status, 200);
    assert_eq!(rows(&admin, "&action=conversation.export").await.len(), 1);
}
