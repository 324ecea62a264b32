//! Tokens a minute, open turns and budgets: reserved with the turn, settled with its end, exact over callers, crashes and
//! replicas.

use futures::future::join_all;
use serde_json::{Value, json};
use tidegate::domain::clock::{Clock, Timestamp};
use tidegate::domain::foresight::Foresight;
use tidegate::domain::ids::{MessageId, TurnId};
use tidegate::domain::quota::{Bounds, Measure, Quotas, Scope};
use tidegate::store::admission::{Admission, NewTurn, Plan};

use super::usage::price;
use crate::support::access::user;
use crate::support::house::{House, at};
use crate::support::{Client, Database, Gate, Reply, Request, Scene, Script, Setup, eventually};

/// An answer without a length keeps so many tokens free.
const ANSWER: u64 = 100;
/// What a turn of `hi` reserves: an answer, a token for each byte of the question, and the marks around two messages.
const TOKENS: u64 = ANSWER + 2 + 2 * 4 + 3;
/// The same in nano-USD: a thousand for a token of the prompt, ten thousand for one of the answer.
const COST: u64 = (TOKENS - ANSWER) * 1000 + ANSWER * 10_000;
/// What a turn uses in the end, and what that costs.
const USED: (u64, u64) = (5 + 3, 5 * 1000 + 3 * 10_000);

/// A gateway with prices whose application `shop` has these limits.
fn limited(setup: Setup, limits: &[(&str, u64)]) -> Setup {
    let setup = setup.closed().set("window.answer_tokens", ANSWER.cast_signed());
    let setup = setup.set("prices", vec![price("test-*", "2026-01-01", 1_000_000_000)]);
    let path = |name: &str| format!("applications.0.limits.{name}");
    limits.iter().fold(setup, |setup, (name, most)| setup.set(&path(name), most.cast_signed()))
}

async fn scene(limits: &[(&str, u64)]) -> Scene {
    Scene::with(|setup| limited(setup, limits)).await
}

/// An answer that waits behind a gate, and uses what [`USED`] says.
fn held(gate: &Gate) -> Script {
    Script::new().role().gate(gate).delta("Hello").finish("stop").usage(5, 3).done()
}

fn ask(session: usize) -> Request {
    let body = json!({"message": "hi", "session_id": format!("s{session}")});
    Request::post("/v1/chat/stream", &body).header("prefer", "respond-async")
}

/// So many at once, each in a session of its own, by these clients in turn: what they are answered.
async fn crowd(clients: &[&Client], first: usize, callers: usize) -> Vec<Reply> {
    join_all((0..callers).map(|caller| clients[caller % clients.len()].send(ask(first + caller)))).await
}

