//! Requests a minute and open streams: of an application, and of each key, user, visitor and address.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::access::user;
use crate::support::{Client, Encoding, Gate, Gateway, Reply, Request, Scene, Script, Setup, eventually};

/// A gateway whose application `shop` has these limits, and that believes a proxy on loopback.
async fn limited(limits: &[(&str, i64)]) -> Scene {
    Scene::with(|setup| with(setup.closed(), limits)).await
}

fn with(setup: Setup, limits: &[(&str, i64)]) -> Setup {
    let setup = setup.set("http.trusted_proxies", vec!["127.0.0.1"]);
    limits.iter().fold(setup, |setup, (path, most)| setup.set(&format!("applications.0.limits.{path}"), *most))
}

/// The members of a list of strings with parameters (RFC 9651), by name. Whatever else fails the test.
fn members(reply: &Reply, header: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let line = reply.header(header).unwrap_or_else(|| panic!("no {header}: {:?}", reply.headers));
    let member = |member: &str| {
        let mut parts = member.split(';');
        let name = parts.next().unwrap().strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{line}");
        let parameters = parts.map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap();
            assert!(value.parse::<u64>().is_ok() || value == "\"concurrent-requests\"", "{line}");
            (key.to_owned(), value.to_owned())
        });
        (name.to_owned(), parameters.collect())
    };
    line.split(", ").map(member).collect()
}

/// Fails unless it is the refusal of that limit, with all that a client needs to come back in time.
#[track_caller]
fn refused(reply: &Reply, scope: &str, limit: &str, policy: &str) {
    let problem = reply.expect(429);
    let said = (&problem["code"], &problem["scope"], &problem["limit"]);
    assert_eq!(said, (&json!("rate_limited"), &json!(scope), &json!(limit)), "{problem}");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(members(reply, "ratelimit-policy").contains_key(policy));
    assert_eq!(members(reply, "ratelimit")[policy]["r"], "0");
}

fn from(client: &Client, address: &str) -> Client {
    client.with_header("x-forwarded-for", address)
}

#[tokio::test]
async fn of_two_hundred_at_once_as_many_are_let_in_as_may_be() {
    let scene = limited(&[("requests_per_minute", 50)]).await;
    let anna = scene.bearing(&user("anna"));
    let begun = Instant::now();
    let replies = join_all((0..200).map(|_| anna.get("/v1/models"))).await;
    // One comes back every 1.2 s.
    let back = usize::try_from(begun.elapsed().as_millis() / 1200).unwrap();
    let (let_in, others): (Vec<&Reply>, Vec<&Reply>) = replies.iter().partition(|reply| reply.status == 200);
    assert!((50..=50 + back).contains(&let_in.len()), "{} of 50 and {back}", let_in.len());
    for reply in others {
        refused(reply, "application", "requests_per_minute", "application-requests");
    }
    let policy = &members(let_in[0], "ratelimit-policy")["application-requests"];
    assert_eq!((policy["q"].as_str(), policy["w"].as_str()), ("50", "60"));
    let least =
        let_in.iter().map(|reply| members(reply, "ratelimit")["application-requests"]["r"].parse::<u64>().unwrap());
    assert_eq!(least.min(), Some(0), "each is told what is left");
    // What is no part of the API goes on, and so do other applications.
    for path in ["/healthz", "/readyz", "/"] {
        let reply = anna.get(path).await;
        assert_eq!((reply.status, reply.header("ratelimit")), (200, None), "{path}");
    }
    let bank = scene.bearing(&scene.gateway.key("bank", "read").text).get("/v1/models").await;
    assert_eq!((bank.status, bank.header("ratelimit")), (200, None));
}

