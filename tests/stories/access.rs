//! Who may do what: keys, users, visitors, cookies, tickets, and what becomes of their streams when they are revoked.

use serde_json::{Value, json};
use tidegate::domain::clock::{Clock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::access::{PAGE, SHOP, claims, seconds_from_now, signed, user};
use crate::support::{Client, Encoding, Gate, Gateway, Request, Scene, Script, Setup, Task, eventually};

/// Asks in a session of the caller's own.
async fn chat(client: &Client, session: &str) -> Value {
    client.post("/v1/chat/stream", &json!({ "message": "hi", "session_id": session })).await.expect(200)
}

fn refused(reply: &crate::support::Reply, status: u16, code: &str) {
    assert_eq!(reply.expect(status)["code"], code, "{:?}", reply.headers);
}

#[tokio::test]
async fn a_key_is_good_until_it_is_revoked_expires_or_is_rotated_away() {
    let scene = Scene::closed().await;
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let made = admin.post("/v1/keys", &json!({"role": "service"})).await.expect(201);
    let (id, text) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let service = scene.bearing(text);
    chat(&service, "s").await;
    let listed = admin.get("/v1/keys").await.expect(200);
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["next_cursor"]), (2, &Value::Null));
    assert!(listed["data"].as_array().unwrap().iter().all(|key| key.get("key").is_none()), "{listed}");
    assert!(!scene.gateway.keys(&["list"]).1.contains(text), "what was printed once is printed no more");

    let path = format!("/v1/keys/{id}/rotate");
    let rotated = admin.post(&path, &json!({"overlap_s": 3600})).await.expect(201);
    let successor = scene.bearing(rotated["key"].as_str().unwrap());
    chat(&service, "s").await;
    chat(&successor, "s").await;
    refused(&admin.post(&path, &json!({"overlap_s": 99_999_999})).await, 422, "invalid_request");
    // Rotated once more, without overlap, it is gone at once; and then there is nothing to rotate.
    let last = admin.post(&path, &json!({})).await.expect(201);
    refused(&service.get("/v1/conversations").await, 401, "authentication_required");
    refused(&admin.post(&path, &json!({})).await, 404, "key_not_found");

    let used = eventually("the last use to be noted", async || {
        let listed = admin.get("/v1/keys?limit=100").await.expect(200);
        let find = |key: &&Value| key["id"] == rotated["id"];
        let key = listed["data"].as_array().unwrap().iter().find(find).cloned().unwrap();
        (!key["last_used_at"].is_null()).then_some(key)
    });
    assert_eq!(used.await["role"], "service");

    let revoke =
        |id: &Value| Request { method: "DELETE".into(), ..Request::get(&format!("/v1/keys/{}", id.as_str().unwrap())) };
    assert_eq!(admin.send(revoke(&rotated["id"])).await.status, 204);
    assert_eq!(admin.send(revoke(&rotated["id"])).await.status, 204, "again");
    refused(&successor.get("/v1/conversations").await, 401, "authentication_required");
    refused(&admin.send(revoke(&json!("key_nobody"))).await, 404, "key_not_found");
    chat(&scene.bearing(last["key"].as_str().unwrap()), "s").await;

    let soon = Timestamp::from_micros(Clock::System.now().as_micros() + 1_000_000);
    let short = admin.post("/v1/keys", &json!({"role": "read", "expires_at": soon.to_string()})).await.expect(201);
    let short = scene.bearing(short["key"].as_str().unwrap());
    eventually("a key to expire", async || (short.get("/v1/models").await.status == 401).then_some(())).await;
    for body in [json!({}), json!({"role": "god"}), json!({"role": "read", "expires_at": "2001-01-01T00:00:00Z"})] {
        refused(&admin.post("/v1/keys", &body).await, 422, "invalid_request");
    }
}

