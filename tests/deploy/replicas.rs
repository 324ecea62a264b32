//! Two replicas on one PostgreSQL, behind each proxy: what a client sees when one of them goes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::proxies::{Standing, caddy, nginx};
use crate::support::{
    Client, Database, Encoding, Frame, Gateway, Kind, Record, Request, Script, Task, Upstream, eventually,
};

/// Questions while one replica is dead.
const QUESTIONS: usize = 12;
/// A question as long as no look at `/readyz`.
const LONG: usize = 1000;
/// Questions at once while one replica stands still.
const AT_ONCE: usize = 8;

/// Two replicas, a client of each, and a proxy before them.
struct House {
    replicas: Vec<Gateway>,
    clients: Vec<Client>,
    upstream: Upstream,
    /// A client of the proxy.
    client: Client,
    proxy: Standing,
    _database: Database,
}

impl House {
    async fn behind(proxy: impl AsyncFnOnce(&[SocketAddr]) -> Standing) -> Self {
        let (database, upstream) = (Database::of(Kind::Postgres), Upstream::start().await);
        let start = || Gateway::on(&database).upstream(&upstream).set("cluster.lease_s", 1).start();
        let replicas = vec![start().await, start().await];
        let clients: Vec<_> = replicas.iter().map(Gateway::client).collect();
        let proxy = proxy(&clients.iter().map(Client::address).collect::<Vec<_>>()).await;
        let client = Client::new(proxy.address);
        Self { replicas, clients, upstream, client, proxy, _database: database }
    }

    /// Asks through the proxy under a key, and once more where the proxy could not find a replica to ask.
    async fn ask(&self, conversation: &str, number: usize) {
        let question =
            Request::post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "short"}));
        let question = question.header("accept", "application/json").header("idempotency-key", &format!("{number}"));
        let mut answered = self.client.send(question.clone()).await;
        if answered.status == 502 && answered.header("request-id").is_none() {
            answered = self.client.send(question).await;
        }
        assert_eq!(answered.expect(200)["content"], "It goes on.");
    }

    /// Which replica runs the one turn there is.
    async fn runner(&self) -> usize {
        eventually("a replica to run the turn", async || {
            for (at, client) in self.clients.iter().enumerate() {
                let reply = client.send(Request::get("/metrics")).await;
                if String::from_utf8_lossy(&reply.bytes).contains("\ntidegate_turns_live 1\n") {
                    return Some(at);
                }
            }
            None
        })
        .await
    }
}

async fn a_stream_goes_on_when_its_replica_dies(
    proxy: impl AsyncFnOnce(&[SocketAddr]) -> Standing,
    encoding: Encoding,
) {
    let mut house = House::behind(proxy).await;
    house.upstream.when("long", Script::new().role().paced(100_000, Duration::from_millis(5)));
    house.upstream.always(Script::answer(&["It ", "goes on."]));
    let conversation = house.client.conversation().await;
    let mut stream = house.client.ask_as(encoding, &conversation, &json!({"content": "long"})).await;
    let turn = stream.turn();
    let mut seen = stream.events(20).await;
    let runner = house.runner().await;
    house.replicas[runner].kill();
    seen.extend(stream.leavings().await);
    assert!(!seen.last().unwrap().is_end());

    // The next request through the proxy reads on, by the other replica, to the end that this one gives the turn.
    let cursor = seen.iter().filter_map(Frame::seq).max().unwrap();
    let rest = house.client.events(encoding, &turn, cursor).await.rest().await;
    let other = &house.clients[1 - runner];
    let record = Record::read(other, &turn).await;
    assert_eq!(record.status(), "interrupted");
    record.assert_owed(cursor, &rest);

    // Everything new is served within one retry, and asked once.
    for number in 0..QUESTIONS {
        house.ask(&conversation, number).await;
    }
    assert_eq!(house.upstream.calls().len(), 1 + QUESTIONS);
    // And by both, once the other is back.
    house.replicas[runner].restart().await;
    let mut number = QUESTIONS;
    let came = eventually("the replica to be asked again", async || {
        number += 1;
        house.ask(&conversation, number).await;
        let reply = house.clients[runner].send(Request::get("/metrics")).await;
        String::from_utf8_lossy(&reply.bytes)
            .contains("tidegate_turns_finished_total{status=\"completed\"}")
            .then_some(())
    });
    came.await;
}

/// A replica that stands still has been sent questions that it has not answered. When it dies the proxy does not know whether
/// it took them, and must not ask another.
async fn nothing_is_asked_twice(proxy: impl AsyncFnOnce(&[SocketAddr]) -> Standing) {
    let mut house = House::behind(proxy).await;
    house.upstream.always(Script::answer(&["once"]));
    house.replicas[0].freeze();
    let address = house.proxy.address;
    let ask = move |_| {
        Task::start(async move {
            let question: Value = json!({"message": "How often? ".repeat(LONG / 10)});
            let request = Request::post("/v1/chat/stream", &question).header("accept", "application/json");
            Client::new(address).send(request).await.status
        })
    };
    let asked: Vec<_> = (0..AT_ONCE).map(ask).collect();
    let frozen = house.replicas[0].address().port();
    eventually("a question to lie before the replica that stands still", async || unread(frozen).then_some(())).await;
    house.replicas[0].kill();
    let mut answered = Vec::new();
    for task in asked {
        answered.push(task.join().await);
    }
    let served = answered.iter().filter(|status| **status == 200).count();
    assert!(answered.iter().all(|status| matches!(status, 200 | 502)), "{answered:?}");
    assert!(answered.contains(&502), "nothing was before the dead replica: {answered:?}");
    assert_eq!(house.upstream.calls().len(), served, "{answered:?}");
}

/// Whether a question lies unread before the process that listens there, by `/proc/net/tcp`.
fn unread(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let waits = columns[4].split_once(':').and_then(|(_, bytes)| usize::from_str_radix(bytes, 16).ok());
        columns[1].ends_with(&format!(":{port:04X}")) && columns[3] == "01" && waits > Some(LONG)
    })
}

#[tokio::test]
async fn behind_nginx_a_stream_goes_on_when_its_replica_dies() {
    a_stream_goes_on_when_its_replica_dies(nginx, Encoding::Ndjson).await;
}

#[tokio::test]
async fn behind_caddy_a_stream_goes_on_when_its_replica_dies() {
    a_stream_goes_on_when_its_replica_dies(caddy, Encoding::Sse).await;
}

#[tokio::test]
async fn behind_nginx_nothing_is_asked_twice() {
    nothing_is_asked_twice(nginx).await;
}

#[tokio::test]
async fn behind_caddy_nothing_is_asked_twice() {
    nothing_is_asked_twice(caddy).await;
}