#[tokio::test]
async fn each_one_of_a_scope_has_a_bound_of_its_own() {
    let scene = limited(&[
        ("requests_per_minute", 100),
        ("per_user.requests_per_minute", 3),
        ("per_visitor.requests_per_minute", 2),
        ("per_key.requests_per_minute", 4),
    ])
    .await;
    let key = scene.bearing(&scene.gateway.key("shop", "service").text);
    let (anna, bert) = (scene.bearing(&user("anna")), scene.bearing(&user("bert")));
    for _ in 0..3 {
        anna.get("/v1/models").await.expect(200);
    }
    refused(&anna.get("/v1/models").await, "user", "requests_per_minute", "user-requests");
    let reply = bert.get("/v1/models").await;
    reply.expect(200);
    assert!(!reply.header("ratelimit").unwrap().contains("bert"), "nobody's name is in a policy's");
    // Who is refused has used up nothing of the application's.
    let left = |reply: &Reply| members(reply, "ratelimit")["application-requests"]["r"].parse::<u64>().unwrap();
    let before = left(&bert.get("/v1/models").await);
    for _ in 0..10 {
        anna.get("/v1/models").await.expect(429);
    }
    assert!(left(&key.get("/v1/models").await) >= before - 1);
    // A key that acts for a user counts as both.
    let for_bert = key.with_header("tidegate-user", "bert");
    for_bert.get("/v1/models").await.expect(200);
    refused(&for_bert.get("/v1/models").await, "user", "requests_per_minute", "user-requests");
    key.get("/v1/models").await.expect(200);
    key.get("/v1/models").await.expect(200);
    refused(&key.get("/v1/models").await, "key", "requests_per_minute", "key-requests");
    let visitor = scene.bearing(&scene.visitor("wk_shop").await);
    visitor.get("/v1/models").await.expect(200);
    let counted = (visitor.get("/v1/models").await.status, visitor.get("/v1/models").await.status);
    assert!(matches!(counted, (200 | 429, 429)), "{counted:?}");
}

#[tokio::test]
async fn an_address_is_bounded_by_the_network_it_stands_for_and_those_who_guess_with_it() {
    let scene = limited(&[("per_address.requests_per_minute", 5)]).await;
    let anna = scene.bearing(&user("anna"));
    for at in 1..=5 {
        from(&anna, &format!("2001:db8:0:1::{at}")).get("/v1/models").await.expect(200);
    }
    let neighbour = from(&anna, "2001:db8:0:1:ffff::1").get("/v1/models").await;
    refused(&neighbour, "address", "requests_per_minute", "address-requests");
    from(&anna, "2001:db8:0:2::1").get("/v1/models").await.expect(200);
    // Visitors made one after another are many; the address is one.
    let widget = from(&scene.through("wk_shop"), "192.0.2.1");
    for _ in 0..5 {
        widget.get("/v1/models").await.expect(200);
    }
    refused(&widget.get("/v1/models").await, "address", "requests_per_minute", "address-requests");
    let more = widget.post("/v1/visitors", &json!({"widget_key": "wk_shop"})).await;
    refused(&more, "address", "requests_per_minute", "address-requests");
    // Guesses are counted as well; whoever shares the address and shows something good is let in, and so do pages nobody knows.
    for _ in 0..10 {
        from(&scene.client, "192.0.2.9").get("/v1/models").await.expect(401);
    }
    let guess = from(&scene.bearing("tg_0123456789abcdef_guess"), "192.0.2.9");
    for _ in 0..5 {
        guess.get("/v1/models").await.expect(401);
    }
    refused(&guess.get("/v1/models").await, "address", "requests_per_minute", "address-requests");
    from(&anna, "192.0.2.9").get("/v1/models").await.expect(200);
    from(&guess, "192.0.2.10").get("/v1/models").await.expect(401);
    // Nor do many at once get further. One comes back every 12 s.
    let (many, begun) = (from(&guess, "192.0.2.12"), Instant::now());
    let replies = join_all((0..100).map(|_| many.get("/v1/models"))).await;
    let looked_at = replies.iter().filter(|reply| reply.status == 401).count() as u64;
    assert!((5..=5 + begun.elapsed().as_secs() / 12).contains(&looked_at), "{looked_at}");
    assert!(replies.iter().all(|reply| matches!(reply.status, 401 | 429)));
    from(&anna, "192.0.2.11").get("/v1/models").await.expect(200);
    assert_eq!(from(&guess, "192.0.2.9").get("/healthz").await.status, 200);
}