#[tokio::test]
async fn keys_of_the_command_line_work_beside_a_running_gateway() {
    let scene = Scene::closed().await;
    let key = scene.gateway.key("bank", "read");
    assert_eq!(scene.bearing(&key.text).get("/v1/conversations").await.status, 200);
    assert!(scene.gateway.keys(&["list"]).1.contains(&key.id));
    let (revoked, said) = scene.gateway.keys(&["revoke", &key.id]);
    assert!(revoked, "{said}");
    refused(&scene.bearing(&key.text).get("/v1/conversations").await, 401, "authentication_required");
    for wrong in [
        &["create", "--application", "nobody", "--role", "read"][..],
        &["create", "--application", "shop", "--role", "god"],
        &["create", "--application", "shop", "--role", "read", "--expires-at", "yesterday"],
        &["revoke", "key_nobody"],
    ] {
        let (done, said) = scene.gateway.keys(wrong);
        assert!(!done && !said.contains("tg_"), "{wrong:?} {said}");
    }
}

#[tokio::test]
async fn with_auth_off_everybody_is_the_same_and_nobody_makes_keys() {
    let scene = Scene::new().await;
    let client = scene.bearing("whatever");
    let reply = client.post("/v1/chat/stream", &json!({"message": "hi", "session_id": "s"})).await;
    assert_eq!((reply.status, reply.header("auth-status")), (200, Some("ignored")));
    assert_eq!(scene.client.get("/v1/models").await.header("auth-status"), None);
    refused(&client.post("/v1/keys", &json!({"role": "admin"})).await, 403, "forbidden");
    refused(&client.post("/v1/visitors", &json!({"widget_key": "wk_shop"})).await, 403, "forbidden");
}

#[tokio::test]
async fn a_service_key_acts_for_one_user_and_sees_what_the_user_does() {
    let scene = Scene::closed().await;
    let service = scene.bearing(&scene.gateway.key("shop", "service").text);
    let for_anna = service.with_header("tidegate-user", "anna");
    let anna = scene.bearing(&user("anna"));
    let conversation = for_anna.conversation().await;
    assert_eq!(anna.get(&format!("/v1/conversations/{conversation}")).await.status, 200, "it is hers");
    assert_eq!(service.get(&format!("/v1/conversations/{conversation}")).await.status, 200, "and the application's");
    let own = service.conversation().await;
    refused(&for_anna.get(&format!("/v1/conversations/{own}")).await, 404, "conversation_not_found");
    refused(&anna.get(&format!("/v1/conversations/{own}")).await, 404, "conversation_not_found");
    let posing = anna.with_header("tidegate-user", "bert");
    refused(&posing.get("/v1/conversations").await, 403, "forbidden");
    refused(&service.with_header("tidegate-user", "vis_1").get("/v1/conversations").await, 403, "forbidden");
}

#[tokio::test]
async fn instructions_are_for_keys_to_give_and_to_read() {
    let scene = Scene::closed().await;
    let service = scene.bearing(&scene.gateway.key("shop", "service").text);
    let read = scene.bearing(&scene.gateway.key("shop", "read").text);
    let body = json!({"config": {"instructions": "Be brief.", "temperature": 0.5}});
    let made = service.post("/v1/conversations", &body).await.expect(201);
    assert_eq!(made["config"]["instructions"], "Be brief.");
    let path = format!("/v1/conversations/{}", made["id"].as_str().unwrap());
    let shown = read.get(&path).await.expect(200);
    assert_eq!(shown["config"], json!({"temperature": 0.5}));
    // Nor in a list, an export or a feed; and whoever may not say them takes none away.
    let for_anna = service.with_header("tidegate-user", "anna");
    let hers = for_anna.conversation().await;
    let patch =
        |body: Value| Request { method: "PATCH".into(), ..Request::post(&format!("/v1/conversations/{hers}"), &body) };
    service.send(patch(body.clone())).await.expect(200);
    let mut feed = for_anna.open(Request::get(&format!("/v1/conversations/{hers}/events"))).await;
    service.send(patch(json!({"title": "New"}))).await.expect(200);
    let told = feed.event().await.json;
    assert_eq!((&told["type"], &told["conversation"]["title"]), (&json!("conversation.updated"), &json!("New")));
    for seen in [
        told,
        for_anna.get("/v1/conversations").await.expect(200),
        for_anna.get(&format!("/v1/conversations/{hers}/export")).await.expect(200),
    ] {
        assert!(!seen.to_string().contains("Be brief."), "{seen}");
    }
    let without = json!({"config": {"instructions": null}});
    refused(&for_anna.send(patch(without)).await, 403, "forbidden");
    assert_eq!(
        service.get(&format!("/v1/conversations/{hers}")).await.expect(200)["config"]["instructions"],
        "Be brief."
    );
    for client in [scene.bearing(&user("anna")), service.with_header("tidegate-user", "anna")] {
        let reply = client.post("/v1/conversations", &body).await;
        assert_eq!(
            (reply.expect(403)["code"].as_str(), reply.json()["field"].as_str()),
            (Some("forbidden"), Some("config.instructions"))
        );
    }
}

