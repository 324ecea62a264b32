//! What neighbouring versions read of each other, pinned: `tests/golden` has rows as they were written when a migration was
//! the last one, and what readers were told of them. Today's program reads every such set; and where it writes otherwise than
//! the newest set has it, that is to be a set of its own: `TIDEGATE_TEST_UPDATE=1` writes it (CONTRIBUTING.md, "Formats").
//! In a set `told.json` is what was told, and each `….jsonl` the rows of a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::stories::usage::price;
use crate::support::access::user;
use crate::support::{
    Client, Database, Encoding, Frame, Gate, Gateway, Kind, Record, Request, Row, Script, Setup, Stream, Upstream,
    eventually,
};
use tidegate::store::Store;

/// What keys and tokens of every set are made with.
const PEPPER: &str = "golden-golden-golden-golden-golden";
/// A hundred years: nothing of a set is ever past its time.
const FOR_EVER: i64 = 3_155_760_000;
/// Deltas of the turn that a crash breaks off: so large that they are filed, and so small that they are not.
const LONG: usize = 20;
const SHORT: usize = 3;

/// A set: the rows by table, and what was told of them.
struct Set {
    name: String,
    rows: BTreeMap<String, Vec<Row>>,
    told: Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Every set there is, the oldest first.
fn sets() -> Vec<Set> {
    let entries = fs::read_dir(folder()).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names.into_iter().map(Set::read).collect()
}

impl Set {
    fn read(name: String) -> Self {
        let (mut rows, home) = (BTreeMap::new(), folder().join(&name));
        for entry in fs::read_dir(&home).unwrap().flatten() {
            let file = entry.file_name().into_string().unwrap();
            if let Some(table) = file.strip_suffix(".jsonl") {
                let text = fs::read_to_string(entry.path()).unwrap();
                rows.insert(table.to_owned(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
            }
        }
        let told = serde_json::from_str(&fs::read_to_string(home.join("told.json")).unwrap()).unwrap();
        Self { name, rows, told }
    }

    fn write(&self) {
        let home = folder().join(&self.name);
        fs::create_dir_all(&home).unwrap();
        for (table, rows) in &self.rows {
            let lines: String = rows.iter().map(|row| format!("{}\n", json!(row))).collect();
            fs::write(home.join(format!("{table}.jsonl")), lines).unwrap();
        }
        fs::write(home.join("told.json"), format!("{:#}\n", self.told)).unwrap();
    }

    /// The migration that was the last one.
    fn migration(&self) -> i64 {
        self.name[..4].parse().unwrap()
    }
}

/// Everything that has a row, but for the models: limits, prices, windows so small that summaries are made.
fn setup(database: &Database, upstream: &Upstream, home: &TempDir) -> Setup {
    let pepper = home.path().join("pepper");
    fs::write(&pepper, PEPPER).unwrap();
    let setup = Gateway::on(database).upstream(upstream).demo().closed();
    let setup = setup.set("upstreams.0.models", vec!["test-*", "cheap"]).set("cluster.lease_s", 1);
    let setup = setup.set("auth.pepper_file", pepper.to_str().unwrap()).set("auth.visitor_token_s", FOR_EVER);
    let setup = setup.set("stream.retention_s", FOR_EVER).set("limits.turn_memory_bytes", 8192);
    let setup = setup.set("window.models", toml::toml! { test-small = 500 }).set("window.summary_model", "cheap");
    let setup =
        setup.set("prices", vec![price("test-*", "2020-01-01", 1_000_000_000), price("cheap", "2020-01-01", 1000)]);
    let limits = ["tokens_per_minute", "concurrent_turns", "budget_day_nano_usd", "per_user.budget_month_nano_usd"];
    limits.iter().fold(setup, |setup, limit| setup.set(&format!("applications.0.limits.{limit}"), 1_i64 << 40))
}

fn asking(conversation: &str) -> String {
    format!("/v1/conversations/{conversation}/messages")
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("no id: {value}")).to_owned()
}

fn texts(frames: &[Frame]) -> Value {
    frames.iter().map(|frame| String::from_utf8(frame.bytes.clone()).unwrap()).collect()
}

/// The question under a key, which a retry must find again.
fn keyed(conversation: &str) -> Request {
    let question = json!({"content": "Think, and show me a chart.", "model": "demo", "metadata": {"nul": "\u{0}"}});
    let request = Request::post(&asking(conversation), &question).header("idempotency-key", "golden");
    request.accept(Encoding::Ndjson)
}

/// Lives through a story that writes rows of every kind, and is killed: the rows, and what was told.
async fn written() -> Set {
    let (database, upstream, home) = (Database::fresh().await, Upstream::start().await, TempDir::new().unwrap());
    upstream.when("refused", Script::status(503, &[], &json!({})));
    upstream.when("broken", Script::new().role().delta("half").cut());
    let (gate, pace) = (Gate::new(), Duration::from_millis(5));
    let long = Script::new().role().deltas(LONG, pace, |n| format!("{n:03}{}", "~".repeat(997)));
    upstream.when("running", long.gate(&gate).deltas(SHORT, pace, |n| format!("[{n}]")).hang());
    upstream.always(Script::answer(&["An ", "answer."]));
    let mut gateway = setup(&database, &upstream, &home).start().await;
    let key = gateway.key("shop", "admin");
    let (admin, ann) = (gateway.client().bearing(&key.text), gateway.client().bearing(&user("ann")));

    let made =
        json!({"title": "Tides \u{0}", "metadata": {"a": 1}, "context": {"x": [1]}, "config": {"temperature": 0.5}});
    let rich = id(&ann.post("/v1/conversations", &made).await.expect(201));
    let mut turns = Map::new();
    let mut hear = async |mut stream: Stream| {
        let frames = stream.rest().await;
        turns.insert(stream.turn(), texts(&frames));
    };
    hear(ann.open(keyed(&rich)).await).await;
    let answer = ann.answer(&rich).await;
    let feedback = json!({"rating": "up", "reason": "right", "note": "quite"});
    ann.post(&format!("/v1/messages/{}/feedback", id(&answer)), &feedback).await.expect(200);
    ann.post("/v1/tickets", &json!({"conversation_id": rich})).await;
    for question in ["refused", "broken", "plain"] {
        hear(ann.ask(&rich, question).await).await;
    }
    ann.post(&format!("/v1/messages/{}/regenerate", id(&ann.answer(&rich).await)), &json!({})).await.expect(200);
    let small = ann.conversation().await;
    for _ in 0..4 {
        let question = json!({"content": "Many words to be summarised. ".repeat(20), "model": "test-small"});
        ann.post(&asking(&small), &question).await;
    }
    ann.post(&format!("/v1/conversations/{small}/archive"), &json!({"reason": "done"})).await.expect(200);
    let visitor =
        gateway.client().with_header("tidegate-widget", "wk_shop").with_header("origin", "https://shop.example");
    let visitor_token =
        visitor.post("/v1/visitors", &json!({"widget_key": "wk_shop"})).await.expect(200)["token"].clone();
    let visitor = gateway.client().bearing(visitor_token.as_str().unwrap());
    visitor.post("/v1/chat/stream", &json!({"message": "Hello", "session_id": "s1"})).await.expect(200);

    let live = ann.conversation().await;
    let mut stream = ann.ask(&live, "running").await;
    let running = stream.turn();
    let mut seen = stream.events(2 + LONG).await;
    // Filed are 2 KiB at a time, a quarter of what a turn may hold in memory.
    eventually("the long ones to be filed", async || {
        let filed = format!("select count(*) from journal where turn_id = '{running}' and last_seq > {LONG}");
        (database.numbers(&filed).await[0] > 0).then_some(())
    })
    .await;
    gate.open();
    seen.extend(stream.events(SHORT).await);
    let seen = texts(&seen);
    let queued = json!({"content": "queued", "if_busy": "queue"});
    let queued = ann.send(Request::post(&asking(&live), &queued).header("prefer", "respond-async")).await.expect(202);
    eventually("the events to be saved", async || {
        let metrics = admin.send(Request::get("/metrics")).await;
        String::from_utf8_lossy(&metrics.bytes).contains("\ntidegate_unsaved_bytes 0\n").then_some(())
    })
    .await;
    let day = json!(answer["created_at"].as_str().unwrap()[..10]);
    let told = json!({
        "key": key.text, "visitor_token": visitor_token, "rich": rich, "turns": turns,
        "conversations": conversations(&ann, &[&rich, &small]).await,
        "history": visitor.get("/v1/chat/s1/history").await.expect(200),
        "day": day, "usage": usage(&admin, &day).await, "audit": admin.get("/v1/audit?limit=100").await.expect(200)["data"],
        "running": {"turn": running, "events": seen}, "queued": id(&queued),
    });
    gateway.kill();
    let mut rows = BTreeMap::new();
    for table in database.tables().await {
        rows.insert(table.clone(), database.rows(&table).await);
    }
    let last = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite")).unwrap().flatten();
    let last = last.map(|entry| entry.file_name().into_string().unwrap()[..4].to_owned()).max().unwrap();
    Set { name: last, rows, told }
}

/// What is told of conversations: their messages, and all of each as a file.
async fn conversations(client: &Client, ids: &[&str]) -> Value {
    let mut told = Map::new();
    for id in ids {
        let file = client.get(&format!("/v1/conversations/{id}/export")).await.expect(200);
        told.insert((*id).to_owned(), json!({"messages": client.messages(id).await, "export": file}));
    }
    told.into()
}

/// What calls used on a day, of models that no turn left open asked.
async fn usage(admin: &Client, day: &Value) -> Value {
    let day = day.as_str().unwrap();
    let told = admin.get(&format!("/v1/usage?from={day}&to={day}&group_by=model")).await.expect(200);
    let rows = told["rows"].as_array().unwrap().iter().filter(|row| row["model"] != "test-model");
    rows.cloned().collect()
}

/// Fails unless today's program reads a set that lies in this database.
async fn assert_read(set: &Set, database: &Database) {
    let (upstream, home) = (Upstream::start().await, TempDir::new().unwrap());
    upstream.always(Script::answer(&["An ", "answer."]));
    let gateway = setup(database, &upstream, &home).start().await;
    let told = &set.told;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (admin, ann) = (gateway.client().bearing(&text(&told["key"])), gateway.client().bearing(&user("ann")));

    for (turn, events) in told["turns"].as_object().unwrap() {
        let frames = ann.events(Encoding::Ndjson, turn, 0).await.rest().await;
        assert_eq!(&texts(&frames), events, "{turn}, byte for byte");
        Record::read(&ann, turn).await;
    }
    let ids: Vec<&str> = told["conversations"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(conversations(&ann, &ids).await, told["conversations"]);
    let retried = ann.open(keyed(&text(&told["rich"]))).await.rest().await;
    let first = told["turns"].as_object().unwrap().values().find(|events| **events == texts(&retried));
    assert!(first.is_some() && upstream.calls().iter().all(|call| call.question() != "Think, and show me a chart."));
    let visitor = gateway.client().bearing(&text(&told["visitor_token"]));
    assert_eq!(visitor.get("/v1/chat/s1/history").await.expect(200), told["history"]);
    assert_eq!(usage(&admin, &told["day"]).await, told["usage"]);
    let audit = admin.get("/v1/audit?limit=100").await.expect(200);
    let rows = audit["data"].as_array().unwrap();
    assert!(told["audit"].as_array().unwrap().iter().all(|row| rows.contains(row)), "{audit}");
    assert_eq!(admin.get("/v1/users").await.expect(200)["data"].as_array().unwrap().len(), 2);
    assert!(text(&admin.get("/v1/keys").await.expect(200)["data"][0]["id"]).starts_with("key_"));
    eventually("the words to be found", async || {
        let found = ann.get("/v1/conversations?q=summarised&include_archived=true").await.expect(200);
        (found["data"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;

    let running = text(&told["running"]["turn"]);
    ann.ended(&running).await;
    let record = Record::read(&ann, &running).await;
    let (saved, _) = record.crash.unwrap();
    assert_eq!((record.status(), saved), ("interrupted", set.saved(&running, database.kind())));
    let events = told["running"]["events"].as_array().unwrap();
    let kept = record.frames.iter().filter(|frame| frame.seq() <= Some(saved)).cloned().collect::<Vec<_>>();
    assert_eq!(texts(&kept), Value::from(events[..kept.len()].to_vec()));
    assert_eq!(ann.ended(&text(&told["queued"])).await["status"], "completed");
    ann.ask_whole(&text(&told["rich"]), "And now?").await.expect(200);
}

impl Set {
    /// S of the turn that was broken off: on SQLite what the tail has counts too.
    fn saved(&self, turn: &str, kind: Kind) -> u64 {
        let filed = self.rows["journal"].iter().filter(|row| row["turn_id"] == turn);
        let filed = filed.map(|row| row["last_seq"].as_u64().unwrap()).max().unwrap();
        match kind {
            Kind::Sqlite => self.told["running"]["events"].as_array().unwrap().len() as u64,
            Kind::Postgres => filed,
        }
    }

    async fn lay_into(&self, database: &Database) {
        for (table, rows) in &self.rows {
            for row in rows {
                database.insert(table, row).await;
            }
        }
    }
}

#[tokio::test]
async fn what_earlier_versions_wrote_is_read_after_an_upgrade() {
    for set in sets() {
        let database = Database::fresh().await;
        database.migrate_to(set.migration()).await;
        set.lay_into(&database).await;
        assert_read(&set, &database).await;
    }
}

#[tokio::test]
async fn what_earlier_versions_go_on_writing_beside_this_one_is_read() {
    for set in sets() {
        let database = Database::fresh().await;
        Store::beside(&database.url(), Duration::from_secs(10)).await.unwrap().close().await;
        set.lay_into(&database).await;
        assert_read(&set, &database).await;
    }
}

/// What stands where in the rows: for each path of columns and JSON keys, the types that are there.
type Shapes = BTreeMap<String, BTreeSet<&'static str>>;

fn shapes(rows: &BTreeMap<String, Vec<Row>>, tables: &BTreeSet<&String>) -> Shapes {
    let mut shapes = Shapes::new();
    for (table, rows) in rows.iter().filter(|(table, _)| tables.contains(table)) {
        for row in rows {
            for (column, value) in row {
                let path = format!("{table}.{column}");
                match value.get("text").and_then(Value::as_str).or(value.as_str()) {
                    Some(lines) if column == "lines" => lines.lines().for_each(|line| {
                        let event: Value = serde_json::from_str(line).unwrap();
                        // A line is the same wherever it lies.
                        look(&format!("lines<{}>", event["type"].as_str().unwrap()), &event, &mut shapes);
                    }),
                    // Whatever the story said is its own; what the program made of it is JSON.
                    Some(text) if text.starts_with(['{', '[']) => {
                        look(&path, &serde_json::from_str(text).unwrap(), &mut shapes)
                    }
                    Some(_) | None => look(&path, value, &mut shapes),
                }
            }
        }
    }
    // What may be absent is in one row and not in another, and not always in the same.
    for types in shapes.values_mut().filter(|types| types.len() > 1) {
        types.remove("null");
    }
    shapes
}

fn look(path: &str, value: &Value, shapes: &mut Shapes) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "text",
        Value::Array(items) => {
            items.iter().for_each(|item| look(&format!("{path}[]"), item, shapes));
            "list"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| look(&format!("{path}.{key}"), field, shapes));
            "object"
        }
    };
    shapes.entry(path.to_owned()).or_default().insert(kind);
}

#[tokio::test]
async fn what_this_version_writes_has_the_shape_of_the_newest_set() {
    let today = written().await;
    let newest = sets().pop();
    if let Some(newest) = &newest {
        // PostgreSQL has no tail, and a machine that stands still for ten seconds files all that SQLite has in it; otherwise the
        // story leaves rows in every table.
        let full = |set: &Set| {
            set.rows.iter().filter(|(_, rows)| !rows.is_empty()).map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        let (mut ours, mut theirs) = (full(&today), full(newest));
        for tables in [&mut ours, &mut theirs] {
            tables.retain(|table| table != "tail" || !today.rows[table].is_empty());
        }
        let (both, all): (BTreeSet<_>, _) = (ours.intersection(&theirs).collect(), ours.union(&theirs).count());
        let (now, then) = (shapes(&today.rows, &both), shapes(&newest.rows, &both));
        let different = |one: &Shapes, other: &Shapes| -> Vec<String> {
            let differs = |(path, types): &(&String, &BTreeSet<&str>)| {
                let same = other
                    .get(*path)
                    .is_some_and(|there| there == *types || there.contains("null") || types.contains("null"));
                !same
            };
            one.iter().filter(differs).map(|(path, types)| format!("{path} {types:?}")).collect()
        };
        let (new, gone) = (different(&now, &then), different(&then, &now));
        if new.is_empty() && gone.is_empty() && both.len() == all {
            return;
        }
        assert!(
            std::env::var("TIDEGATE_TEST_UPDATE").is_ok() && crate::DATABASE == Kind::Sqlite,
            "rows have another shape than in tests/golden/{}: new {new:#?}, gone {gone:#?}, tables {ours:?} and {theirs:?}. \
             If versions on both sides of this change can stand side by side (CONTRIBUTING.md, \"Formats\"), TIDEGATE_TEST_UPDATE=1 \
             on SQLite writes a set of its own.",
            newest.name
        );
    }
    let running = today.told["running"]["turn"].as_str().unwrap();
    let (all, filed) = (today.saved(running, Kind::Sqlite), today.saved(running, Kind::Postgres));
    assert!((3..all).contains(&filed), "{filed} of {all} events are filed: a set has both kinds");
    let taken = |name: &str| newest.as_ref().is_some_and(|newest| newest.name == name);
    let names = std::iter::once(today.name.clone()).chain((2..10).map(|n| format!("{}-{n}", today.name)));
    let name = names.into_iter().find(|name| !folder().join(name).exists() && !taken(name)).unwrap();
    Set { name, ..today }.write();
}
