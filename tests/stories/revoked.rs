//! What ends with what let its reader in.

use serde_json::json;
use toml::Value;

use crate::support::access::user;
use crate::support::{Closing, Encoding, Gateway, Request, Scene, Setup, Stream};

/// Reads on to the close, which must say that the reader is let in no more.
async fn assert_revoked(stream: &mut Stream) {
    let last = stream.leavings().await.pop().expect("a word before the close");
    assert_eq!((last.kind(), &last.json["code"]), ("closed", &json!("revoked")), "{}", last.json);
}

#[tokio::test]
async fn streams_end_with_the_application_the_widget_or_the_leave_that_let_them_in() {
    let closed = |setup: Setup| setup.closed().set("metrics.application", "bank");
    let scene = Scene::with(closed).await;
    let key = scene.gateway.key("shop", "service").text;
    let anna = scene.bearing(&user("anna"));
    let service = scene.bearing(&key);
    let small = scene.bearing(&scene.visitor("wk_small").await);
    let other = scene.bearing(&scene.visitor("wk_shop").await);
    let abroad = scene.bearing(&scene.visitor("wk_bank").await);
    let neighbour = scene.bearing(&scene.gateway.key("bank", "service").text);
    let mut feeds = Vec::new();
    for client in [&small, &other, &abroad, &anna, &service, &neighbour] {
        let conversation = client.conversation().await;
        let target = format!("/v1/conversations/{conversation}/events");
        feeds.push((client.open(Request::get(&target).accept(Encoding::Ndjson)).await, client, conversation));
    }
    let conversation = feeds[3].2.clone();
    let ticket = anna.post("/v1/tickets", &json!({ "conversation_id": conversation })).await.expect(200);
    let target = format!("/v1/conversations/{conversation}/events?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut by_ticket = scene.client.open(Request::get(&target).accept(Encoding::Sse)).await;

    let settings = || closed(Gateway::on(&scene.database).upstream(&scene.upstream));
    let only_small = |setup: Setup| {
        let widget = toml::toml! { key = "wk_small" origins = ["https://shop.example"] models = ["small-*"] };
        setup.set("applications.0.widgets", vec![Value::Table(widget)])
    };
    // Each of them tells those whom it concerns, and nobody else.
    let steps: [(&dyn Fn() -> Setup, &[usize]); 3] = [
        (&|| only_small(settings()), &[1]),
        (&|| only_small(settings()).set("applications.1.visitors", false), &[2]),
        (&|| settings().set("applications.0.name", "store"), &[0, 3, 4]),
    ];
    let mut open: Vec<usize> = (0..feeds.len()).collect();
    for (step, (setup, ended)) in steps.into_iter().enumerate() {
        scene.gateway.reload(setup()).await;
        for at in ended {
            assert_revoked(&mut feeds[*at].0).await;
        }
        open.retain(|at| !ended.contains(at));
        for at in &open {
            let (feed, client, conversation) = &mut feeds[*at];
            let change = json!({ "title": format!("after step {step}") }).to_string().into_bytes();
            let request = Request {
                method: "PATCH".into(),
                body: Some(change),
                ..Request::get(&format!("/v1/conversations/{conversation}"))
            };
            client.send(request.header("content-type", "application/json")).await.expect(200);
            assert_eq!(feed.event().await.kind(), "conversation.updated", "reader {at} after step {step}");
        }
    }
    assert_eq!(open, [5]);
    assert_revoked(&mut by_ticket).await;
}

#[tokio::test]
async fn a_visitors_ticket_goes_with_the_widget_they_came_through() {
    let scene = Scene::closed().await;
    let small = scene.bearing(&scene.visitor("wk_small").await);
    let other = scene.bearing(&scene.visitor("wk_shop").await);
    let mut feeds = Vec::new();
    for client in [&small, &other] {
        let conversation = client.conversation().await;
        let ticket = client.post("/v1/tickets", &json!({ "conversation_id": conversation })).await.expect(200);
        let path = format!("/v1/conversations/{conversation}");
        let shown = format!("ticket={}", ticket["ticket"].as_str().unwrap());
        let target = format!("{path}/events?{shown}");
        let feed = scene.client.open(Request::get(&target).accept(Encoding::Ndjson)).await;
        assert_eq!(feed.status(), 200);
        feeds.push((feed, format!("{path}?{shown}")));
    }
    let widget = toml::toml! { key = "wk_small" origins = ["https://shop.example"] models = ["small-*"] };
    let setup = Gateway::on(&scene.database).upstream(&scene.upstream).closed();
    scene.gateway.reload(setup.set("applications.0.widgets", vec![Value::Table(widget)])).await;
    assert_revoked(&mut feeds[1].0).await;
    let refused = scene.client.get(&feeds[1].1).await;
    assert_eq!(refused.expect(401)["code"], "authentication_required");
    scene.client.get(&feeds[0].1).await.expect(200);
}

#[tokio::test]
async fn keys_of_an_application_that_is_gone_are_seen_and_can_be_revoked() {
    let scene = Scene::with(|setup| setup.closed().set("metrics.application", "bank")).await;
    let (key, other) = (scene.gateway.key("shop", "admin"), scene.gateway.key("bank", "admin"));
    let path = scene.gateway.home().join("tidegate.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, settings.replace("\"shop\"", "\"store\"")).unwrap();
    let listed = |id: &str| {
        let (well, said) = scene.gateway.keys(&["list"]);
        assert!(well, "{said}");
        said.lines().find(|line| line.starts_with(id)).unwrap().to_owned()
    };
    assert!(listed(&key.id).contains("its application is not in the settings"), "{}", listed(&key.id));
    assert!(!listed(&other.id).contains("not in the settings"), "{}", listed(&other.id));
    assert!(scene.gateway.keys(&["revoke", &key.id]).0);
    assert!(listed(&key.id).contains("revoked"));
    assert!(!scene.gateway.keys(&["revoke", "key_unknown"]).0);
    // Should the application come back, its key does not: the gateway still has it.
    let reply = scene.bearing(&key.text).get("/v1/models").await;
    assert_eq!((reply.status, scene.bearing(&other.text).get("/v1/models").await.status), (401, 200));
}

#[tokio::test]
async fn a_file_is_cut_short_when_its_reader_is_revoked() {
    let scene = Scene::closed().await;
    let key = scene.gateway.key("shop", "service");
    let service = scene.bearing(&key.text);
    let conversation = service.conversation().await;
    for _ in 0..12 {
        // More than what lies between two ends of a connection.
        service.ask_whole(&conversation, &"a tide ".repeat(130_000)).await;
    }
    let mut files = Vec::new();
    for format in ["json", "markdown"] {
        let target = format!("/v1/conversations/{conversation}/export?format={format}");
        let file = service.open(Request { window: Some(4096), ..Request::get(&target) }).await;
        assert_eq!(file.status(), 200);
        files.push(file);
    }
    let target = format!("/v1/conversations/{conversation}/events");
    let mut feed = service.open(Request::get(&target).accept(Encoding::Ndjson)).await;
    assert!(scene.gateway.keys(&["revoke", &key.id]).0);
    assert_revoked(&mut feed).await;
    for mut file in files {
        assert_eq!(file.read_to_close().await, Closing::Cut);
    }
}
