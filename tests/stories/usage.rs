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
    assert_told(&client, &counted, &mut rng).await;
}

/// Fails unless the sums that are told come to these, by whatever they are told and wherever days begin.
async fn assert_told(client: &Client, counted: &[u64], rng: &mut fastrand::Rng) {
    const ZONES: [&str; 6] =
        ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Marquesas"];
    for groups in ["", "day", "model", "day,model", "user,key,assistant", "day,user,model,assistant,key"] {
        let told = client.get(&format!("/v1/usage?group_by={groups}&tz={}", ZONES[rng.usize(..6)])).await.expect(200);
        assert_eq!(columns(&told["totals"]), counted, "{told}");
        let rows = told["rows"].as_array().unwrap();
        let sums = (0..counted.len()).map(|at| rows.iter().map(|row| columns(row)[at]).sum::<u64>());
        assert!(groups.is_empty() && rows.is_empty() || sums.eq(counted.iter().copied()), "{told}");
    }
}

/// What [`sums`] gives, of an object of sums.
fn columns(sums: &Value) -> Vec<u64> {
    let names = ["calls", "prompt_tokens", "completion_tokens", "cost_nano_usd", "unpriced_calls"];
    names.iter().map(|name| sums[*name].as_u64().unwrap_or_else(|| panic!("no {name}: {sums}"))).collect()
}

/// Adds a call of another time to the sums, as an end would.
async fn add(database: &Database, owner: &str, quarter: &str, model: &str, cost: u64) {
    let at: jiff::Timestamp = quarter.parse().unwrap();
    for span in [900, 86_400] {
        let start = at.as_microsecond() - at.as_microsecond().rem_euclid(span * 1_000_000);
        let row = format!(
            "insert into usage_totals values ('default', '{owner}', {span}, {start}, '{model}', '', '', 0, 1, 10, 1, 0, 0, 0, \
             {cost}, 0, 0) on conflict (application_id, owner_id, span, start, model, assistant_id, key_id, shard) do update \
             set calls = usage_totals.calls + 1, prompt_tokens = usage_totals.prompt_tokens + 10, \
             completion_tokens = usage_totals.completion_tokens + 1, \
             cost_nano_usd = usage_totals.cost_nano_usd + {cost}"
        );
        database.run(&row).await;
    }
}

#[tokio::test]
async fn usage_is_told_by_the_days_of_any_time_zone_and_only_ones_own() {
    let scene = Scene::new().await;
    let get = async |query: &str| scene.client.get(&format!("/v1/usage?{query}")).await.expect(200);
    for (owner, quarter, model, cost) in [
        ("local", "2026-03-28T22:45:00Z", "a", 1),
        ("local", "2026-03-28T23:00:00Z", "a", 10),
        ("local", "2026-03-29T21:45:00Z", "b", 100),
        ("local", "2026-03-29T22:00:00Z", "b", 1000),
        ("stranger", "2026-03-29T12:00:00Z", "a", 5),
    ] {
        add(&scene.database, owner, quarter, model, cost).await;
    }
    let costs = |told: &Value| {
        let rows = told["rows"].as_array().unwrap().clone();
        let row = |row: Value| (row["day"].as_str().unwrap().to_owned(), row["cost_nano_usd"].as_u64().unwrap());
        rows.into_iter().map(row).collect::<Vec<_>>()
    };
    let days = |days: &[(&str, u64)]| days.iter().map(|(day, cost)| ((*day).to_owned(), *cost)).collect::<Vec<_>>();
    let utc = get("from=2026-03-28&to=2026-03-29").await;
    assert_eq!(costs(&utc), days(&[("2026-03-28", 11), ("2026-03-29", 1100)]));
    assert_eq!((&utc["from"], &utc["tz"]), (&json!("2026-03-28T00:00:00.000000Z"), &json!("UTC")));
    assert_eq!(utc["to"], "2026-03-30T00:00:00.000000Z");
    // The 29th has 23 hours there.
    let berlin = get("from=2026-03-28&to=2026-03-30&tz=Europe/Berlin").await;
    assert_eq!(costs(&berlin), days(&[("2026-03-28", 1), ("2026-03-29", 110), ("2026-03-30", 1000)]));
    let kathmandu = get("from=2026-03-29&to=2026-03-29&tz=asia/kathmandu").await;
    assert_eq!((costs(&kathmandu), &kathmandu["tz"]), (days(&[("2026-03-29", 11)]), &json!("Asia/Kathmandu")));
    let part = get("from=2026-03-28T23:00:00Z&to=2026-03-29T22:00:00Z&group_by=model,user").await;
    assert_eq!((&part["totals"]["cost_nano_usd"], &part["totals"]["calls"]), (&json!(110), &json!(2)));
    let row = &part["rows"][0];
    assert_eq!((&row["model"], &row["user"], row.get("day")), (&json!("a"), &Value::Null, None), "{part}");
    let all = get("from=2026-03-01&to=2026-03-31&group_by=assistant,key").await;
    assert_eq!((&all["rows"][0]["assistant"], &all["rows"][0]["calls"]), (&Value::Null, &json!(4)), "{all}");
    assert_eq!(get("group_by=").await["rows"], json!([]), "the last thirty days");
}

#[tokio::test]
async fn a_table_for_a_spreadsheet_holds_no_formula() {
    let scene = Scene::new().await;
    add(&scene.database, "local", "2026-03-28T12:00:00Z", "=HYPERLINK(\"http://x\",\"y\")", 7).await;
    let reply = scene.client.get("/v1/usage?from=2026-03-28&to=2026-03-28&group_by=model,day&format=csv").await;
    assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(reply.header("content-disposition"), Some("attachment; filename=\"usage.csv\""));
    let head = "model,day,calls,prompt_tokens,completion_tokens,cached_tokens,cache_write_tokens,reasoning_tokens,\
        cost_nano_usd,unpriced_calls,estimated_calls\r\n";
    let row = "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",2026-03-28,1,10,1,0,0,0,7,0,0\r\n";
    assert_eq!(String::from_utf8(reply.bytes).unwrap(), format!("{head}{row}"));
}

#[tokio::test]
async fn what_cannot_be_told_is_named() {
    let scene = Scene::new().await;
    for (query, field) in [
        ("from=yesterday", "from"),
        ("from=2026-01-01T00:00:01Z", "from"),
        ("from=2025-01-01&to=2026-12-31", "from"),
        ("from=2026-02-02&to=2026-02-01", "to"),
        ("to=2026-02-30", "to"),
        ("tz=Mars", "tz"),
        ("tz=../../etc/passwd", "tz"),
        ("group_by=month", "group_by"),
        ("group_by=day,,model", "group_by"),
        ("format=xml", "format"),
        ("limit=3", "limit"),
    ] {
        let refused = scene.client.get(&format!("/v1/usage?{query}")).await.expect(422);
        assert_eq!((&refused["code"], &refused["field"]), (&json!("invalid_request"), &json!(field)), "{query}");
    }
    let numbers = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 10001) select i from n";
    scene
        .database
        .run(&format!(
            "insert into usage_totals select 'default', 'local', 86400, 1767225600000000, 'm' || i, '', '', 0, 1, 1, 1, 0, 0, \
             0, 0, 0, 0 from ({numbers}) t"
        ))
        .await;
    let query = "/v1/usage?from=2026-01-01&to=2026-01-01&group_by=";
    assert_eq!(scene.client.get(&format!("{query}model")).await.expect(422)["field"], "group_by");
    assert_eq!(scene.client.get(query).await.expect(200)["totals"]["calls"], 10_001);
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