#[tokio::test]
async fn what_is_beyond_a_limit_fills_no_log() {
    let scene = limited(&[("per_user.requests_per_minute", 4)]).await;
    let anna = scene.bearing(&user("anna"));
    let session = anna.post("/v1/session", &json!({})).await;
    let cookie = session.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let page = scene.client.with_header("cookie", &cookie);
    for _ in 0..20 {
        let out = page.send(Request { method: "DELETE".into(), ..Request::get("/v1/session") }).await;
        assert_eq!(out.status, 204, "whoever signs out does so");
        anna.get("/v1/audit").await;
    }
    let rows = "select count(*) from audit";
    assert!((2..=4).contains(&scene.database.numbers(rows).await[0]));
}

#[tokio::test]
async fn an_event_source_is_told_in_a_way_it_survives() {
    let scene = limited(&[("per_user.requests_per_minute", 3)]).await;
    let anna = scene.bearing(&user("anna"));
    let turn = anna.post("/v1/chat/stream", &json!({"message": "hi", "session_id": "s"})).await.expect(200);
    let turn = turn["turn_id"].as_str().unwrap();
    let events = Request::get(&format!("/v1/turns/{turn}/events")).accept(Encoding::Sse);
    assert_eq!(anna.send(events.clone()).await.status, 200);
    assert_eq!(anna.get("/v1/models").await.status, 200);
    for request in [events, Request::get("/v1/chat/stream?message=a&key=b").accept(Encoding::Sse)] {
        let reply = anna.send(request).await;
        let text = String::from_utf8_lossy(&reply.bytes).into_owned();
        assert_eq!(reply.status, 200);
        assert!(text.starts_with(": rate_limited\nretry: ") && text.ends_with("\n\n"), "{text:?}");
        let retry: u64 = text.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        assert!((1..=20_000).contains(&retry), "{retry}");
    }
    let reply = anna.get(&format!("/v1/turns/{turn}")).await;
    refused(&reply, "user", "requests_per_minute", "user-requests");
}

#[tokio::test]
async fn a_visitor_has_so_many_streams_open_and_no_more() {
    let scene = limited(&[("streams_per_visitor", 2), ("per_user.streams", 1)]).await;
    let gate = Gate::new();
    scene.upstream.always(Script::new().stamped(1).gate(&gate).finish("stop").usage(1, 1).done());
    let (one, other) = (scene.bearing(&scene.visitor("wk_shop").await), scene.bearing(&scene.visitor("wk_shop").await));
    let body = json!({"message": "hi", "session_id": "s"});
    let mut asked = one.open(Request::post("/v1/chat/stream", &body).accept(Encoding::Ndjson)).await;
    asked.event().await;
    let events = Request::get(&format!("/v1/turns/{}/events", asked.turn()));
    let mut second = one.open(events.clone().accept(Encoding::Sse)).await;
    second.event().await;
    let third = one.send(events.clone().accept(Encoding::Ndjson)).await;
    refused(&third, "visitor", "streams_per_visitor", "visitor-streams");
    let third = one.send(events.clone().accept(Encoding::Sse)).await;
    assert!(String::from_utf8_lossy(&third.bytes).starts_with(": rate_limited\n"));
    // A turn that nobody could be shown is not begun.
    let calls = scene.upstream.calls().len();
    let more = Request::post("/v1/chat/stream", &json!({"message": "no", "session_id": "t"}));
    refused(&one.send(more.accept(Encoding::Ndjson)).await, "visitor", "streams_per_visitor", "visitor-streams");
    assert_eq!(scene.upstream.calls().len(), calls);
    // What is no stream is none, and another visitor has their own.
    one.get("/v1/chat/s/history").await.expect(200);
    let mut others = other.open(Request::post("/v1/chat/stream", &body).accept(Encoding::Ndjson)).await;
    others.event().await;
    second.leave();
    let again = eventually("the place of a stream that was left", async || {
        let stream = one.open(events.clone().accept(Encoding::Ndjson)).await;
        (stream.status() == 200).then_some(stream)
    });
    let mut again = again.await;
    gate.open();
    assert!(asked.rest().await.last().unwrap().is_end());
    assert!(again.rest().await.last().unwrap().is_end());
    others.rest().await;
    // A ticket reads as its owner; a conversation's feed is a stream like another.
    let anna = scene.bearing(&user("anna"));
    let conversation = anna.conversation().await;
    let ticket = anna.post("/v1/tickets", &json!({"conversation_id": conversation})).await.expect(200);
    let feed = format!("/v1/conversations/{conversation}/events");
    let by_ticket = Request::get(&format!("{feed}?ticket={}", ticket["ticket"].as_str().unwrap()));
    let _held = scene.client.open(by_ticket.accept(Encoding::Ndjson)).await;
    refused(&anna.send(Request::get(&feed).accept(Encoding::Ndjson)).await, "user", "streams", "user-streams");
}

