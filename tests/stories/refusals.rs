//! What is refused: by which status, in which words, and with nothing left behind.

use serde_json::{Value, json};

use crate::support::{Client, Encoding, Reply, Request, Scene};

const STREAM: &str = "/v1/chat/stream";

/// Fails unless it is a whole problem document (RFC 9457) with that code.
#[track_caller]
fn assert_problem(reply: &Reply, status: u16, code: &str) -> Value {
    let problem = reply.expect(status);
    assert_eq!((problem["code"].as_str(), &problem["status"]), (Some(code), &json!(status)), "{problem}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(problem["request_id"].as_str(), reply.header("request-id"));
    for text in ["type", "title", "detail", "timestamp"] {
        assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "`{text}`: {problem}");
    }
    assert_eq!(
        (reply.header("cache-control"), reply.header("x-content-type-options")),
        (Some("no-store"), Some("nosniff"))
    );
    assert_eq!(reply.header("retry-after").is_some(), matches!(status, 429 | 503), "{problem}");
    problem
}

fn body(bytes: impl Into<Vec<u8>>) -> Request {
    let request = Request { method: "POST".into(), body: Some(bytes.into()), ..Request::get(STREAM) };
    request.header("content-type", "application/json")
}

/// Nothing was asked of the model, and nothing is in the record.
async fn assert_nothing(scene: &Scene) {
    assert_eq!(scene.upstream.calls().len(), 0);
    for table in ["conversations", "turns", "messages", "idempotency_keys"] {
        assert_eq!(scene.database.numbers(&format!("select count(*) from {table}")).await, [0], "{table}");
    }
}

