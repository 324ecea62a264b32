//! What answers bear.

use reqwest::{Client, Method};

use super::*;

#[tokio::test]
async fn every_answer_under_v1_bears_the_fixed_headers_and_an_id_of_its_own() {
    let house = House::open().await;
    let client = Client::new();
    let mut ids = std::collections::HashSet::new();
    for path in ["/v1/turns/a", "/v1/nowhere", "/v1/turns/a?limit=x", "/v1/boom"] {
        let response = within(client.get(house.url(path)).header("request-id", "mine").send()).await.unwrap();
        let headers = response.headers();
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["vary"], "Accept, Origin, Authorization, Cookie, Last-Event-ID", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let id = headers["request-id"].to_str().unwrap();
        assert!(id.starts_with("req_"), "{id}");
        ids.insert(id.to_owned());
    }
    assert_eq!(ids.len(), 4);
    house.close().await;
}

#[tokio::test]
async fn an_allowed_origin_may_read_and_another_may_not() {
    let house = House::open().await;
    let client = Client::new();
    let ask = async |method: Method, origin: &str| {
        let request = client.request(method, house.url("/v1/turns/a")).header("origin", origin);
        within(request.header("access-control-request-method", "POST").send()).await.unwrap()
    };
    let preflight = ask(Method::OPTIONS, "https://shop.example").await;
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "https://shop.example");
    let allowed = preflight.headers()["access-control-allow-headers"].to_str().unwrap();
    assert_eq!(allowed, "Authorization, Content-Type, Accept, Last-Event-ID, Idempotency-Key, Prefer, Tidegate-Widget");
    let get = ask(Method::GET, "https://shop.example").await;
    assert_eq!(get.status(), 200);
    assert_eq!(get.headers()["access-control-allow-origin"], "https://shop.example");
    assert!(get.headers()["access-control-expose-headers"].to_str().unwrap().contains("Turn-Id, Conversation-Id"));
    for stranger in ["https://evil.example", "null", "https://shop.example.evil", "http://shop.example"] {
        for method in [Method::OPTIONS, Method::GET] {
            let answer = ask(method, stranger).await;
            assert!(answer.status().is_success());
            assert!(!answer.headers().contains_key("access-control-allow-origin"), "{stranger}");
            assert_eq!(answer.headers()["vary"], "Accept, Origin, Authorization, Cookie, Last-Event-ID");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn the_page_and_the_docs_come_from_the_binary_alone() {
    let house = House::open().await;
    let client = Client::new();
    let get = async |path: &str| within(client.get(house.url(path)).send()).await.unwrap();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/client.js", "text/javascript; charset=utf-8"),
        ("/static/chat.js", "text/javascript; charset=utf-8"),
        ("/static/chat.css", "text/css; charset=utf-8"),
        ("/events.schema.json", "application/schema+json"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/", "text/html; charset=utf-8"),
        ("/docs/errors", "text/html; charset=utf-8"),
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
        ("/docs/swagger-ui.css", "text/css"),
        ("/docs/swagger-initializer.js", "text/javascript"),
    ] {
        let response = get(path).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &kind.parse().unwrap()),
            "{path}"
        );
        let html = kind.starts_with("text/html");
        assert_eq!(
            response.headers().contains_key("content-security-policy"),
            html || path.starts_with("/static") || ["/client.js", "/events.schema.json"].contains(&path),
            "{path}"
        );
        let text = response.text().await.unwrap();
        assert!(
            !html || !["src=\"http", "href=\"http", "\"//", "<script>", " style="].iter().any(|bad| text.contains(bad))
        );
    }
    let start = get("/docs/swagger-initializer.js").await.text().await.unwrap();
    assert!(start.contains("/openapi.json") && start.contains("\"validatorUrl\": \"none\""), "{start}");
    assert_eq!(get("/docs/none.js").await.status(), 404);
    // All the page loads at first, compressed.
    let mut first = 0;
    for file in ["browser", "chart", "chat", "element", "list", "message", "outbox", "prose", "words"] {
        first += gzipped(&client, &house.url(&format!("/static/{file}.js"))).await;
    }
    for path in ["/", "/client.js", "/static/chat.css"] {
        first += gzipped(&client, &house.url(path)).await;
    }
    assert!(first <= 40_000, "{first} bytes");
    let plain = client.get(house.url("/client.js")).header("accept-encoding", "gzip;q=0, br");
    assert!(!within(plain.send()).await.unwrap().headers().contains_key("content-encoding"));
    let tag = get("/static/chat.js").await.headers()["etag"].clone();
    let again = client.get(house.url("/static/chat.js")).header("if-none-match", tag);
    assert_eq!(within(again.send()).await.unwrap().status(), 304);
    house.close().await;
}

/// How many bytes a file has, compressed.
async fn gzipped(client: &Client, url: &str) -> usize {
    let response = within(client.get(url).header("accept-encoding", "br, gzip").send()).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.headers()["vary"], "Accept-Encoding");
    response.bytes().await.unwrap().len()
}

#[tokio::test]
async fn both_versions_of_http_answer_on_one_port() {
    let house = House::open().await;
    let h2 = Client::builder().http2_prior_knowledge().build().unwrap();
    let response = within(h2.get(house.url("/v1/turns/a")).send()).await.unwrap();
    assert_eq!((response.version(), response.text().await.unwrap()), (http::Version::HTTP_2, "a None".to_owned()));
    let stranger = h2.get(house.url("/v1/turns/a")).header("sec-fetch-site", "cross-site");
    assert_eq!(within(stranger.send()).await.unwrap().status(), 200);
    let large = h2.post(house.url("/v1/echo")).header("content-type", "application/json").body("x".repeat(1900));
    let response = within(large.send()).await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(!response.headers().contains_key("connection"));
    let h1 = within(Client::new().get(house.url("/v1/turns/a")).send()).await.unwrap();
    assert_eq!(h1.version(), http::Version::HTTP_11);
    house.close().await;
}

#[tokio::test]
async fn a_handler_knows_the_client_that_a_trusted_proxy_names() {
    let trusting = House::open().await;
    let alone = House::with(Settings { proxies: Proxies::default(), ..settings() }).await;
    for client in [Client::new(), Client::builder().http2_prior_knowledge().build().unwrap()] {
        let ask = async |house: &House, named: &str| {
            let request = client.get(house.url("/v1/address")).header("x-forwarded-for", named);
            within(within(request.send()).await.unwrap().text()).await.unwrap()
        };
        assert_eq!(ask(&trusting, "203.0.113.9, 192.0.2.7").await, "192.0.2.7");
        assert_eq!(ask(&trusting, "unknown").await, "127.0.0.1");
        assert_eq!(ask(&alone, "192.0.2.7").await, "127.0.0.1");
    }
    trusting.close().await;
    alone.close().await;
}