#[tokio::test]
async fn a_visitor_is_made_by_the_first_message_and_not_before() {
    let scene = Scene::closed().await;
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let people = async || admin.get("/v1/users").await.expect(200)["data"].as_array().unwrap().clone();
    let token = scene.visitor("wk_shop").await;
    let visitor = scene.bearing(&token);
    visitor.get("/v1/conversations").await.expect(200);
    let nowhere = visitor.post("/v1/conversations/conv_nowhere/messages", &json!({"content": "hi"})).await;
    assert_eq!((nowhere.status, people().await.len()), (404, 0), "a refusal leaves nothing behind");
    chat(&visitor, "s").await;
    let there = people().await;
    assert_eq!((there.len(), &there[0]["kind"], &there[0]["active"]), (1, &json!("visitor"), &json!(true)));

    // Without a token the first message makes one, which is told in the head; with it they are the same again.
    let body = json!({"message": "hi", "session_id": "t"});
    let reply = scene.through("wk_shop").post("/v1/chat/stream", &body).await;
    let new = reply.header("visitor-token").unwrap().to_owned();
    assert_eq!((reply.status, people().await.len(), reply.header("auth-status")), (200, 2, None));
    let history = |client: Client| async move {
        client.get("/v1/chat/t/history").await.expect(200)["messages"].as_array().unwrap().len()
    };
    assert_eq!(history(scene.bearing(&new)).await, 2);
    assert_eq!(history(visitor.clone()).await, 0, "what others call `t` is theirs");
    // Renewed, they stay who they are.
    let renewed = scene.through("wk_shop").bearing(&new).post("/v1/visitors", &json!({"widget_key": "wk_shop"})).await;
    assert_eq!(history(scene.bearing(renewed.expect(200)["token"].as_str().unwrap())).await, 2);
    // A token that is none is passed over, and said to be.
    let new =
        scene.through("wk_shop").bearing("tgv_none").post("/v1/visitors", &json!({"widget_key": "wk_shop"})).await;
    assert_eq!((new.status, new.header("auth-status")), (200, Some("ignored")));
    let long = json!({"widget_key": "wk_shop".repeat(1000)});
    refused(&scene.through("wk_shop").post("/v1/visitors", &long).await, 413, "body_too_large");
    let reply = scene.through("wk_shop").bearing("nonsense").post("/v1/chat/stream", &body).await;
    assert_eq!((reply.status, reply.header("auth-status")), (200, Some("ignored")));
    assert!(reply.header("visitor-token").is_some());
}

