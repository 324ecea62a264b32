//! Whoever runs it can see what it does: metrics by their names, readiness by component, one line a turn.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use serde_json::json;

use crate::support::{Client, Gate, Request, Scene, Script, eventually};

/// The figures of a scrape, by name and labels as they are written.
struct Figures(HashMap<String, f64>);

impl Figures {
    async fn of(client: &Client) -> Self {
        let reply = client.send(Request::get("/metrics")).await;
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        let text = String::from_utf8(reply.bytes.to_vec()).unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.map(|line| {
            let (name, figure) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), figure.parse().unwrap())
        });
        Self(figures.collect())
    }

    /// The names there are, without what a histogram adds to its own.
    fn names(&self) -> BTreeSet<String> {
        let name = |key: &String| {
            let name = key.split('{').next().unwrap_or_default();
            let parts = ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part));
            parts.unwrap_or(name).to_owned()
        };
        self.0.keys().map(name).collect()
    }

    #[track_caller]
    fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.0.keys()))
    }

    /// The sum of what has this name and all of these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let with = |key: &&String| key.starts_with(name) && labels.iter().all(|label| key.contains(label));
        self.0.keys().filter(with).map(|key| self.0[key]).sum()
    }
}

/// The metrics that the docs list.
fn documented() -> BTreeSet<String> {
    let docs = include_str!("../../docs/operations.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn metrics_tell_what_an_operator_needs() {
    let scene = Scene::new().await;
    let (client, gate) = (&scene.client, Gate::new());
    scene.upstream.when("cut", Script::new().delta("half").cut());
    scene.upstream.when("down", Script::status(503, &[], &json!({})));
    scene.upstream.when("live", Script::new().delta("one").gate(&gate).delta("two").finish("stop").usage(3, 5).done());
    assert_eq!(scene.told("cut").await.end()["status"], "truncated");
    assert_eq!(scene.told("down").await.end()["status"], "failed");
    let conversation = client.conversation().await;
    let mut live = client.ask(&conversation, "live").await;
    live.events(3).await;
    let busy = client.post(&format!("/v1/conversations/{conversation}/messages"), &json!({"content": "?"})).await;
    assert_eq!(busy.expect(409)["code"], "turn_in_progress");

    // The two that have heard their ends are let go right after.
    let during = eventually("one reader", async || {
        Some(Figures::of(client).await).filter(|figures| figures.get("tidegate_readers") == 1.0)
    })
    .await;
    assert_eq!(during.get("tidegate_turns_live"), 1.0);
    assert!(during.get("tidegate_connections") >= 1.0);
    gate.open();
    live.rest().await;
    let figures = Figures::of(client).await;
    assert_eq!(figures.get("tidegate_turns_live"), 0.0);
    for (status, count) in [("truncated", 1.0), ("failed", 1.0), ("completed", 1.0)] {
        assert_eq!(figures.get(&format!("tidegate_turns_finished_total{{status=\"{status}\"}}")), count);
    }
    assert_eq!(figures.get("tidegate_turn_duration_seconds_count"), 3.0);
    assert_eq!(figures.get("tidegate_turn_first_token_seconds_count"), 2.0);
    assert_eq!(figures.get("tidegate_deltas_total"), 3.0);
    let error = |kind: &str| format!("tidegate_upstream_errors_total{{upstream=\"fake0\",kind=\"{kind}\"}}");
    assert_eq!((figures.get(&error("truncated")), figures.get(&error("unavailable"))), (1.0, 1.0));
    assert_eq!(figures.get("tidegate_refusals_total{code=\"turn_in_progress\"}"), 1.0);
    // What an EventSource is told as an empty stream is a refusal; an end told to whoever waits for JSON is none.
    let conversation = client.conversation().await;
    assert_eq!(client.ask_whole(&conversation, "down").await.status, 503);
    let figures = Figures::of(client).await;
    assert_eq!(figures.sum("tidegate_refusals_total", &[]), 1.0);
    let who = [r#"gen_ai_provider_name="openai""#, r#"gen_ai_request_model="test-model""#, r#"upstream="fake0""#];
    assert_eq!(figures.sum("gen_ai_client_operation_duration_seconds_count", &who), 4.0);
    assert_eq!(figures.sum("gen_ai_client_operation_time_to_first_chunk_seconds_count", &who), 2.0);
    let output = [&who[..], &[r#"gen_ai_token_type="output""#]].concat();
    assert!(figures.sum("gen_ai_client_token_usage_sum", &output) >= 5.0);
    let posts = ["http_request_method=\"POST\"", "http_route=\"/v1/conversations/{id}/messages\""];
    let answered =
        |status: &str| figures.sum("http_server_request_duration_seconds_count", &[posts[0], posts[1], status]);
    assert_eq!((answered("code=\"200\""), answered("code=\"409\"")), (3.0, 1.0));
    for access in ["read", "write"] {
        let name = format!("tidegate_database_duration_seconds_count{{access=\"{access}\"}}");
        assert!(figures.get(&name) >= 3.0, "{access}");
    }
    assert!(figures.get("tidegate_journal_lag_seconds") < 30.0);
    assert!(figures.get("tidegate_unsaved_bytes") >= 0.0);
    assert_eq!(figures.sum("tidegate_build_info", &[concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")]), 1.0);
    assert_eq!(figures.get("tidegate_database_failures_total{access=\"write\"}"), 0.0);
    assert_eq!(figures.names(), documented(), "docs/operations.md lists what there is");
    eventually("the event loop to be looked at", async || {
        (Figures::of(client).await.get("tidegate_event_loop_stall_seconds_count") > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_name_that_a_client_makes_up_is_one_label() {
    let scene = Scene::new().await;
    let ask = json!({"message": "go", "model": r#"a"b\",upstream="forged"#});
    assert_eq!(scene.client.post("/v1/chat/stream", &ask).await.status, 200);
    let figures = Figures::of(&scene.client).await;
    let told = [r#"gen_ai_request_model="a\"b\\\",upstream=\"forged""#, r#"upstream="fake0""#];
    assert_eq!(figures.sum("gen_ai_client_operation_duration_seconds_count", &told), 1.0);
}

#[tokio::test]
async fn metrics_that_nobody_takes_are_held_by_four_at_most() {
    let scene = Scene::new().await;
    // Enough of them that no socket takes all.
    for model in 0..190 {
        let ask = json!({"message": "go", "model": format!("{model}{}", "m".repeat(250))});
        assert_eq!(scene.client.post("/v1/chat/stream", &ask).await.status, 200);
    }
    let mut stalled = Vec::new();
    let refused = eventually("a refusal", async || {
        stalled.push(scene.client.open(Request::get("/metrics")).await);
        let last = stalled.last().unwrap();
        (last.status() == 503).then_some(stalled.len())
    })
    .await;
    assert_eq!(refused, 5);
    assert_eq!(scene.client.get("/metrics").await.expect(503)["code"], "too_many_readers");
    drop(stalled);
    eventually("the metrics again", async || {
        (scene.client.send(Request::get("/metrics")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_on_a_listener_of_their_own_are_nowhere_else_and_outlast_the_drain() {
    let mut scene = Scene::with(|setup| setup.set("metrics.listen", "127.0.0.1:0")).await;
    let (client, gate) = (scene.client.clone(), Gate::new());
    scene.upstream.always(Script::new().delta("one").gate(&gate).finish("stop").usage(1, 1).done());
    let address = eventually("the metrics' address", async || {
        let log = scene.gateway.log();
        let (_, rest) = log.split_once("metrics are at http://")?;
        rest.split_once("/metrics")?.0.parse::<SocketAddr>().ok()
    })
    .await;
    assert_eq!(client.get("/metrics").await.expect(404)["code"], "route_not_found");
    let metrics = Client::new(address);
    // Scrapers come under any name; and nothing else is here.
    let reply = metrics.send(Request::get("/metrics").header("host", "gateway.internal:9464")).await;
    assert_eq!(reply.status, 200);
    for path in ["/", "/v1/models", "/readyz"] {
        assert_eq!(metrics.get(path).await.expect(404)["code"], "route_not_found", "{path}");
    }
    let conversation = client.conversation().await;
    let mut live = client.ask(&conversation, "go").await;
    live.events(3).await;
    scene.gateway.terminate();
    eventually("the listener to close", async || client.try_send(Request::get("/healthz")).await.err()).await;
    assert_eq!(Figures::of(&metrics).await.get("tidegate_turns_live"), 1.0);
    gate.open();
    assert_eq!(live.rest().await.last().unwrap().json["status"], "completed");
    assert!(scene.gateway.exit().await.success());
}

#[tokio::test]
async fn readiness_names_each_component_with_its_state_and_version() {
    let scene = Scene::new().await;
    let ready = scene.client.get("/readyz").await.expect(200);
    assert_eq!((&ready["status"], &ready["version"]), (&json!("ready"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(ready["time"].as_str().unwrap().ends_with('Z') && ready["uptime_ms"].is_u64(), "{ready}");
    let store = &ready["components"]["store"];
    assert_eq!(store["status"], "ok");
    assert!(store["latency_ms"].is_u64(), "{store}");
    assert!(store["version"].as_str().unwrap().starts_with(|first: char| first.is_ascii_digit()), "{store}");
    let journal = &ready["components"]["journal"];
    assert_eq!((&journal["status"], journal["lag_ms"].is_u64()), (&json!("ok"), true));
    assert_eq!(ready["components"]["turns"], json!({"status": "ok", "live": 0}));
}

#[tokio::test]
async fn a_turn_leaves_one_line_with_ids_end_times_and_sizes_and_none_of_what_was_said() {
    let scene = Scene::new().await;
    scene.upstream.always(Script::answer(&["the answer's own words", " and more"]));
    let told = scene.told("the question's own words").await;
    let line = eventually("the turn's line", async || {
        let log = scene.gateway.log();
        let mut lines = log.lines().filter(|line| line.contains("turn finished"));
        lines.find(|line| line.contains(&told.turn)).map(str::to_owned)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (field, value) in [
        ("turn_id", json!(told.turn)),
        ("conversation_id", json!(told.conversation)),
        ("model", json!("test-model")),
        ("status", json!("completed")),
        ("events", json!(told.last())),
        ("answer_bytes", json!(told.content().len())),
        ("prompt_tokens", told.message["usage"]["prompt_tokens"].clone()),
        ("completion_tokens", told.message["usage"]["completion_tokens"].clone()),
        ("duration_ms", told.end()["duration_ms"].clone()),
        ("first_token_ms", told.end()["first_token_ms"].clone()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    let queried = scene.client.send(Request::get("/v1/chat/nobody/history?secret=tg_query")).await;
    assert!(queried.status >= 200);
    eventually("the request's line", async || {
        scene.gateway.log().contains("/v1/chat/{session_id}/history").then_some(())
    })
    .await;
    let log = scene.gateway.log();
    for secret in ["own words", "and more", "tg_query"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_crowd_that_asks_for_readiness_is_told_by_one_look() {
    let scene = Scene::new().await;
    let reads = async || Figures::of(&scene.client).await.sum("tidegate_database_duration_seconds_count", &[]);
    let before = reads().await;
    let asked = futures::future::join_all((0..200).map(|_| scene.client.get("/readyz"))).await;
    assert!(asked.iter().all(|ready| ready.status == 200));
    let looks = reads().await - before;
    // A machine that is busy takes longer over the crowd than a look is good for, and the tasks behind look too.
    assert!(looks < 100.0, "{looks} uses of the database");
}
