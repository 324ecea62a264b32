//! The commands of docs/deploying.md that take a backup while turns stream, and bring it back elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::access::ApiKey;
use crate::support::{
    Client, Database, Encoding, Fold, Frame, Gate, Gateway, Kind, Record, Request, Script, Setup, Upstream, eventually,
    stamp,
};
use crate::{content, path};

/// Deltas of the turn that streams while the backup is taken, before it and after.
const BEFORE: usize = 40;
const AFTER: usize = 10;

/// The lines of the page under a mark.
fn documented(name: &str) -> String {
    let page = fs::read_to_string(path("docs/deploying.md")).unwrap();
    let (_, rest) = page.split_once(&format!("<!-- tested: {name} -->\n```sh\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// A machine with the folders that the page names.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::new().unwrap());
        for folder in ["var/lib/tidegate", "var/backups", "etc/tidegate"] {
            fs::create_dir_all(machine.at(folder)).unwrap();
        }
        machine
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn pepper(&self) -> String {
        self.at("etc/tidegate/pepper").to_str().unwrap().to_owned()
    }

    /// Its database: a file here, or one on the server.
    fn database(&self, kind: Kind) -> (String, Option<Database>) {
        match kind {
            Kind::Sqlite => (format!("sqlite://{}", self.at("var/lib/tidegate/tidegate.db").display()), None),
            Kind::Postgres => {
                let database = Database::of(kind);
                (database.url(), Some(database))
            }
        }
    }

    /// Runs what the page says. Nothing of systemd's runs here, and there is no user but the test's.
    fn run(&self, commands: &str, database_url: &str) {
        let root = self.0.path().display();
        let here = commands.replace(" /", &format!(" {root}/")).replace("'/", &format!("'{root}/"));
        let here = here.replace("=/", &format!("={root}/"));
        assert!(here.contains(&root.to_string()), "{here}");
        let script = format!("set -eu\nsystemctl() {{ :; }}\nchown() {{ :; }}\n{here}");
        content(Command::new("bash").args(["-c", &script]).env("TIDEGATE_DATABASE__URL", database_url));
    }
}

fn setup(database_url: &str, pepper: &str, upstream: &Upstream) -> Setup {
    let setup = Gateway::at(database_url).upstream(upstream).closed().set("cluster.lease_s", 1);
    setup.set("auth.pepper_file", pepper)
}

async fn whole_and_live(kind: Kind) {
    let (name, upstream, gate) = (format!("{kind:?}").to_lowercase(), Upstream::start().await, Gate::new());
    upstream.when("live", live(&gate));
    upstream.always(Script::answer(&["It was ", "said."]));
    let (here, there) = (Machine::new(), Machine::new());
    let (url, _database) = here.database(kind);
    let gateway = setup(&url, &here.pepper(), &upstream).start().await;
    let key = gateway.key("shop", "admin");
    let client = gateway.client().bearing(&key.text);

    let told = client.conversation().await;
    let mut stream = client.ask(&told, "finished").await;
    let turn = stream.turn();
    let finished = stream.rest().await;
    let other = client.conversation().await;
    let mut stream = client.ask(&other, "live").await;
    let running = stream.turn();
    let seen = stream.events(2 + BEFORE).await;
    saved(&client, &running, seen.len()).await;

    here.run(&documented(&format!("backup {name}")), &url);
    // What comes after it is not in it, and it holds nobody up.
    gate.open();
    assert_eq!(stream.rest().await.last().unwrap().json["status"], "completed");
    let (messages, usage) = (client.messages(&told).await, client.get("/v1/usage").await.expect(200));
    client.ask_whole(&told, "later").await.expect(200);
    drop(gateway);

    let (url, _database) = there.database(kind);
    if kind == Kind::Sqlite {
        // What lay there before, with a log of its own.
        fs::write(there.at("var/lib/tidegate/tidegate.db"), "another record").unwrap();
        fs::write(there.at("var/lib/tidegate/tidegate.db-wal"), "another log").unwrap();
    }
    for file in fs::read_dir(here.at("var/backups")).unwrap().flatten() {
        fs::copy(file.path(), there.at("var/backups").join(file.file_name())).unwrap();
    }
    there.run(&documented(&format!("restore {name}")), &url);
    let gateway = setup(&url, &there.pepper(), &upstream).start().await;
    let client = gateway.client().bearing(&key.text);
    assert_eq!(client.messages(&told).await, messages);
    Record::read(&client, &turn).await.assert_owed(0, &finished);
    assert_interrupted(&client, &running, &seen).await;
    let calls = |usage: &Value| usage["totals"]["calls"].as_u64();
    assert_eq!(calls(&client.get("/v1/usage").await.expect(200)), calls(&usage));
    for conversation in [&told, &other] {
        assert_eq!(client.ask_whole(conversation, "next").await.expect(200)["status"], "completed");
    }
    drop(gateway);
    without_its_pepper(&url, &there, &key, &upstream).await;
}

/// An answer that is at its gate once everything before it was sent.
fn live(gate: &Gate) -> Script {
    let pace = Duration::from_millis(2);
    Script::new()
        .role()
        .deltas(BEFORE, pace, stamp)
        .gate(gate)
        .deltas(AFTER, pace, stamp)
        .finish("stop")
        .usage(1, 1)
        .done()
}

/// Waits until so many events of a turn are saved: what a reader of the record alone would see.
async fn saved(client: &Client, turn: &str, events: usize) {
    eventually("the events to be saved", async || {
        let metrics = client.send(Request::get("/metrics")).await;
        String::from_utf8_lossy(&metrics.bytes).contains("\ntidegate_unsaved_bytes 0\n").then_some(())
    })
    .await;
    let there = client.open(Request::get(&format!("/v1/turns/{turn}/events?follow=0")).accept(Encoding::Ndjson)).await;
    let mut there = there;
    assert_eq!(there.rest().await.len(), events);
}

/// The turn that ran when the backup was taken ends where it was, and what was saved of it is whole.
async fn assert_interrupted(client: &Client, turn: &str, seen: &[Frame]) {
    eventually("the turn to be taken over", async || {
        (client.turn(turn).await["status"] == "interrupted").then_some(())
    })
    .await;
    let record = Record::read(client, turn).await;
    let (last_saved, _) = record.crash.unwrap();
    assert_eq!(Some(last_saved), seen.last().unwrap().seq(), "all that was shown before the backup is in it");
    for frame in seen {
        assert_eq!(record.event(frame.seq().unwrap()).unwrap().bytes, frame.bytes);
    }
    Fold::of(&record.frames).assert_same_as(&record.message);
}

/// A record knows nobody whose pepper was lost.
async fn without_its_pepper(url: &str, machine: &Machine, key: &ApiKey, upstream: &Upstream) {
    fs::remove_file(Path::new(&machine.pepper())).unwrap();
    let gateway = setup(url, &machine.pepper(), upstream).start().await;
    let client = gateway.client().bearing(&key.text);
    assert_eq!(client.post("/v1/conversations", &json!({})).await.expect(401)["code"], "authentication_required");
}

#[tokio::test]
async fn a_backup_of_sqlite_while_a_turn_streams_is_whole_elsewhere() {
    whole_and_live(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_backup_of_postgres_while_a_turn_streams_is_whole_elsewhere() {
    whole_and_live(Kind::Postgres).await;
}