#[tokio::test]
async fn a_widget_stands_on_its_pages_and_names_its_models() {
    let scene = Scene::closed().await;
    let body = json!({"message": "hi", "session_id": "s"});
    for origin in ["https://evil.example", "https://shop.example.evil.example", "null", "http://shop.example"] {
        let reply = scene.client.with_header("tidegate-widget", "wk_shop").with_header("origin", origin);
        refused(&reply.post("/v1/chat/stream", &body).await, 403, "origin_not_allowed");
    }
    refused(
        &scene.client.with_header("tidegate-widget", "wk_shop").post("/v1/chat/stream", &body).await,
        403,
        "origin_not_allowed",
    );
    refused(&scene.through("wk_nobody").post("/v1/chat/stream", &body).await, 401, "authentication_required");
    refused(&scene.through("wk_club").post("/v1/chat/stream", &body).await, 401, "authentication_required");
    // By the query, for what cannot send a header; and its page may read the answer.
    let target = "/v1/chat/stream?message=hi&session_id=s&key=k&widget_key=wk_shop";
    let reply = scene.client.send(Request::get(target).accept(Encoding::Sse).header("origin", PAGE)).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(PAGE)));

    // A retry before it has a token is the same visitor's, if nobody can guess its key.
    let calls = scene.upstream.calls().len();
    let mut ids = Vec::new();
    for key in ["0123456789abcdef-random", "0123456789abcdef-random", "short", "short"] {
        let target = format!("/v1/chat/stream?message=again&key={key}&widget_key=wk_shop");
        let mut stream = scene.client.open(Request::get(&target).accept(Encoding::Sse).header("origin", PAGE)).await;
        ids.push(stream.event().await.json["turn_id"].clone());
        stream.rest().await;
    }
    assert_eq!((ids[0] == ids[1], ids[2] == ids[3], scene.upstream.calls().len() - calls), (true, false, 3));

    let small = scene.through("wk_small");
    let named = |model: &str| json!({"message": "hi", "model": model});
    assert_eq!(small.post("/v1/chat/stream", &named("small-talk")).await.status, 200);
    for body in [named("large"), json!({"message": "hi"})] {
        refused(&small.post("/v1/chat/stream", &body).await, 404, "model_not_found");
    }
    let token = scene.visitor("wk_small").await;
    let config = json!({"config": {"model": "large"}});
    refused(&scene.bearing(&token).post("/v1/conversations", &config).await, 404, "model_not_found");
}