fn admitted(replies: &[Reply]) -> Vec<String> {
    let turns = replies.iter().filter(|reply| reply.status == 202);
    turns.map(|reply| reply.json()["id"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn refused(replies: &[Reply], status: u16, code: &str, scope: &str, limit: &str) {
    for reply in replies.iter().filter(|reply| reply.status != 202) {
        let problem = reply.expect(status);
        let said = (&problem["code"], &problem["scope"], &problem["limit"]);
        assert_eq!(said, (&json!(code), &json!(scope), &json!(limit)), "{problem}");
    }
}

/// What is used of a measure, over all scopes and windows.
async fn used(database: &Database, measure: &str) -> u64 {
    let sum = "select cast(coalesce(sum(used), 0) as text) from quota_counters where measure =";
    database.texts(&format!("{sum} '{measure}'")).await[0].parse().unwrap()
}

/// Waits until these turns have ended, and their ends are in the record.
async fn all_ended(client: &Client, turns: &[String]) {
    for turn in turns {
        client.ended(turn).await;
    }
}

fn minute() -> i64 {
    Measure::Tokens.window(Clock::System.now()).start
}

#[tokio::test]
async fn of_two_hundred_callers_so_many_are_admitted_as_there_are_tokens() {
    let scene = scene(&[("per_user.tokens_per_minute", 10 * TOKENS + 5)]).await;
    // What is counted begins anew with the minute: then all of it is told again, by somebody who has used nothing.
    for attempt in 0.. {
        let (gate, begun) = (Gate::new(), minute());
        scene.upstream.always(held(&gate));
        let client = scene.bearing(&user(&format!("anna{attempt}")));
        let calls = scene.upstream.calls().len();
        let replies = crowd(&[&client], 0, 200).await;
        let turns = admitted(&replies);
        let (first, gate) = (gate, Gate::new());
        first.open();
        all_ended(&client, &turns).await;
        scene.upstream.always(held(&gate));
        let then = admitted(&crowd(&[&client], 1000, 20).await);
        gate.open();
        all_ended(&client, &then).await;
        if minute() != begun {
            continue;
        }
        assert_eq!(turns.len(), 10);
        refused(&replies, 429, "rate_limited", "user", "tokens_per_minute");
        let left = |reply: &Reply| {
            let line = reply.header("ratelimit").unwrap_or_default().to_owned();
            line.strip_prefix("\"user-tokens\";r=").unwrap().split(';').next().unwrap().parse::<u64>().unwrap()
        };
        let mut told: Vec<u64> = replies.iter().filter(|reply| reply.status == 202).map(left).collect();
        told.sort_unstable();
        assert_eq!(told, (0..10).map(|turn| 5 + turn * TOKENS).collect::<Vec<_>>(), "each is told what is left");
        let reply = replies.iter().find(|reply| reply.status == 429).unwrap();
        assert!(reply.header("ratelimit").unwrap().contains("\"user-tokens\";r=0;t="), "{:?}", reply.headers);
        assert!((1..=60).contains(&reply.header("retry-after").unwrap().parse::<u64>().unwrap()));
        // What was reserved too much is there again: the ten have used 80, and there is room for nine.
        assert_eq!(then.len(), usize::try_from((10 * TOKENS + 5 - 10 * USED.0) / TOKENS).unwrap());
        assert_eq!(scene.upstream.calls().len() - calls, 10 + then.len(), "no refused turn asks a model");
        return;
    }
}

#[tokio::test]
async fn visitors_who_are_always_new_share_the_tokens_of_their_address() {
    let limits = [("per_address.tokens_per_minute", TOKENS), ("per_visitor.tokens_per_minute", 10 * TOKENS)];
    let scene = Scene::with(|setup| limited(setup, &limits).set("http.trusted_proxies", vec!["127.0.0.1"])).await;
    let gate = Gate::new();
    scene.upstream.always(held(&gate));
    for attempt in 0.. {
        let (at, begun) = (|network: &str| format!("{network}.{attempt}"), minute());
        let from = |address: String| scene.through("wk_shop").with_header("x-forwarded-for", &address);
        let replies = crowd(&[&from(at("192.0.2"))], 0, 5).await;
        let elsewhere = from(at("198.51.100")).send(ask(0)).await;
        if minute() != begun {
            continue;
        }
        assert_eq!(admitted(&replies).len(), 1);
        refused(&replies, 429, "rate_limited", "address", "tokens_per_minute");
        assert_eq!(elsewhere.status, 202);
        gate.open();
        return;
    }
}

#[tokio::test]
async fn of_two_hundred_callers_so_many_are_admitted_as_the_day_has_money() {
    let most = 10 * COST + 5;
    let scene = scene(&[("budget_day_nano_usd", most), ("budget_month_nano_usd", 100 * COST)]).await;
    let (gate, begun) = (Gate::new(), Clock::System.now());
    scene.upstream.always(held(&gate));
    let people: Vec<Client> = (0..10).map(|person| scene.bearing(&user(&format!("user{person}")))).collect();
    let people: Vec<&Client> = people.iter().collect();
    let replies = crowd(&people, 0, 200).await;
    let turns = admitted(&replies);
    assert_eq!(turns.len(), 10);
    refused(&replies, 402, "budget_exhausted", "application", "budget_day_nano_usd");
    let problem = replies.iter().find(|reply| reply.status == 402).unwrap().json();
    let resets: Timestamp = serde_json::from_value(problem["resets_at"].clone()).unwrap();
    let days = [begun, Clock::System.now()].map(|now| Measure::Day.window(now).end);
    assert!(days.contains(&resets.as_micros()), "{problem}");
    let calls = eventually("the ten to be asked", async || {
        let calls = scene.upstream.calls().len();
        (calls >= 10).then_some(calls)
    });
    assert_eq!((calls.await, used(&scene.database, "day").await), (10, 10 * COST));
    gate.open();
    let admin = scene.bearing(&scene.gateway.key("shop", "admin").text);
    all_ended(&admin, &turns).await;
    assert_eq!(used(&scene.database, "day").await, 10 * USED.1, "settled by what was used");
    let gate = Gate::new();
    scene.upstream.always(held(&gate));
    let then = admitted(&crowd(&people, 1000, 20).await);
    gate.open();
    all_ended(&admin, &then).await;
    assert_eq!(then.len() as u64, (most - 10 * USED.1) / COST);
    assert_eq!(used(&scene.database, "month").await, (10 + then.len() as u64) * USED.1);
    // Another application spends nothing of it.
    let bank = scene.bearing(&scene.gateway.key("bank", "service").text);
    assert_eq!(bank.send(ask(0)).await.status, 202);
}

#[tokio::test]
async fn of_two_hundred_callers_so_many_have_a_turn_open_as_may() {
    let scene = scene(&[("concurrent_turns", 20), ("per_user.concurrent_turns", 15)]).await;
    let gate = Gate::new();
    scene.upstream.always(held(&gate));
    let (anna, bert) = (scene.bearing(&user("anna")), scene.bearing(&user("bert")));
    let hers = crowd(&[&anna], 0, 100).await;
    assert_eq!(admitted(&hers).len(), 15);
    refused(&hers, 429, "rate_limited", "user", "concurrent_turns");
    let his = crowd(&[&bert], 0, 100).await;
    assert_eq!(admitted(&his).len(), 5);
    refused(&his, 429, "rate_limited", "application", "concurrent_turns");
    gate.open();
    all_ended(&anna, &admitted(&hers)).await;
    all_ended(&bert, &admitted(&his)).await;
    assert_eq!(used(&scene.database, "turns").await, 0);
    assert_eq!(admitted(&crowd(&[&anna], 1000, 15).await).len(), 15);
}

#[tokio::test]
async fn a_turn_that_waits_is_open_and_gives_back_all_it_held_when_it_never_runs() {
    let scene = scene(&[("concurrent_turns", 2), ("budget_day_nano_usd", 100 * COST)]).await;
    let gate = Gate::new();
    scene.upstream.always(held(&gate));
    let anna = scene.bearing(&user("anna"));
    let conversation = anna.conversation().await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let post = |body: Value| anna.send(Request::post(&path, &body).header("prefer", "respond-async"));
    let first = post(json!({"content": "hi"})).await.expect(202);
    let second = post(json!({"content": "hi", "if_busy": "queue"})).await.expect(202);
    let third = post(json!({"content": "hi", "if_busy": "queue"})).await;
    assert_eq!(third.expect(429)["limit"], "concurrent_turns");
    assert!(used(&scene.database, "day").await > 2 * COST, "what was said before is in the second's prompt");
    anna.stop(second["id"].as_str().unwrap()).await.expect(200);
    assert_eq!((used(&scene.database, "turns").await, used(&scene.database, "day").await), (1, COST));
    anna.stop(first["id"].as_str().unwrap()).await.expect(200);
    assert_eq!(used(&scene.database, "turns").await, 0);
    assert_eq!(scene.database.texts("select holds from turns where holds is not null").await, [""; 0]);
    // Deleting a conversation stops what is open in it, and that is settled as well.
    post(json!({"content": "hi"})).await.expect(202);
    let delete = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/conversations/{conversation}")) };
    assert_eq!(anna.send(delete).await.status, 204);
    assert_eq!(used(&scene.database, "turns").await, 0);
}

#[tokio::test]
async fn a_retry_of_an_admitted_turn_is_answered_and_takes_nothing() {
    let scene = scene(&[("budget_day_nano_usd", COST), ("concurrent_turns", 1)]).await;
    let gate = Gate::new();
    scene.upstream.always(held(&gate));
    let anna = scene.bearing(&user("anna"));
    let request = ask(0).header("idempotency-key", "once");
    let turn = anna.send(request.clone()).await.expect(202)["id"].clone();
    assert_eq!(anna.send(ask(1)).await.status, 429);
    let before = used(&scene.database, "day").await;
    for _ in 0..5 {
        assert_eq!(anna.send(request.clone()).await.expect(202)["id"], turn);
    }
    assert_eq!((used(&scene.database, "day").await, used(&scene.database, "turns").await), (before, 1));
    gate.open();
    anna.ended(turn.as_str().unwrap()).await;
    // What is left is less than a turn may cost; the turn that was paid for is there all the same.
    assert_eq!(anna.send(ask(1)).await.expect(402)["code"], "budget_exhausted");
    let again = anna.send(request).await;
    assert_eq!((again.status, &again.json()["id"]), (202, &turn));
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_crash_in_the_middle_settles_what_was_held() {
    let mut scene = scene(&[("budget_day_nano_usd", 100 * COST), ("concurrent_turns", 3)]).await;
    scene.upstream.always(Script::new().role().stamped(20).hang());
    let anna = scene.bearing(&user("anna"));
    let mut turns = Vec::new();
    for session in 0..3 {
        let body = json!({"message": "hi", "session_id": format!("s{session}")});
        let mut stream =
            anna.open(Request::post("/v1/chat/stream", &body).header("accept", "application/x-ndjson")).await;
        while stream.event().await.kind() != "delta" {}
        turns.push(stream.turn());
    }
    assert_eq!(anna.send(ask(9)).await.expect(429)["limit"], "concurrent_turns");
    assert_eq!(used(&scene.database, "day").await, 3 * COST);
    scene.gateway.kill();
    scene.gateway.restart().await;
    for turn in &turns {
        assert_eq!(anna.ended(turn).await["status"], "interrupted");
    }
    assert_eq!(used(&scene.database, "turns").await, 0);
    let cost = "select cast(coalesce(sum(cost_nano_usd), 0) as text) from usage_records";
    let spent: u64 = scene.database.texts(cost).await[0].parse().unwrap();
    assert_eq!(used(&scene.database, "day").await, spent, "no more and no less than what is counted");
    assert_eq!(scene.database.texts("select holds from turns where holds is not null").await, [""; 0]);
}

#[tokio::test]
async fn the_first_turn_past_the_soft_share_says_so_and_no_other() {
    let scene = scene(&[("budget_day_nano_usd", 10 * COST), ("budget_soft_percent", 15)]).await;
    let anna = scene.bearing(&user("anna"));
    scene.upstream.always(Script::new().role().delta("Hello").finish("stop").usage(1500, 60).done());
    let mut told = Vec::new();
    for session in 0..4 {
        let body = json!({"message": "hi", "session_id": format!("s{session}")});
        let mut stream =
            anna.open(Request::post("/v1/chat/stream", &body).header("accept", "application/x-ndjson")).await;
        let events = stream.rest().await;
        let guards = events.iter().filter(|event| event.json["kind"] == "guard").count();
        let output = events.iter().find(|event| event.json["output"]["limit"] == "budget_day_nano_usd");
        assert_eq!(guards > 0, output.is_some());
        told.push(guards);
    }
    assert_eq!(told, [0, 1, 0, 0]);
}

#[tokio::test]
async fn where_nothing_is_limited_nothing_is_counted() {
    let scene = scene(&[]).await;
    let anna = scene.bearing(&user("anna"));
    let reply = anna.post("/v1/chat/stream", &json!({"message": "hi", "session_id": "s"})).await;
    reply.expect(200);
    assert_eq!((reply.header("ratelimit"), reply.header("ratelimit-policy")), (None, None));
    assert_eq!(scene.database.texts("select scope from quota_counters").await, [""; 0]);
}

/// A turn in a conversation of its own that is bounded so, at that moment.
async fn bounded(house: &House, bounds: &Bounds, now: Timestamp) -> NewTurn {
    let conversation = house.conversation().await;
    let (id, message_id) = (TurnId::new(now), MessageId::new(now));
    NewTurn { id, message_id, bounds: bounds.clone(), now, ..house.turn(&conversation) }
}

#[tokio::test]
async fn a_day_and_a_month_begin_anew_and_what_is_undone_was_never_taken() {
    let house = House::new().await;
    let quotas = |day, month| Quotas { budget_day_nano_usd: day, budget_month_nano_usd: month, ..Quotas::default() };
    let of = |quotas: Quotas| quotas.bounds([(Scope::Application, "".into())]);
    let foresight = Foresight {
        prompt: 10,
        per_message: 0,
        reads: false,
        most_bytes: 0,
        room: 1000,
        answer: 0,
        prices: vec![toml::Value::Table(price("m", "2020-01-01", 1_000_000)).try_into().unwrap()],
    };
    let plan =
        |_: &_| Some(Plan { model: "m".to_owned(), request: "{}".to_owned(), foresight: Some(foresight.clone()) });
    let moment = |text: &str| serde_json::from_value::<Timestamp>(json!(text)).unwrap();
    let admit = async |bounds: &Bounds, now: &str| {
        let new = bounded(&house, bounds, moment(now)).await;
        let admission = house.store.admit(&house.owner, &new, plan).await.unwrap();
        (new, admission)
    };
    // A turn costs ten; two go into a day, three into a month.
    let bounds = of(quotas(20, 30));
    let goes = async |now: &str| {
        let admission = admit(&bounds, now).await.1;
        if let Admission::Spent(spent) = admission {
            return Some((spent.bound.measure, spent.resets_at.unwrap().to_string()));
        }
        assert!(matches!(admission, Admission::Admitted(_)), "{admission:?}");
        None
    };
    let last = admit(&bounds, "2026-01-31T23:59:58.000000Z").await.0;
    assert_eq!(goes("2026-01-31T23:59:59.000000Z").await, None);
    let midnight = "2026-02-01T00:00:00.000000Z".to_owned();
    assert_eq!(goes("2026-01-31T23:59:59.999999Z").await, Some((Measure::Day, midnight)));
    for now in ["2026-02-01T00:00:00.000000Z", "2026-02-01T12:00:00.000000Z"] {
        assert_eq!(goes(now).await, None, "{now}");
    }
    let next_day = "2026-02-02T00:00:00.000000Z".to_owned();
    assert_eq!(goes("2026-02-01T23:00:00.000000Z").await, Some((Measure::Day, next_day)));
    assert_eq!(goes("2026-02-02T00:00:00.000000Z").await, None);
    let next_month = "2026-03-01T00:00:00.000000Z".to_owned();
    assert_eq!(goes("2026-02-28T23:59:59.000000Z").await, Some((Measure::Month, next_month)));
    assert_eq!(goes("2026-03-01T00:00:00.000000Z").await, None);

    // One whose commit nobody heard of is undone: then there is room in January again, and twice is as once.
    for _ in 0..2 {
        house.store.withdraw(&house.owner, &last.id, None).await.unwrap();
    }
    assert_eq!(goes("2026-01-31T23:00:00.000000Z").await, None);
    assert!(goes("2026-01-31T23:00:00.000000Z").await.is_some());
    // A refusal by one bound takes nothing of those before it.
    let all = "select cast(sum(used) as text) from quota_counters";
    let before = house.database.texts(all).await;
    let refused = admit(&of(quotas(1000, 5)), "2026-02-05T00:00:00.000000Z").await.1;
    assert!(matches!(refused, Admission::Spent(_)));
    assert_eq!(house.database.texts(all).await, before);
    // What is over is swept, and what is open is not.
    house.store.forget_quotas(at(0), 100).await.unwrap();
    assert_eq!(house.database.texts(all).await, before);
    house.store.forget_quotas(moment("2027-01-01T00:00:00.000000Z"), 100).await.unwrap();
    assert_eq!(house.database.texts("select scope from quota_counters").await, [""; 0]);
}
