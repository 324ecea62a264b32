//! What is refused, and how.

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::*;

/// The status and code of a refusal, and the field it names; it must be a whole problem.
async fn problem(request: RequestBuilder) -> (u16, String, Option<String>) {
    let response = within(request.send()).await.unwrap();
    let id = response.headers()["request-id"].to_str().unwrap().to_owned();
    let (status, body) = (response.status().as_u16(), whole(response).await);
    assert_eq!((&body["status"], &body["request_id"]), (&status.into(), &id.into()));
    assert_eq!(body["type"], format!("/docs/errors#{}", body["code"].as_str().unwrap()));
    let field = body["field"].as_str().map(str::to_owned);
    (status, body["code"].as_str().unwrap().to_owned(), field)
}

async fn whole(response: Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    for key in ["type", "title", "detail", "timestamp"] {
        assert!(body[key].is_string(), "{key} in {body}");
    }
    body
}

fn says(status: u16, code: &str, field: Option<&str>) -> (u16, String, Option<String>) {
    (status, code.to_owned(), field.map(str::to_owned))
}

#[tokio::test]
async fn a_body_is_refused_by_what_is_wrong_with_it() {
    let house = House::open().await;
    let client = Client::new();
    let post =
        |body: &'static [u8]| client.post(house.url("/v1/echo")).header("content-type", "application/json").body(body);
    for bad in
        [&b"{"[..], b"", b"{\"content\":\"\xff\"}", b"{\"content\":\"\\ud800\"}", b"{\"content\":1,\"content\":2}"]
    {
        assert_eq!(problem(post(bad)).await, says(400, "invalid_json", None), "{:?}", String::from_utf8_lossy(bad));
    }
    assert_eq!(problem(post(b"[]")).await, says(422, "invalid_request", None));
    assert_eq!(problem(post(b"{}")).await, says(422, "invalid_request", Some("content")));
    assert_eq!(problem(post(b"{\"content\":7}")).await, says(422, "invalid_request", Some("content")));
    assert_eq!(problem(post(b"{\"content\":\"\",\"x\":1}")).await, says(422, "invalid_request", Some("x")));
    assert_eq!(problem(post(b"{\"content\":\"\",\"limit\":-1}")).await, says(422, "invalid_request", Some("limit")));
    let bare = client.post(house.url("/v1/echo"));
    let form = client.post(house.url("/v1/echo")).header("content-type", "text/plain");
    assert_eq!(problem(bare.body("{}")).await, says(415, "unsupported_media_type", None));
    assert_eq!(problem(form.body("{}")).await, says(415, "unsupported_media_type", None));
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_right_arrives_as_it_was_parsed() {
    let house = House::open().await;
    let client = Client::new();
    let ask = async |path: &str, kind: Option<&str>, body: &'static str| {
        let mut request = client.post(house.url(path)).body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        within(request.send()).await.unwrap().text().await.unwrap()
    };
    let json = Some("application/json; charset=utf-8");
    assert_eq!(ask("/v1/echo", json, "{\"content\": \"a\\u0000\"}").await, "a\0|{\"content\":\"a\\u0000\"}");
    assert_eq!(
        ask("/v1/echo", Some("application/merge-patch+json"), "{\"content\":\"b\"}").await,
        "b|{\"content\":\"b\"}"
    );
    assert_eq!(ask("/v1/optional", None, "").await, "false");
    assert_eq!(ask("/v1/optional", json, "").await, "false");
    assert_eq!(ask("/v1/optional", json, "{\"content\":\"c\"}").await, "true");
    house.close().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_so_that_it_can_be_read() {
    let house = House::open().await;
    let head = |more: &str| {
        format!("POST /v1/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{more}\r\n")
    };
    // As much again as the limit is taken off, and the connection lives on.
    let next = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    for path in ["/v1/echo", "/v1/unread", "/v1/nowhere"] {
        let request = head("content-length: 1900\r\n").replace("/v1/echo", path) + &"x".repeat(1900) + next;
        let answer = house.raw(request.as_bytes()).await;
        assert_eq!(answer.contains("body_too_large"), path == "/v1/echo", "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }
    // The same when no length is told.
    let chunks = format!("{}\r\n", "100\r\n".to_owned() + &"x".repeat(256)).repeat(7) + "0\r\n\r\n";
    let answer = house.raw((head("transfer-encoding: chunked\r\n") + &chunks + next).as_bytes()).await;
    assert!(answer.contains("body_too_large") && answer.ends_with("ok"), "{answer}");
    // A much larger one is refused before it is sent, and so is one that waits to be asked for.
    for more in ["content-length: 1000000000\r\n", "content-length: 1900\r\nexpect: 100-continue\r\n"] {
        let answer = house.raw(head(more).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    }
    // One that is sent to the bitter end is answered too.
    let client = Client::new();
    let request = client.post(house.url("/v1/echo")).header("content-type", "application/json");
    assert_eq!(problem(request.body("x".repeat(1999))).await, says(413, "body_too_large", None));
    house.close().await;
}

#[tokio::test]
async fn what_the_url_says_is_refused_by_name() {
    let house = House::open().await;
    let client = Client::new();
    let get = |path: &str| client.get(house.url(path));
    assert_eq!(problem(get("/v1/turns/a?limit=x")).await, says(422, "invalid_request", Some("limit")));
    assert_eq!(problem(get("/v1/turns/a?colour=red")).await, says(422, "invalid_request", Some("colour")));
    assert_eq!(problem(get("/v1/turns/%ff")).await, says(404, "route_not_found", None));
    assert_eq!(problem(get("/nowhere")).await, says(404, "route_not_found", None));
    assert_eq!(problem(get("/v1/turns/")).await, says(404, "route_not_found", None));
    let long = format!("/v1/turns/a?limit={}", "1".repeat(9000));
    assert_eq!(problem(get(&long)).await, says(414, "uri_too_long", None));
    assert_eq!(problem(get("/v1/pick").header("accept", "text/html")).await, says(406, "not_acceptable", None));
    house.close().await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let house = House::open().await;
    let client = Client::new();
    let allow = async |request: RequestBuilder| {
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status(), 405);
        let allow = response.headers()["allow"].to_str().unwrap().to_owned();
        (allow, response.bytes().await.unwrap().is_empty())
    };
    assert_eq!(allow(client.delete(house.url("/v1/echo"))).await, ("POST".to_owned(), false));
    assert_eq!(allow(client.post(house.url("/healthz"))).await, ("GET,HEAD".to_owned(), false));
    assert_eq!(allow(client.head(house.url("/v1/chat/stream"))).await, ("GET, POST".to_owned(), true));
    assert_eq!(problem(client.delete(house.url("/v1/echo"))).await, says(405, "method_not_allowed", None));
    let head = within(client.head(house.url("/healthz")).send()).await.unwrap();
    assert_eq!((head.status().as_u16(), head.bytes().await.unwrap().len()), (200, 0));
    house.close().await;
}

#[tokio::test]
async fn only_our_own_hosts_are_answered_while_auth_is_off() {
    let house = House::open().await;
    let client = Client::new();
    let get = |host: &'static str| client.get(house.url("/healthz")).header("host", host);
    assert_eq!(problem(get("evil.example")).await, says(421, "wrong_host", None));
    assert_eq!(problem(get("localhost.evil.example:80")).await, says(421, "wrong_host", None));
    for ours in ["localhost", "gate.example:99", "[::1]:1"] {
        assert_eq!(within(get(ours).send()).await.unwrap().status(), 200, "{ours}");
    }
    let ask = async |head: &str| house.raw(format!("{head}connection: close\r\n\r\n").as_bytes()).await;
    assert!(ask("GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n").await.contains(" 421 "));
    assert!(ask("GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n").await.contains(" 400 "));
    assert!(ask("GET /healthz HTTP/1.1\r\n").await.contains(" 400 "));
    assert!(ask("GET /healthz HTTP/1.0\r\n").await.contains(" 200 "));
    let guarded = House::with(Settings { auth_off: false, ..settings() }).await;
    let other = client.get(guarded.url("/healthz")).header("host", "any.example");
    assert_eq!(within(other.send()).await.unwrap().status(), 200);
    guarded.close().await;
    house.close().await;
}

#[tokio::test]
async fn a_strangers_page_is_refused_before_the_handler() {
    let house = House::open().await;
    let client = Client::new();
    let get = |site: &'static str| client.get(house.url("/v1/chat/stream")).header("sec-fetch-site", site);
    assert_eq!(problem(get("cross-site")).await, says(403, "cross_site_request", None));
    assert_eq!(
        problem(get("same-origin").header("sec-purpose", "prefetch")).await,
        says(403, "cross_site_request", None)
    );
    let allowed = get("cross-site").header("sec-fetch-mode", "cors").header("origin", "https://shop.example");
    assert_eq!(within(allowed.send()).await.unwrap().status(), 200);
    house.let_go().await;
    house.close().await;
}

#[tokio::test]
async fn a_panic_is_a_500_that_tells_nothing() {
    let house = House::open().await;
    let response = within(Client::new().get(house.url("/v1/boom")).send()).await.unwrap();
    assert_eq!(response.status(), 500);
    let body = whole(response).await;
    assert_eq!(body["code"], "internal");
    assert!(!body.to_string().contains("secret"));
    house.close().await;
}