#[tokio::test]
async fn a_cookie_counts_on_our_own_pages_alone() {
    let scene = Scene::closed().await;
    let anna = scene.bearing(&user("anna"));
    let reply = anna.post("/v1/session", &json!({})).await;
    let cookie = reply.header("set-cookie").unwrap().to_owned();
    assert_eq!(reply.status, 204);
    for word in ["HttpOnly", "SameSite=Strict", "Path=/v1"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let with = scene.client.with_header("cookie", cookie.split(';').next().unwrap());
    assert_eq!(with.get("/v1/conversations").await.status, 200);
    assert_eq!(with.with_header("sec-fetch-site", "same-origin").get("/v1/conversations").await.status, 200);
    for site in ["cross-site", "same-site", "none"] {
        let reply = with.with_header("sec-fetch-site", site).get("/v1/conversations").await;
        refused(&reply, 401, "authentication_required");
    }
    refused(&scene.bearing("a.b.c").post("/v1/session", &json!({})).await, 401, "authentication_required");
    refused(&scene.client.post("/v1/session", &json!({})).await, 401, "authentication_required");
    let out = with.send(Request { method: "DELETE".into(), ..Request::get("/v1/session") }).await;
    assert_eq!((out.status, out.header("set-cookie").unwrap().contains("Max-Age=0")), (204, true));

    // Over TLS no other page of the site can set it, and what one has set under the plain name is not looked at.
    let scene = Scene::with(|setup| setup.closed().set("public_url", "https://chat.example")).await;
    let reply = scene.bearing(&user("anna")).post("/v1/session", &json!({})).await;
    let cookie = reply.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-tidegate_session=") && cookie.contains("; Path=/; Secure;"), "{cookie}");
    let bert = format!("tidegate_session={}", user("bert"));
    let with = |cookies: &str| scene.client.with_header("cookie", cookies);
    let both = with(&format!("{bert}; {}", cookie.split(';').next().unwrap()));
    assert_eq!(both.get("/v1/conversations").await.status, 200);
    refused(&with(&bert).get("/v1/conversations").await, 401, "authentication_required");
}

#[tokio::test]
async fn a_ticket_reads_one_object_and_nothing_else() {
    let scene = Scene::closed().await;
    let anna = scene.bearing(&user("anna"));
    let (conversation, other) = (anna.conversation().await, anna.conversation().await);
    let turn = anna.ask_whole(&conversation, "hi").await.expect(200)["turn_id"].as_str().unwrap().to_owned();
    let ticket =
        async |body: Value| anna.post("/v1/tickets", &body).await.expect(200)["ticket"].as_str().unwrap().to_owned();
    let (of_turn, of_feed) =
        (ticket(json!({"turn_id": turn})).await, ticket(json!({"conversation_id": conversation})).await);

    let get = async |target: &str| scene.client.get(target).await;
    let events =
        scene.client.open(Request::get(&format!("/v1/turns/{turn}/events?ticket={of_turn}")).accept(Encoding::Sse));
    assert!(events.await.rest().await.last().unwrap().is_end());
    assert_eq!(get(&format!("/v1/turns/{turn}?ticket={of_turn}")).await.status, 200, "again");
    let mut feed = scene
        .client
        .open(Request::get(&format!("/v1/conversations/{conversation}/events?after=0&ticket={of_feed}")))
        .await;
    assert_eq!(feed.event().await.kind(), "turn.started");

    refused(&get(&format!("/v1/turns/{turn}?ticket={of_feed}")).await, 403, "forbidden");
    refused(&get(&format!("/v1/conversations/{other}?ticket={of_feed}")).await, 403, "forbidden");
    refused(&get(&format!("/v1/conversations?ticket={of_feed}")).await, 403, "forbidden");
    refused(&get(&format!("/v1/turns/{turn}?ticket={}x", of_turn)).await, 401, "authentication_required");
    for (method, target) in [
        ("POST", format!("/v1/turns/{turn}/stop?ticket={of_turn}")),
        ("DELETE", format!("/v1/conversations/{conversation}?ticket={of_feed}")),
        ("POST", format!("/v1/conversations/{conversation}/messages?ticket={of_feed}")),
    ] {
        let request = Request { method: method.into(), ..Request::post(&target, &json!({"content": "hi"})) };
        refused(&scene.client.send(request).await, 401, "authentication_required");
    }
    let bert = scene.bearing(&user("bert"));
    refused(&bert.post("/v1/tickets", &json!({"turn_id": turn})).await, 403, "forbidden");
    let abroad = scene.bearing(&scene.gateway.key("bank", "service").text);
    refused(&abroad.post("/v1/tickets", &json!({"turn_id": turn})).await, 404, "turn_not_found");
    refused(&anna.post("/v1/tickets", &json!({})).await, 422, "invalid_request");
    for secret in [of_turn, of_feed, user("anna")] {
        assert!(!scene.gateway.log().contains(&secret), "a secret is in the log");
    }
}

#[tokio::test]
async fn what_is_revoked_closes_its_streams_and_its_turns_go_on() {
    let scene = Scene::closed().await;
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    let key = scene.gateway.key("shop", "service");
    let service = scene.bearing(&key.text);
    let gate = Gate::new();
    for _ in 0..2 {
        scene.upstream.push(Script::new().stamped(3).gate(&gate).stamped(3).finish("stop").done());
    }
    let (for_anna, bert) = (service.with_header("tidegate-user", "anna"), scene.bearing(&user("bert")));
    let (one, two) = (for_anna.conversation().await, bert.conversation().await);
    let (mut first, mut second) = (for_anna.ask(&one, "go").await, bert.ask(&two, "go").await);
    let (turn, other) = (first.turn(), second.turn());
    let mut late = service.events(Encoding::Sse, &turn, 0).await;
    let waiting = Task::start({
        let (client, target) = (service.clone(), format!("/v1/turns/{turn}/events"));
        async move { client.get(&target).await }
    });
    gate.reached().await;
    while first.event().await.kind() != "delta" {}
    while late.event().await.kind() != "delta" {}
    eventually("everybody to read", async || (admin.readers().await == 4).then_some(())).await;

    // From another process: as another replica would.
    assert!(scene.gateway.keys(&["revoke", &key.id]).0);
    for stream in [&mut first, &mut late] {
        let last = stream.leavings().await.pop().unwrap();
        assert_eq!((last.kind(), &last.json["code"]), ("closed", &json!("revoked")), "{}", last.json);
    }
    refused(&waiting.join().await, 401, "authentication_required");
    refused(&service.get("/v1/models").await, 401, "authentication_required");

    let change = |active: bool| {
        let body = Some(json!({ "active": active }).to_string().into_bytes());
        Request { method: "PATCH".into(), body, ..Request::get("/v1/users/bert") }
            .header("content-type", "application/json")
    };
    let shown = admin.send(change(false)).await.expect(200);
    assert_eq!((&shown["id"], &shown["active"]), (&json!("bert"), &json!(false)));
    let last = second.leavings().await.pop().unwrap();
    assert_eq!((last.kind(), &last.json["code"]), ("closed", &json!("revoked")));
    refused(&bert.get("/v1/conversations").await, 403, "forbidden");
    gate.open();
    for turn in [turn, other] {
        let ended = admin.ended(&turn).await;
        assert_eq!(ended["status"], "completed", "what was asked goes on to its end");
    }
    admin.send(change(true)).await.expect(200);
    assert_eq!(bert.messages(&two).await.len(), 2, "and is there when they are let in again");
}

#[tokio::test]
async fn applications_are_taken_anew_at_a_hang_up() {
    let database = crate::support::Database::fresh().await;
    let setup = || Gateway::on(&database).demo().set("default_model", "demo").closed();
    let gateway = setup().start().await;
    let anna = gateway.client().bearing(&user("anna"));
    anna.get("/v1/models").await.expect(200);
    let mut applications = setup();
    applications = rename(applications);
    let line = gateway.reload(applications).await;
    assert!(line.contains("the applications"), "{line}");
    refused(&anna.get("/v1/models").await, 401, "authentication_required");
    let again = gateway.client().bearing(&signed("another secret of thirty-two bytes", &claims("anna")));
    again.get("/v1/models").await.expect(200);
}

/// The same applications; `shop` has another secret.
fn rename(setup: Setup) -> Setup {
    setup.set("applications.0.jwt_secret", "another secret of thirty-two bytes")
}

#[tokio::test]
async fn metrics_are_for_admins_where_callers_say_who_they_are() {
    let scene = Scene::closed().await;
    refused(&scene.client.get("/metrics").await, 401, "authentication_required");
    let service = scene.bearing(&scene.gateway.key("shop", "service").text);
    refused(&service.get("/metrics").await, 403, "forbidden");
    assert_eq!(scene.bearing(&scene.gateway.key("shop", "admin").text).get("/metrics").await.status, 200);
    let abroad = scene.bearing(&scene.gateway.key("bank", "admin").text);
    refused(&abroad.get("/metrics").await, 403, "forbidden");
    for public in ["/healthz", "/readyz", "/openapi.json", "/", "/docs/", "/events.schema.json", "/client.js"] {
        assert_eq!(scene.client.get(public).await.status, 200, "{public}");
    }
    // A token that is about to expire is good, one that has is not.
    let mut old = claims("anna");
    old["exp"] = json!(seconds_from_now(-120));
    refused(&scene.bearing(&signed(SHOP, &old)).get("/v1/models").await, 401, "authentication_required");
}

#[tokio::test]
async fn what_was_used_is_told_by_key_and_user_to_the_application_and_to_each_their_own() {
    let scene = Scene::closed().await;
    let key = scene.gateway.key("shop", "service");
    let (service, anna) = (scene.bearing(&key.text), scene.bearing(&user("anna")));
    for client in [&service, &service.with_header("tidegate-user", "anna"), &anna, &scene.bearing(&user("bert"))] {
        chat(client, "s").await;
    }
    let rows = async |client: &Client, group: &str| {
        let used = client.get(&format!("/v1/usage?group_by={group}")).await.expect(200);
        let rows = used["rows"].as_array().unwrap().clone();
        let row = |row: &Value| json!([row[group], row["calls"]]);
        (used["totals"]["calls"].as_u64().unwrap(), rows.iter().map(row).collect::<Vec<_>>())
    };
    let by_user = json!([[null, 1], ["anna", 2], ["bert", 1]]);
    assert_eq!(rows(&service, "user").await, (4, by_user.as_array().unwrap().clone()));
    assert_eq!(rows(&service, "key").await, (4, vec![json!([null, 2]), json!([key.id, 2])]));
    assert_eq!(rows(&anna, "user").await, (2, vec![json!(["anna", 2])]));
    for client in [&anna, &service.with_header("tidegate-user", "anna")] {
        assert_eq!(
            rows(client, "key").await,
            (2, vec![json!([null, 2])]),
            "what they are asked with is not theirs to know"
        );
    }
    let abroad = scene.bearing(&scene.gateway.key("bank", "admin").text);
    assert_eq!(rows(&abroad, "user").await, (0, Vec::new()));
}

#[tokio::test]
async fn a_request_whose_body_comes_after_the_revocation_does_nothing() {
    let scene = Scene::closed().await;
    let (key, other) = (scene.gateway.key("shop", "admin"), scene.bearing(&scene.gateway.key("shop", "admin").text));
    let body = json!({"role": "admin"}).to_string();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        key.text,
        body.len()
    );
    let mut socket = TcpStream::connect(scene.gateway.address()).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&body.as_bytes()[..5]).await.unwrap();
    // Whoever has been let in has been seen to use the key.
    eventually("the key's use", async || {
        let keys = other.get("/v1/keys").await.expect(200);
        let used = |one: &&Value| one["id"] == key.id.as_str() && !one["last_used_at"].is_null();
        keys["data"].as_array().unwrap().iter().find(used).map(|_| ())
    })
    .await;
    let revoke = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/keys/{}", key.id)) };
    assert_eq!(other.send(revoke).await.status, 204);
    socket.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(other.get("/v1/keys").await.expect(200)["data"].as_array().unwrap().len(), 2, "no key was made");
}

#[tokio::test]
async fn a_widgets_page_uses_nobodys_cookie_and_signs_nobody_in() {
    let scene = Scene::closed().await;
    let anna = user("anna");
    let page = scene.client.with_header("origin", PAGE).with_header("sec-fetch-mode", "cors");
    let page = page.with_header("sec-fetch-site", "same-site");
    let reply = page.bearing(&anna).post("/v1/session", &json!({})).await;
    refused(&reply, 403, "cross_site_request");
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    let with = page.with_header("cookie", &format!("tidegate_session={anna}"));
    refused(&with.get("/v1/conversations").await, 401, "authentication_required");
    // Where a browser does not say who asks, what it says of the page's origin is heard.
    let old = scene.client.with_header("cookie", &format!("tidegate_session={anna}"));
    refused(
        &old.with_header("origin", "https://evil.example").get("/v1/conversations").await,
        401,
        "authentication_required",
    );
    assert_eq!(old.get("/v1/conversations").await.status, 200);
    // Whoever shows a token means to be that one.
    refused(&old.bearing("nonsense").get("/v1/conversations").await, 401, "authentication_required");
}
