//! A client that leaves while its turn is being committed.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Database, Gateway, Proxy, Script, Upstream, eventually};

#[tokio::test]
async fn a_turn_that_is_committed_when_its_client_is_gone_is_run_all_the_same() {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    let proxy = Proxy::to(database.server()).await;
    let gateway = Gateway::at(&database.through(&proxy)).upstream(&upstream).start().await;
    let client = gateway.client();
    for on_disconnect in ["continue", "cancel"] {
        upstream.push(Script::new().stamped(2).finish("stop").usage(1, 2).done());
        let conversation = client.conversation().await;
        let body = json!({"content": "go", "on_disconnect": on_disconnect}).to_string();
        let head = format!(
            "POST /v1/conversations/{conversation}/messages HTTP/1.1\r\nhost: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            client.address(),
            body.len()
        );
        let mut socket = TcpStream::connect(client.address()).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        // The commit arrives, and the word of it does not come back before the client has left.
        proxy.hold_replies_after(&[&conversation, "COMMIT"]);
        socket.write_all((head + &body).as_bytes()).await.unwrap();
        proxy.held().await;
        drop(socket);
        eventually("the gateway to notice", async || (!gateway.holds(port)).then_some(())).await;
        proxy.release();
        let answer = eventually("the turn to end", async || {
            let answer = client.messages(&conversation).await.pop()?;
            (answer["status"] != "running").then_some(answer)
        })
        .await;
        let ends = if on_disconnect == "cancel" { ["stopped", "completed"] } else { ["completed"; 2] };
        assert!(ends.contains(&answer["status"].as_str().unwrap()), "{answer}");
        assert_eq!(client.ask_whole(&conversation, "and now?").await.status, 200);
    }
}