#[tokio::test]
async fn with_auth_off_the_one_application_and_addresses_are_bounded() {
    let limits = [("requests_per_minute", 4), ("per_address.requests_per_minute", 2)];
    let scene = Scene::with(|setup| {
        let application = toml::toml! { name = "default" };
        with(setup.set("applications", vec![application]), &limits)
    })
    .await;
    let at = |address: &str| from(&scene.client, address);
    at("192.0.2.1").get("/v1/models").await.expect(200);
    at("192.0.2.1").get("/v1/models").await.expect(200);
    refused(&at("192.0.2.1").get("/v1/models").await, "address", "requests_per_minute", "address-requests");
    at("192.0.2.2").get("/v1/models").await.expect(200);
    at("192.0.2.3").get("/v1/models").await.expect(200);
    refused(&at("192.0.2.4").get("/v1/models").await, "application", "requests_per_minute", "application-requests");
}

#[tokio::test]
async fn limits_are_read_again_and_one_that_would_do_nothing_is_refused() {
    let scene = limited(&[("per_user.requests_per_minute", 2)]).await;
    let anna = scene.bearing(&user("anna"));
    for _ in 0..2 {
        anna.get("/v1/models").await.expect(200);
    }
    anna.get("/v1/models").await.expect(429);
    let again = |limits: &[(&str, i64)]| {
        let setup = Gateway::on(&scene.database).upstream(&scene.upstream).closed();
        with(setup, limits)
    };
    let said = scene.gateway.reload(again(&[("per_user.requests_per_minute", 100)])).await;
    assert!(said.contains("the applications"), "{said}");
    anna.get("/v1/models").await.expect(200);
    let said = scene.gateway.reload(again(&[("budget_soft_percent", 101)])).await;
    assert!(said.contains("applications.0.limits.budget_soft_percent"), "{said}");
    anna.get("/v1/models").await.expect(200);
    let off = with(again(&[("per_user.streams", 1)]), &[]).set("auth.mode", "off");
    let (code, said) = off.fails().await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("`applications.0.limits.per_user.streams` has no effect while auth is off"), "{said}");
    let _: Value = anna.get("/v1/models").await.expect(200);
}

#[tokio::test]
async fn whoever_is_refused_a_feed_has_read_nothing() {
    let scene = limited(&[("per_user.streams", 1)]).await;
    let gate = Gate::new();
    scene.upstream.push(Script::new().stamped(1).gate(&gate).finish("stop").usage(1, 1).done());
    let anna = scene.bearing(&user("anna"));
    let feed = |of: &str| Request::get(&format!("/v1/conversations/{of}/events")).accept(Encoding::Ndjson);
    let open = anna.open(feed(&anna.conversation().await)).await;
    assert_eq!(open.status(), 200);
    let conversation = anna.conversation().await;
    let body = json!({"content": "go", "on_disconnect": "cancel"});
    let ask = Request::post(&format!("/v1/conversations/{conversation}/messages"), &body);
    let turn = anna.send(ask.header("prefer", "respond-async")).await.expect(202)["id"].clone();
    gate.reached().await;
    refused(&anna.send(feed(&conversation)).await, "user", "streams", "user-streams");
    // Longer than it takes to end a turn whose last reader has left.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.open();
    assert_eq!(anna.ended(turn.as_str().unwrap()).await["status"], "completed");
}
