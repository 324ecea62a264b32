//! A fault in the gateway's own code: what it ends, what it leaves alone, and how. The server runs in the test's own
//! process, with an upstream that no setting could bring about.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::json;
use support::{
    Client, Database, Encoding, Gate, Gateway, Kind, Request, Script, Task, Told, Upstream, assert_stamps, eventually,
};
use tidegate::config::load::File;
use tidegate::config::{Flags, load};
use tidegate::lifecycle::Lifecycle;
use tidegate::upstream::{self, Answer, Batch, Call, Fault, Progress, Refusal, Ticks};
use tidegate::{Parts, ServeError, serve};
use tokio::net::TcpListener;

/// The kind of every fresh database here.
const DATABASE: Kind = Kind::Sqlite;

/// An upstream whose code is at fault: at once, or in the middle of an answer.
struct Faulty;

impl upstream::Upstream for Faulty {
    fn open(&self, call: Call) -> BoxFuture<'_, Result<Box<dyn Answer>, Refusal>> {
        assert_ne!(call.model, "faulty-at-once", "a fault on purpose");
        ready(Ok(Box::new(Faulting { said: false }) as Box<dyn Answer>)).boxed()
    }
}

struct Faulting {
    said: bool,
}

impl Answer for Faulting {
    fn poll_next(&mut self, _: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<Progress, Fault>> {
        assert!(!self.said, "a fault on purpose");
        self.said = true;
        batch.delta("It ");
        Poll::Ready(Ok(Progress::More))
    }
}

/// A server in this process.
struct Server {
    life: Lifecycle,
    client: Client,
    upstream: Upstream,
    serving: Task<Result<(), ServeError>>,
    _database: Database,
}

impl Server {
    async fn start() -> Self {
        let (database, upstream) = (Database::fresh().await, Upstream::start().await);
        let setup = Gateway::on(&database).upstream(&upstream).set("upstreams.0.models", vec!["test-model"]);
        let file = File { name: "settings".to_owned(), text: setup.text() };
        let config = load(Some(&file), Vec::<(String, String)>::new(), Flags::default()).unwrap().config;
        let life = Lifecycle::new();
        let parts = Parts::open(&config, &life).await.unwrap();
        let upstreams = tidegate::upstreams(&config, Ticks::default()).unwrap();
        parts.upstreams.replace(upstreams.and("faulty", Arc::new(Faulty), &["faulty-at-once", "faulty-in-answer"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        let serving = Task::start(serve(config, parts, listener, life.clone()));
        Self { life, client, upstream, serving, _database: database }
    }

    /// Tells it to stop, and fails unless it does so in order.
    async fn stop(self) {
        self.life.soft().cancel();
        self.serving.join().await.unwrap();
    }
}

#[tokio::test]
async fn a_turn_whose_task_panics_ends_as_failed_is_saved_and_harms_no_other() {
    let server = Server::start().await;
    let client = &server.client;
    let gate = Gate::new();
    server.upstream.push(Script::new().role().stamped(20).gate(&gate).stamped(20).finish("stop").usage(1, 40).done());
    let other = client.conversation().await;
    let mut others = client.ask(&other, "go").await;
    let mut heard = others.events(10).await;

    for (model, said) in [("faulty-at-once", ""), ("faulty-in-answer", "It ")] {
        let conversation = client.conversation().await;
        let body = json!({"content": "go", "model": model});
        let stream = client.ask_as(Encoding::Ndjson, &conversation, &body).await;
        let told = Told::hear(client, &conversation, stream).await;
        assert_eq!((&told.end()["status"], &told.end()["error"]["code"]), (&json!("failed"), &json!("internal")));
        assert_eq!((told.content(), &told.message["status"]), (said, &json!("failed")), "{model}");
        assert_eq!(told.message["steps"][0]["status"], "error", "{model}");

        // The conversation goes on.
        server.upstream.push(Script::answer(&["It ", "rains."]));
        let next = client.ask(&conversation, "go on").await;
        assert_eq!(Told::hear(client, &conversation, next).await.end()["status"], "completed");
    }

    gate.open();
    heard.extend(others.rest().await);
    let text: String = heard.iter().filter(|frame| frame.kind() == "delta").map(support::Frame::text).collect();
    assert_eq!(assert_stamps(&text), 40);
    assert_eq!(heard.last().unwrap().json["status"], "completed");
    assert_eq!(client.answer(&other).await["content"], text);
    server.stop().await;
}

#[tokio::test]
async fn a_vital_task_that_panics_stops_the_server_in_order() {
    let server = Server::start().await;
    let gate = Gate::new();
    server.upstream.push(Script::new().role().stamped(20).gate(&gate).stamped(20).finish("stop").done());
    let conversation = server.client.conversation().await;
    let mut stream = server.client.ask(&conversation, "go").await;
    let mut heard = stream.events(10).await;

    server.life.spawn_vital("vital", async { panic!("a fault on purpose") });
    // Nothing new is begun.
    eventually("the server to say so", async || {
        let ready = server.client.try_send(Request::get("/readyz")).await;
        ready.map_or(true, |reply| reply.status == 503).then_some(())
    })
    .await;
    assert!(server.life.soft().is_cancelled() && !server.life.hard().is_cancelled());
    // What lives is lived to its end.
    gate.open();
    heard.extend(stream.rest().await);
    let end = &heard.last().unwrap().json;
    assert_eq!((&end["status"], &end["saved"]), (&json!("completed"), &json!(true)));
    // Whoever watches the process is to start it again.
    assert!(matches!(server.serving.join().await, Err(ServeError::Broken("vital"))));
}

#[tokio::test]
async fn any_other_task_that_panics_ends_alone() {
    let life = Lifecycle::new();
    life.spawn("ordinary", async { panic!("a fault on purpose") });
    assert!(life.finished(Duration::from_secs(10)).await);
    assert!(!life.soft().is_cancelled());
}