#[tokio::test]
async fn what_is_not_json_is_a_400() {
    let scene = Scene::new().await;
    let deep = "[".repeat(100_000);
    for bad in [
        &b""[..],
        b"{",
        b"{}x",
        b"{\"message\":\"\xff\"}",
        b"{\"message\":\"\\ud83d\"}",
        b"{\"message\":\"\\ude00\\ud83d\"}",
        b"{\"message\":\"a\",\"message\":\"b\"}",
        b"{\"message\":\"a\nb\"}",
        b"{\"message\":NaN}",
        b"{'message':'a'}",
        b"\xef\xbb\xbf{\"message\":\"a\"}",
        deep.as_bytes(),
    ] {
        assert_problem(&scene.client.send(body(bad)).await, 400, "invalid_json");
    }
    for no_object in ["[]", "null", "7", "\"message\"", "[{\"message\":\"hi\"}]"] {
        assert_problem(&scene.client.send(body(no_object)).await, 422, "invalid_request");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"] {
        let mut request = body(json!({"message": "hi"}).to_string());
        request.headers = vec![("content-type".into(), kind.into())];
        assert_problem(&scene.client.send(request).await, 415, "unsupported_media_type");
    }
    let bare = Request { headers: Vec::new(), ..body(json!({"message": "hi"}).to_string()) };
    assert_problem(&scene.client.send(bare).await, 415, "unsupported_media_type");
    assert_nothing(&scene).await;
    let charset = Request { headers: Vec::new(), ..body(json!({"message": "\u{0}😀"}).to_string()) };
    let charset =
        charset.header("content-type", "Application/JSON; charset=utf-8").header("accept", "application/json");
    scene.client.send(charset).await.expect(200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_told_so() {
    let scene = Scene::with(|setup| setup.set("limits.max_body_bytes", 4096)).await;
    let message = |length: usize| {
        let frame = json!({"message": ""}).to_string().len();
        json!({"message": "x".repeat(length - frame)}).to_string()
    };
    for length in [4097, 5000, 8192, 1 << 20] {
        for client in [scene.client.clone(), scene.client.over_http2()] {
            assert_problem(&client.send(body(message(length))).await, 413, "body_too_large");
        }
    }
    assert_nothing(&scene).await;
    let fits = body(message(4096)).header("accept", "application/json");
    scene.client.send(fits).await.expect(200);
    // Chunked, so that nobody can tell beforehand.
    let chunk = format!("{:x}\r\n{}\r\n", 5000, "x".repeat(5000));
    let head = "POST /v1/chat/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let answer = scene.client.raw(format!("{head}{chunk}0\r\n\r\n").as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn what_is_not_there_and_what_a_path_does_not_take_is_told() {
    let scene = Scene::new().await;
    let send =
        |method: &str, target: &str| scene.client.send(Request { method: method.into(), ..Request::get(target) });
    for target in
        ["/v1", "/v1/", "/v1/none", "/v1/turns", "/none", "/v1/conversations/x/none", "/v1/chat", "//v1/models"]
    {
        assert_problem(&send("GET", target).await, 404, "route_not_found");
    }
    for (method, target, allow) in [
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/turns/x", "GET"),
        ("GET", "/v1/turns/x/stop", "POST"),
        ("PUT", "/v1/conversations/x/messages", "GET"),
        ("GET", "/v1/chat/s", "DELETE"),
        ("PATCH", "/v1/chat/stream", "GET"),
    ] {
        let reply = send(method, target).await;
        assert_problem(&reply, 405, "method_not_allowed");
        let named = reply.header("allow").unwrap_or_default();
        assert!(named.split(',').any(|one| one.trim() == allow), "{method} {target}: {named}");
    }
    // A HEAD starts nothing, not even with all that a GET would need.
    for target in ["/v1/chat/stream?message=hi&key=k", "/v1/turns/x/events", "/v1/conversations/x/events"] {
        let head = send("HEAD", target).await;
        assert_eq!((head.status, head.bytes.len(), head.header("allow").is_some()), (405, 0, true), "{target}");
    }
    let head = send("HEAD", "/v1/models").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    for (length, status) in [(8192, 404), (8193, 414), (20_000, 414)] {
        let target = format!("/v1/turns/{}", "x".repeat(length - "/v1/turns/".len()));
        assert_problem(
            &send("GET", &target).await,
            status,
            if status == 404 { "turn_not_found" } else { "uri_too_long" },
        );
    }
    let query = format!("/v1/chat/stream?key=k&message={}", "x".repeat(9000));
    assert_problem(&send("GET", &query).await, 414, "uri_too_long");
    assert_nothing(&scene).await;
}

#[tokio::test]
async fn an_event_source_is_refused_by_status_only_for_good() {
    let scene = Scene::new().await;
    for (target, status, code) in [
        ("/v1/turns/turn_none/events", 404, "turn_not_found"),
        ("/v1/conversations/conv_none/events", 404, "conversation_not_found"),
        ("/v1/turns/turn_none/events?after=x", 422, "invalid_cursor"),
        ("/v1/conversations/conv_none/events?after=7", 422, "invalid_cursor"),
        ("/v1/conversations/conv_none/events?after=1.", 422, "invalid_cursor"),
        ("/v1/chat/stream?message=hi&key=k&model=", 404, "model_not_found"),
        ("/v1/chat/stream?message=hi", 422, "invalid_request"),
    ] {
        let reply = scene.client.send(Request::get(target).accept(Encoding::Sse)).await;
        assert_problem(&reply, status, code);
    }
    // While the database is away it is told to come back.
    let conversation = scene.client.conversation().await;
    scene.told("warm").await;
    let calls = scene.upstream.calls().len();
    let block = scene.database.block().await;
    let target = format!("/v1/chat/stream?message=hi&key=k&session_id={conversation}");
    let mut refused = scene.client.open(Request::get(&target).accept(Encoding::Sse)).await;
    assert_eq!((refused.status(), refused.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(refused.text().await, ": store_unavailable\nretry: 1000\n\n");
    let reply =
        scene.client.post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "hi"})).await;
    assert_problem(&reply, 503, "store_unavailable");
    drop(block);
    assert_eq!(scene.upstream.calls().len(), calls);
    let mut stream = scene.client.open(Request::get(&target).accept(Encoding::Sse)).await;
    assert!(stream.rest().await.last().unwrap().is_end(), "the same key starts it once it can be");
    assert_eq!(scene.upstream.calls().len(), calls + 1);
}

#[tokio::test]
async fn no_strangers_page_and_no_strangers_name_gets_in() {
    let scene = Scene::with(|setup| {
        let origins = vec!["https://shop.example"];
        setup.set("cors.allowed_origins", origins).set("public_url", "https://chat.example")
    })
    .await;
    let starts = [
        body(json!({"message": "hi"}).to_string()),
        Request::get("/v1/chat/stream?message=hi&key=k"),
        Request::post("/v1/conversations", &json!({})),
        Request { method: "DELETE".into(), ..Request::get("/v1/chat/s") },
    ];
    for request in &starts {
        for lines in [
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")][..],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("origin", "https://shop.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("sec-purpose", "prefetch;prerender")],
        ] {
            let request = lines.iter().fold(request.clone(), |request, (name, value)| request.header(name, value));
            let reply = scene.client.send(request).await;
            assert_problem(&reply, 403, "cross_site_request");
            assert_eq!(
                reply.header("access-control-allow-origin").is_some(),
                lines.contains(&("origin", "https://shop.example"))
            );
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0"] {
            assert_problem(&scene.client.send(request.clone().header("host", host)).await, 421, "wrong_host");
        }
    }
    assert_nothing(&scene).await;
    let reading = Request::get("/v1/models").header("sec-fetch-site", "cross-site");
    scene.client.send(reading).await.expect(200);
    for host in ["localhost:1", "[::1]", "chat.example", "CHAT.example:443"] {
        scene.client.send(Request::get("/v1/models").header("host", host)).await.expect(200);
    }
    let shop = body(json!({"message": "hi"}).to_string()).header("accept", "application/json");
    let shop = shop.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "cors");
    let reply = scene.client.send(shop.header("origin", "https://shop.example")).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some("https://shop.example")));
}

