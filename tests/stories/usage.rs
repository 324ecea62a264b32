//! Every token is counted and priced, each call of a model once, whatever becomes of its turn.

use serde_json::{Value, json};
use toml::Table;

use crate::support::{
    Client, Database, Encoding, Gate, Gateway, Kind, Request, Scene, Script, Setup, Told, Upstream, chance,
};

/// What a model costs from a day on, in nano-USD for a million tokens; a completion ten times as much.
pub fn price(model: &str, valid_from: &str, prompt: i64) -> Table {
    let fields: [(&str, toml::Value); 4] = [
        ("model", model.into()),
        ("valid_from", valid_from.into()),
        ("prompt_nano_usd_per_mtok", prompt.into()),
        ("completion_nano_usd_per_mtok", (10 * prompt).into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn priced(setup: Setup) -> Setup {
    setup.set("prices", vec![price("test-*", "2026-01-01", 1_000_000_000)])
}

/// A chunk with a usage of every class.
fn usage(prompt: u64, cached: u64, completion: u64, reasoning: u64) -> String {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "scripted", "choices": [], "usage": {
        "prompt_tokens": prompt, "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }})
    .to_string()
}

/// The sums over all records, and over all sums of one span: calls, tokens of prompts and completions, cost, and calls
/// without one.
async fn sums(database: &Database, span: Option<u64>) -> Vec<String> {
    let sum = |of: &str| format!("cast(coalesce(sum({of}), 0) as bigint)");
    let from = match span {
        None => {
            let (cost, unpriced) = (sum("cost_nano_usd"), sum("case when cost_nano_usd is null then 1 else 0 end"));
            let columns = [sum("1"), sum("prompt_tokens"), sum("completion_tokens"), cost, unpriced];
            (columns, "usage_records".to_owned())
        }
        Some(span) => {
            let columns = ["calls", "prompt_tokens", "completion_tokens", "cost_nano_usd", "unpriced_calls"];
            (columns.map(sum), format!("usage_totals where span = {span}"))
        }
    };
    let (columns, from) = from;
    let columns = columns.map(|column| format!("cast({column} as text)")).join(" || ' ' || ");
    database.texts(&format!("select {columns} from {from}")).await
}

/// Fails unless both kinds of sums are those of the records; they are.
async fn assert_counted(database: &Database) -> Vec<u64> {
    let records = sums(database, None).await;
    for span in [900, 86_400] {
        assert_eq!(sums(database, Some(span)).await, records, "sums by {span} s; right are those of the records");
    }
    records[0].split(' ').map(|sum| sum.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_call_costs_what_its_tokens_come_to_each_in_its_class() {
    let scene = Scene::with(|setup| {
        let mut price = price("test-*", "2026-01-01", 1_000_000_000);
        price.insert("cached_nano_usd_per_mtok".to_owned(), 100_000_000.into());
        price.insert("reasoning_nano_usd_per_mtok".to_owned(), 20_000_000_000_i64.into());
        setup.set("prices", vec![price])
    })
    .await;
    scene.upstream.push(Script::new().role().delta("Hi").finish("stop").data(&usage(1000, 400, 50, 20)).done());
    let told = scene.told("hello").await;
    let cost = 600 * 1000 + 400 * 100 + 30 * 10_000 + 20 * 20_000;
    let event = told.frames.iter().find(|frame| frame.kind() == "usage").unwrap();
    assert_eq!((&event.json["cost_nano_usd"], &event.json["basis"]), (&json!(cost), &json!("reported")));
    assert_eq!(told.message["usage"]["cost_nano_usd"], cost);
    assert_eq!(scene.client.turn(&told.turn).await["usage"]["cost_nano_usd"], cost);
    assert_eq!(assert_counted(&scene.database).await, [1, 1000, 50, cost, 0]);
    let columns = "turn_id || ' ' || conversation_id || ' ' || step_id || ' ' || application_id || ' ' || owner_id || ' ' \
        || model || ' ' || answered_by || ' ' || upstream || ' ' || basis || ' ' || ended";
    let record = scene.database.texts(&format!("select {columns} from usage_records")).await;
    let step = event.json["step_id"].as_str().unwrap();
    let due = format!(
        "{} {} {step} default local test-model scripted fake0 reported completed",
        told.turn, told.conversation
    );
    assert_eq!(record, [due]);
    let times = "select duration_ms - first_token_ms from usage_records where first_token_ms is not null";
    assert!(scene.database.numbers(times).await[0] >= 0);
    let log = scene.gateway.log();
    let line = log.lines().find(|line| line.contains("turn finished")).unwrap();
    assert!(line.contains("cost_nano_usd") && line.contains(&cost.to_string()), "{line}");
    let metrics = scene.client.send(Request::get("/metrics")).await;
    let metrics = String::from_utf8(metrics.bytes).unwrap();
    let cost_of = |line: &&str| line.starts_with("tidegate_cost_nano_usd_total{");
    assert!(metrics.lines().find(cost_of).unwrap().ends_with(&format!(" {cost}")), "{metrics}");
}

#[tokio::test]
async fn a_call_without_a_price_has_no_cost_and_is_kept_and_one_that_nobody_took_is_neither() {
    let scene = Scene::with(|setup| setup.set("prices", vec![price("other", "2026-01-01", 5)])).await;
    let told = scene.told("hello").await;
    assert!(told.message["usage"].get("cost_nano_usd").is_none(), "{}", told.message);
    assert_eq!(assert_counted(&scene.database).await, [1, 11, 4, 0, 1]);
    // A figure that cannot be is none, and is counted here instead.
    let absurd = usage(u64::MAX, 0, 1, 0);
    scene.upstream.push(Script::new().role().delta("Hi").finish("stop").data(&absurd).done());
    assert_eq!(scene.told("hello").await.message["usage"]["basis"], "estimated");
    let counted = assert_counted(&scene.database).await;
    assert_eq!((counted[0], counted[4]), (2, 2));

    scene.upstream.push(Script::status(500, &[], &json!({})));
    assert!(scene.told("refuse me").await.message["usage"].is_null());
    scene.upstream.push(Script::silence());
    let conversation = scene.client.conversation().await;
    let stream = scene.client.ask(&conversation, "one").await;
    let queued = json!({"content": "two", "if_busy": "queue"});
    let second = scene.client.ask_as(Encoding::Ndjson, &conversation, &queued).await;
    for turn in [second.turn(), stream.turn()] {
        scene.client.stop(&turn).await.expect(200);
    }
    assert_eq!(assert_counted(&scene.database).await, counted);
}

#[tokio::test]
async fn what_is_erased_leaves_what_it_used_and_not_whose_it_was() {
    let scene = Scene::with(priced).await;
    let (gone, kept) = (scene.told("hello").await, scene.told("hello").await);
    let before = assert_counted(&scene.database).await;
    let target = format!("/v1/conversations/{}", gone.conversation);
    let delete = Request { method: "DELETE".into(), ..Request::get(&target) };
    assert_eq!(scene.client.send(delete).await.status, 204);
    assert_eq!(assert_counted(&scene.database).await, before);
    let named = "select turn_id from usage_records where turn_id is not null";
    assert_eq!(scene.database.texts(named).await, [kept.turn]);
    let unnamed = "select cast(prompt_tokens as text) from usage_records where owner_id is null and turn_id is null \
        and conversation_id is null and step_id is null";
    assert_eq!(scene.database.texts(unnamed).await, ["11"]);
}

/// Asks something at random and sees it to its end, or has it stopped, or leaves it to be killed.
async fn one_turn(client: &Client, upstream: &Upstream, rng: &mut fastrand::Rng) -> Option<(String, Option<Gate>)> {
    let conversation = client.conversation().await;
    let (prompt, completion) = (rng.u64(1..5000), rng.u64(1..500));
    let answer = |script: Script| script.finish("stop").data(&usage(prompt, prompt / 3, completion, 1)).done();
    match rng.usize(..5) {
        0 => {
            upstream.push(Script::status(503, &[], &json!({})));
            Told::hear(client, &conversation, client.ask(&conversation, "fall back").await).await;
            None
        }
        1 => {
            upstream.push(Script::new().stamped(5).cut());
            Told::hear(client, &conversation, client.ask(&conversation, "cut").await).await;
            None
        }
        2 => {
            upstream.push(Script::new().stamped(5).hang());
            let mut stream = client.ask(&conversation, "stop").await;
            while stream.event().await.kind() != "delta" {}
            client.stop(&stream.turn()).await.expect(200);
            None
        }
        3 => {
            let gate = Gate::new();
            upstream.push(answer(Script::new().stamped(5).gate(&gate)));
            let mut stream = client.ask(&conversation, "kill").await;
            while stream.event().await.kind() != "delta" {}
            Some((stream.turn(), Some(gate)))
        }
        _ => {
            upstream.push(answer(Script::new().stamped(3)));
            Told::hear(client, &conversation, client.ask(&conversation, "go").await).await;
            None
        }
    }
}

#[tokio::test]
async fn sums_are_those_of_the_records_and_of_the_answers_after_stops_fallbacks_and_kills() {
    let (database, first, second) = (Database::fresh().await, Upstream::start().await, Upstream::start().await);
    let setup = Gateway::on(&database).upstream(&first).upstream(&second).set("cluster.lease_s", 1);
    // What was seen is saved, and so is counted.
    let setup = setup.set("stream.durability", "strict");
    let mut gateway = priced(setup).start().await;
    let (client, mut rng) = (gateway.client(), chance());
    for _ in 0..3 {
        let mut open = Vec::new();
        for _ in 0..12 {
            open.extend(one_turn(&client, &first, &mut rng).await);
        }
        gateway.kill();
        gateway.restart().await;
        for (turn, _gate) in &open {
            let ended = client.ended(turn).await;
            assert_eq!((&ended["status"], &ended["usage"]["basis"]), (&json!("interrupted"), &json!("estimated")));
            assert!(ended["usage"]["cost_nano_usd"].as_u64().unwrap() > 0, "{ended}");
        }
    }
    let counted = assert_counted(&database).await;
    let usages = database.texts("select usage from messages where usage is not null").await;
    let usages: Vec<Value> = usages.iter().map(|usage| serde_json::from_str(usage).unwrap()).collect();
    let sum = |of: &str| usages.iter().map(|usage| usage[of].as_u64().unwrap()).sum::<u64>();
    let due = [usages.len() as u64, sum("prompt_tokens"), sum("completion_tokens"), sum("cost_nano_usd"), 0];
    assert_eq!(counted, due, "right are the answers'");
}

#[tokio::test]
async fn an_end_that_is_written_again_counts_once() {
    let house = crate::support::house::House::new().await;
    let conversation = house.conversation().await;
    let new = house.turn(&conversation);
    house.admitted(&new).await;
    let ending = house.ending_with_calls(&new, &conversation, 2, 2);
    for _ in 0..3 {
        house.store.end_turn(&house.lease(&new, &conversation, 1), &ending).await.unwrap();
    }
    assert_eq!(assert_counted(&house.database).await, [2, 20, 6, 0, 2]);
    house.store.close().await;
}

#[tokio::test]
async fn two_replicas_count_the_same_owner_without_waiting_for_ever() {
    let database = Database::fresh().await;
    if database.kind() == Kind::Sqlite {
        return;
    }
    let upstream = Upstream::start().await;
    let (one, other) = (
        Gateway::on(&database).upstream(&upstream).start().await,
        Gateway::on(&database).upstream(&upstream).start().await,
    );
    let ask = |client: Client| async move {
        let conversation = client.conversation().await;
        let answer = client.ask_whole(&conversation, "hello").await.expect(200);
        assert_eq!(answer["status"], "completed");
    };
    let asking = (0..60).map(|n| ask(if n % 2 == 0 { one.client() } else { other.client() }));
    futures::future::join_all(asking).await;
    assert_eq!(assert_counted(&database).await[0], 60);
    for gateway in [&one, &other] {
        assert!(!gateway.log().contains("deadlock"), "{}", gateway.log());
    }
}
