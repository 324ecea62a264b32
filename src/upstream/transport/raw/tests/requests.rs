//! What a request looks like, and where it goes.

use super::*;

/// What a server of this address is sent.
async fn sent(address: &str, path: &str, fields: Value) -> String {
    let listener = TcpListener::bind(address).await.unwrap();
    let at = listener.local_addr().unwrap();
    let url = path.replace("HERE", &at.to_string()).replace("PORT", &at.port().to_string());
    let life = Lifecycle::new();
    let (sender, receiver) = oneshot::channel();
    life.spawn("server", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        sender.send(request(&mut stream).await).unwrap();
        stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").await.unwrap();
    });
    assert_eq!(post(&transport(&url, fields)).await.unwrap().status, 204);
    receiver.await.unwrap().replace(&at.port().to_string(), "PORT")
}

fn lines(request: &str, name: &str) -> Vec<String> {
    let start = format!("{name}: ");
    request.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_request_says_all_it_has_to() {
    let request = sent("127.0.0.1:0", "http://HERE/v1?a=b%20c", json!({"headers": {"x-team": "tide"}})).await;
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(head.lines().next(), Some("POST /v1/x?a=b%20c HTTP/1.1"));
    let expected = [
        ("host", "127.0.0.1:PORT"),
        ("user-agent", concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
        ("accept", "text/event-stream"),
        ("content-type", "application/json"),
        ("content-length", "2"),
        ("x-team", "tide"),
    ];
    for (name, value) in expected {
        assert_eq!(lines(head, name), [value], "{head}");
    }
    assert_eq!((head.lines().count(), body), (expected.len() + 1, "{}"));
}

#[tokio::test]
async fn headers_of_the_settings_count_over_our_own() {
    let fields = json!({"headers": {"Host": "other", "user-agent": "x", "Authorization": "Key k"}});
    let request = sent("127.0.0.1:0", "http://user:pass@HERE", fields).await;
    for (name, value) in [("host", "other"), ("user-agent", "x"), ("authorization", "Key k")] {
        assert_eq!(lines(&request, name), [value], "{request}");
    }
}

#[tokio::test]
async fn a_user_in_the_url_is_sent_as_a_header() {
    let request = sent("127.0.0.1:0", "http://us%20er:p%C3%A4ss@HERE", json!({})).await;
    assert_eq!(lines(&request, "authorization"), ["Basic dXMgZXI6cMOkc3M="]);
    assert_eq!(lines(&request, "host"), ["127.0.0.1:PORT"]);
}

#[tokio::test]
async fn addresses_of_every_kind_are_reached() {
    for (address, url, host) in
        [("[::1]:0", "http://[::1]:PORT/", "[::1]:PORT"), ("127.0.0.1:0", "http://localhost:PORT/", "localhost:PORT")]
    {
        // A machine without IPv6 has nothing to reach there.
        if TcpListener::bind(address).await.is_err() {
            continue;
        }
        assert_eq!(lines(&sent(address, url, json!({})).await, "host"), [host]);
    }
}

#[tokio::test]
async fn a_port_that_goes_without_saying_is_not_said() {
    for (url, host) in [
        ("http://h:80", "h"),
        ("http://h:443", "h:443"),
        ("https://h", "h"),
        ("https://h:443/v1", "h"),
        ("https://[::1]:8443", "[::1]:8443"),
    ] {
        assert_eq!(transport(url, json!({})).raw.unwrap().host, host);
    }
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let transport = transport("http://user:hush@h", json!({"headers": {"x-key": "hush"}}));
    let printed = format!("{transport:?}");
    assert!(!printed.contains("hush") && !printed.contains("dXNlcjpodXNo"), "{printed}");
}