#[tokio::test]
async fn logs_hold_neither_queries_nor_words() {
    let scene = Scene::new().await;
    let secret = "a-word-nobody-should-log";
    let get = format!("/v1/chat/stream?message={secret}&session_id={secret}&key={secret}");
    scene.client.open(Request::get(&get).accept(Encoding::Sse)).await.rest().await;
    scene.client.get(&format!("/v1/none/{secret}?q={secret}")).await.expect(404);
    scene.client.get(&format!("/v1/turns/{secret}?q={secret}")).await;
    let asked = json!({"message": secret, "history": [{"role": "user", "content": secret}]});
    scene.client.post(STREAM, &asked).await.expect(200);
    scene.client.post(STREAM, &json!({ secret: secret })).await.expect(422);
    answered(&scene.client, &scene).await;
    assert!(!scene.gateway.log().contains(secret), "{}", scene.gateway.log());
}

/// Waits until the log has what was answered so far.
async fn answered(client: &Client, scene: &Scene) {
    let reply = client.get("/v1/models").await;
    let id = reply.header("request-id").unwrap().to_owned();
    crate::support::eventually("a line in the log", async || scene.gateway.log().contains(&id).then_some(())).await;
}

#[tokio::test]
async fn what_is_taken_can_be_read_however_deep_it_is() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let conversation = client.conversation().await;
    let path = format!("/v1/conversations/{conversation}");
    let send = async |method: &str, target: &str, body: String| {
        let request = Request { method: method.to_owned(), body: Some(body.into_bytes()), ..Request::get(target) };
        client.send(request.header("content-type", "application/json")).await
    };
    // serde_json takes an object with this key for the text in it.
    let disguised = r#"{"$serde_json::private::RawValue":"{\"user_id\":\"boss\"}"}"#;
    for (method, target, body) in [
        ("PATCH", format!("{path}/context"), disguised.to_owned()),
        ("PATCH", path.clone(), format!(r#"{{"metadata":{{"a":[{disguised}]}}}}"#)),
        ("POST", "/v1/conversations".to_owned(), format!(r#"{{"context":{disguised}}}"#)),
        ("POST", format!("{path}/messages"), format!(r#"{{"content":"hi","metadata":{disguised}}}"#)),
        ("POST", "/v1/chat/stream".to_owned(), disguised.to_owned()),
    ] {
        assert_problem(&send(method, &target, body).await, 400, "invalid_json");
    }
    let (mut taken, mut refused) = (0, 0);
    for depth in 110..=130 {
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let said = send("PATCH", &format!("{path}/context"), format!(r#"{{"a":{deep}}}"#)).await;
        let kept = send("PATCH", &path, format!(r#"{{"metadata":{{"a":{deep}}}}}"#)).await;
        let asked =
            send("POST", &format!("{path}/messages"), format!(r#"{{"content":"hi","metadata":{{"a":{deep}}}}}"#)).await;
        for reply in [said, kept, asked] {
            match reply.status {
                200 => taken += 1,
                _ => {
                    assert_problem(&reply, 400, "invalid_json");
                    refused += 1;
                }
            }
        }
        for target in [
            &*path,
            "/v1/conversations",
            &format!("{path}/context"),
            &format!("{path}/messages"),
            &format!("{path}/export"),
        ] {
            assert_eq!(client.send(Request::get(target)).await.status, 200, "{target} with {depth} lists");
        }
    }
    assert!(taken > 20 && refused > 6, "{taken} taken, {refused} refused");
    assert_eq!(send("PATCH", &path, r#"{"title":"deep"}"#.to_owned()).await.status, 200);
    assert_eq!(client.send(Request { method: "DELETE".to_owned(), ..Request::get(&path) }).await.status, 204);
}
