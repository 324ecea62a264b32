//! The gateway under TLS.

use std::time::Duration;

use reqwest::{Response, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Certificate, Gate, Gateway, Scene, Script, Setup, eventually, within};

/// A gateway under TLS, with one upstream.
async fn scene() -> (Certificate, Scene) {
    let certificate = Certificate::fresh();
    let scene = Scene::with(|setup| setup.tls(&certificate)).await;
    (certificate, scene)
}

async fn ask(client: &reqwest::Client, scene: &Scene, question: &str) -> Response {
    let request = client.post(format!("{}/v1/chat/stream", scene.gateway.url())).json(&json!({ "message": question }));
    let answer = within("a stream to begin", request.send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// Reads until `text` has come.
async fn until(answer: &mut Response, seen: &mut String, text: &str) {
    while !seen.contains(text) {
        let chunk = within("a chunk", answer.chunk()).await.unwrap().unwrap_or_else(|| panic!("it ends: {seen}"));
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

async fn rest(answer: &mut Response, seen: &mut String) {
    while let Some(chunk) = within("a chunk", answer.chunk()).await.unwrap() {
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

fn last(ndjson: &str) -> Value {
    serde_json::from_str(ndjson.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn each_delta_comes_at_once_in_both_versions_of_http() {
    let (certificate, scene) = scene().await;
    for (client, version) in
        [(certificate.client(), Version::HTTP_2), (certificate.client().http1_only(), Version::HTTP_11)]
    {
        let client = client.build().unwrap();
        // Twice: the second goes over the connection of the first, or beside it.
        for _ in 0..2 {
            let gate = Gate::new();
            let script = Script::new().delta("one").gate(&gate).delta("two").gate(&gate).delta("three");
            scene.upstream.push(script.finish("stop").done());
            let (mut answer, mut seen) = (ask(&client, &scene, "Count.").await, String::new());
            assert_eq!(answer.version(), version);
            for word in ["one", "two"] {
                until(&mut answer, &mut seen, &format!("\"{word}\"")).await;
                gate.pass(1);
            }
            rest(&mut answer, &mut seen).await;
            let end = last(&seen);
            assert_eq!(
                (&end["type"], &end["status"], &end["saved"]),
                (&json!("turn.finished"), &json!("completed"), &json!(true))
            );
        }
    }
}

#[tokio::test]
async fn a_connection_goes_on_after_a_stream() {
    let (certificate, scene) = scene().await;
    let mut connection = certificate.connect(&scene.gateway).await;
    for _ in 0..2 {
        let body = r#"{"message":"Hello!"}"#;
        let request = format!(
            "POST /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n0\r\n\r\n") {
            assert!(within("the stream", connection.read_buf(&mut seen)).await.unwrap() > 0);
        }
        assert!(String::from_utf8(seen).unwrap().contains("\"turn.finished\""));
    }
    connection.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // A missing close_notify would be an error.
    within("the last answer", connection.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_reader_is_gone_with_or_without_a_farewell() {
    let certificate = Certificate::fresh();
    let scene = Scene::with(|setup| setup.set("stream.on_disconnect", "cancel").tls(&certificate)).await;
    for (call, farewell) in [true, false].into_iter().enumerate() {
        scene.upstream.push(Script::new().delta("one").hang());
        let mut connection = certificate.connect(&scene.gateway).await;
        let request = b"GET /v1/chat/stream?message=hi&key=";
        connection.write_all(request).await.unwrap();
        connection.write_all(format!("{call} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("\"one\"") {
            assert!(within("the stream", connection.read_buf(&mut seen)).await.unwrap() > 0);
        }
        if farewell {
            connection.shutdown().await.unwrap();
        } else {
            drop(connection.into_inner().0);
        }
        scene.upstream.call(call).await.closed().await;
    }
}

#[tokio::test]
async fn a_reader_that_takes_no_byte_is_gone() {
    let certificate = Certificate::fresh();
    let set = |setup: Setup| setup.set("stream.on_disconnect", "cancel").set("limits.reader_stall_s", 1);
    // So much that only the reader can be the cause.
    let set = |setup| set(setup).set("limits.max_answer_bytes", 1_i64 << 30);
    let scene = Scene::with(|setup| set(setup).tls(&certificate)).await;
    let much = |_| "x".repeat(16 << 10);
    scene.upstream.push(Script::new().delta("one").deltas(4096, Duration::from_millis(1), much).hang());
    let mut connection = certificate.connect(&scene.gateway).await;
    connection.write_all(b"GET /v1/chat/stream?message=hi&key=1 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"one\"") {
        assert!(within("the stream", connection.read_buf(&mut seen)).await.unwrap() > 0);
    }
    scene.upstream.call(0).await.closed().await;
    let head = String::from_utf8_lossy(&seen).into_owned();
    let turn = head.lines().find_map(|line| line.strip_prefix("turn-id: ")).unwrap();
    let (client, target) = (certificate.client().build().unwrap(), format!("{}/v1/turns/{turn}", scene.gateway.url()));
    let stopped_by = eventually("the turn's end", async || {
        let turn: Value = client.get(&target).send().await.unwrap().json().await.unwrap();
        turn["message"]["stopped_by"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(stopped_by, "disconnect");
    drop(connection);
}

#[tokio::test]
async fn a_reader_comes_back_where_it_was() {
    let (certificate, scene) = scene().await;
    let client = certificate.client().build().unwrap();
    let gate = Gate::new();
    scene.upstream.push(Script::new().delta("one").gate(&gate).delta("two").finish("stop").done());
    let (mut first, mut seen) = (ask(&client, &scene, "Count.").await, String::new());
    until(&mut first, &mut seen, "\"one\"").await;
    let turn = first.headers()["turn-id"].to_str().unwrap().to_owned();
    let cursor = last(seen.trim_end())["seq"].as_u64().unwrap();
    drop(first);
    let events = client.get(format!("{}/v1/turns/{turn}/events", scene.gateway.url()));
    let events = events.header("accept", "text/event-stream").header("last-event-id", cursor.to_string());
    let (mut second, mut seen) = (within("a resume", events.send()).await.unwrap(), String::new());
    until(&mut second, &mut seen, "retry: 1000").await;
    gate.open();
    rest(&mut second, &mut seen).await;
    assert!(seen.contains(&format!("id: {}\n", cursor + 1)) && !seen.contains("\"one\""), "{seen}");
    assert!(seen.contains("\"two\"") && seen.contains("\"turn.finished\""), "{seen}");
}

#[tokio::test]
async fn a_renewed_certificate_is_for_new_handshakes_and_the_open_stream_goes_on() {
    let (mut certificate, scene) = scene().await;
    let url = format!("{}/healthz", scene.gateway.url());
    let knows = async |client: reqwest::ClientBuilder| {
        let client = client.build().unwrap();
        within("an answer", client.get(&url).send()).await.is_ok()
    };
    let gate = Gate::new();
    scene.upstream.push(Script::new().delta("one").gate(&gate).delta("two").finish("stop").done());
    let old = certificate.client();
    let (mut answer, mut seen) = (ask(&old.build().unwrap(), &scene, "Count.").await, String::new());
    until(&mut answer, &mut seen, "\"one\"").await;

    let old = certificate.client();
    certificate.renew();
    let new = certificate.client();
    let line = scene.gateway.hang_up().await;
    assert!(line.contains("the certificate"), "{line}");
    assert!(knows(new).await);
    assert!(!knows(old).await);

    certificate.spoil();
    let line = scene.gateway.hang_up().await;
    assert!(line.contains("nothing is reloaded: `tls.key_file` holds no private key"), "{line}");
    assert!(knows(certificate.client()).await);

    // Without it in the settings, and its files unusable, the port goes on as it began.
    let plain = Gateway::on(&scene.database).upstream(&scene.upstream);
    let line = scene.gateway.reload(plain).await;
    assert!(line.contains("reloaded the upstreams (fake0)") && !line.contains("certificate"), "{line}");
    assert!(knows(certificate.client()).await);

    gate.open();
    rest(&mut answer, &mut seen).await;
    assert_eq!(last(&seen)["status"], "completed");
}
