//! What goes to a model fits its window: the question, what the operator says, and as many whole turns as there is room
//! for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::usage::price;
use crate::support::{Call, Request, Scene, Script, Setup, Told, eventually};

/// What the model reads, less the room for an answer: a quarter of it.
const ROOM: usize = 300;

fn small(setup: Setup) -> Setup {
    setup.set("window.models.test-model", 400).set("instructions", "Be brief.")
}

/// A text of so many tokens.
fn tides(tokens: usize) -> String {
    vec!["tide"; tokens].join(" ")
}

/// Who spoke, by their first letters, in what the model was sent.
fn sent(call: &Call) -> String {
    let lines = call.body["messages"].as_array().unwrap();
    lines.iter().map(|line| line["role"].as_str().unwrap().chars().next().unwrap()).collect()
}

/// What a turn says it left out.
fn left_out(message: &Value) -> Option<Value> {
    let steps = message["steps"].as_array().unwrap();
    steps.iter().find(|step| step["kind"] == "rewrite").map(|step| step["output"].clone())
}

#[tokio::test]
async fn the_oldest_turns_are_left_out_whole_and_a_step_says_so() {
    let scene = Scene::with(small).await;
    scene.upstream.always(Script::answer(&[&tides(20), &tides(30)]));
    let conversation = scene.client.conversation().await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        let stream = scene.client.ask(&conversation, &tides(40)).await;
        answers.push(Told::hear(&scene.client, &conversation, stream).await.message);
    }
    let sent: Vec<String> = scene.upstream.calls().iter().map(sent).collect();
    // A turn is 40 and 50 tokens and the marks of two lines: two of them fit beside a question.
    assert_eq!(sent, ["su", "suau", "suauau", "suauau", "suauau", "suauau"]);
    assert!(answers[..3].iter().all(|answer| left_out(answer).is_none()), "nothing was left out");
    for (at, answer) in answers.iter().enumerate().skip(3) {
        let out = left_out(answer).unwrap_or_else(|| panic!("{answer}"));
        let (turns, tokens) = (out["turns"].as_u64().unwrap(), out["tokens"].as_u64().unwrap());
        assert_eq!(turns, at as u64 - 2);
        assert!((95 * turns..105 * turns).contains(&tokens), "{out}");
        assert_eq!((&answer["status"], &answer["steps"][0]["status"]), (&json!("completed"), &json!("ok")));
    }
    let asked = scene.upstream.calls().pop().unwrap();
    assert_eq!((&asked.body["messages"][0]["content"], asked.question()), (&json!("Be brief."), tides(40)));
}

#[tokio::test]
async fn a_history_of_the_requests_own_is_cut_alike_and_a_longer_answer_leaves_less_room() {
    let scene = Scene::with(small).await;
    let said = |role: &str| json!({"role": role, "content": tides(60)});
    let history: Vec<Value> = (0..6).map(|at| said(if at % 2 == 0 { "user" } else { "assistant" })).collect();
    let ask = json!({"message": tides(10), "history": history});
    scene.client.post("/v1/chat/stream", &ask).await.expect(200);
    assert_eq!(sent(&scene.upstream.call(0).await), "suauau");
    let new = json!({"config": {"max_tokens": 250}});
    let conversation =
        scene.client.post("/v1/conversations", &new).await.expect(201)["id"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        scene.client.ask_whole(&conversation, &tides(80)).await.expect(200);
    }
    assert_eq!(sent(&scene.upstream.call(2).await), "su", "there is room for 150 tokens");
}

#[tokio::test]
async fn a_question_that_does_not_fit_ends_at_once_and_costs_nothing() {
    let scene = Scene::with(small).await;
    let told = scene.told(&tides(ROOM)).await;
    assert_eq!((&told.end()["status"], &told.end()["error"]["code"]), (&json!("failed"), &json!("context_exceeded")));
    let whole = scene.client.ask_whole(&told.conversation, &tides(ROOM)).await.expect(502);
    assert_eq!((&whole["code"], whole["turn_id"].is_string()), (&json!("context_exceeded"), true));
    assert!(told.message["usage"].is_null() && scene.upstream.calls().is_empty());
    assert!(scene.database.texts("select id from usage_records").await.is_empty());
    assert_eq!(scene.client.ask_whole(&told.conversation, "shorter").await.expect(200)["status"], "completed");
    assert_eq!(sent(&scene.upstream.call(0).await), "su", "what was too long stays out");
}

#[tokio::test]
async fn spaces_are_counted_in_no_time() {
    let scene = Scene::with(|setup| setup.set("window.tokens", 90_000)).await;
    let conversation = scene.client.conversation().await;
    let begun = Instant::now();
    for _ in 0..3 {
        let answer = scene.client.ask_whole(&conversation, &format!("{}.", " ".repeat(100_000))).await.expect(200);
        assert_eq!(answer["status"], "completed", "it is few tokens");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// With a cheaper model that summarises.
fn summarised(setup: Setup) -> Setup {
    let prices = vec![price("test-*", "2026-01-01", 1_000_000), price("cheap", "2026-01-01", 1000)];
    small(setup).set("window.summary_model", "cheap").set("prices", prices)
}

/// The calls of the cheaper model so far.
fn summaries(scene: &Scene) -> Vec<Call> {
    scene.upstream.calls().into_iter().filter(|call| call.body["model"] == "cheap").collect()
}

#[tokio::test]
async fn an_answer_that_leaves_no_room_for_a_question_is_refused_or_told_so() {
    let scene = Scene::with(|setup| small(setup).set("limits.instructions_bytes", 20)).await;
    scene.upstream.always(Script::answer(&["yes"]));
    let client = &scene.client;
    let make = async |config: Value| client.post("/v1/conversations", &json!({ "config": config })).await;
    assert_eq!(make(json!({"max_tokens": 400})).await.expect(422)["field"], "config.max_tokens");
    assert_eq!(make(json!({"max_tokens": 399})).await.status, 201);
    // Another model reads more.
    let made = make(json!({"max_tokens": 400, "model": "other"})).await.expect(201);
    let path = format!("/v1/conversations/{}", made["id"].as_str().unwrap());
    let patch = async |config: Value| {
        let body = json!({ "config": config });
        client.send(Request { method: "PATCH".into(), ..Request::post(&path, &body) }).await
    };
    for (change, status) in [
        (json!({"model": "test-model"}), 422),
        (json!({"model": null}), 422),
        (json!({"max_tokens": 5000}), 200),
        (json!({"model": "test-model", "max_tokens": 300}), 200),
        (json!({"max_tokens": 5000, "model": "other"}), 200),
        (json!({"instructions": "x".repeat(21)}), 422),
        (json!({"instructions": "x".repeat(20)}), 200),
    ] {
        assert_eq!(patch(change.clone()).await.status, status, "{change}");
    }
    assert_eq!(make(json!({"instructions": "é".repeat(11)})).await.expect(422)["field"], "config.instructions");
    // A question may name a model that reads less.
    let ask = json!({"content": "hi", "model": "test-model"});
    let told = client.post(&format!("{path}/messages"), &ask).await.expect(502);
    assert_eq!((&told["code"], scene.upstream.calls().len()), (&json!("context_exceeded"), 0));
    assert!(told["detail"].as_str().unwrap().contains("max_tokens"), "{told}");
}

#[tokio::test]
async fn what_is_left_out_is_summarised_by_a_cheaper_model_kept_and_extended() {
    let scene = Scene::with(summarised).await;
    scene.upstream.always(Script::answer(&[&tides(20), &tides(30)]));
    scene.upstream.when("Person: ", Script::answer(&["They spoke ", "of tides."]));
    let conversation = scene.client.conversation().await;
    let mut told = Vec::new();
    for _ in 0..7 {
        let stream = scene.client.ask(&conversation, &tides(40)).await;
        told.push(Told::hear(&scene.client, &conversation, stream).await);
    }
    // The first three turns are one summary; the next two fit beside it; then it is extended.
    let made = summaries(&scene);
    assert_eq!(made.len(), 2);
    assert!(
        !made[0].question().contains("Earlier summary")
            && made[1].question().starts_with("Earlier summary:\nThey spoke")
    );
    assert_eq!(
        (made[0].question().matches("Person: ").count(), made[1].question().matches("Person: ").count()),
        (3, 3)
    );
    let answers: Vec<Call> = scene.upstream.calls().into_iter().filter(|call| call.body["model"] != "cheap").collect();
    assert_eq!(
        answers.iter().map(sent).collect::<Vec<_>>(),
        ["su", "suau", "suauau", "ssu", "ssuau", "ssuauau", "ssu"]
    );
    let summary = answers[4].body["messages"][1]["content"].as_str().unwrap();
    assert!(summary.ends_with("They spoke of tides."), "{summary}");
    // Both calls of the fourth turn are steps, are told, and are kept at their own price.
    let fourth = &told[3];
    let models: Vec<&str> = fourth
        .frames
        .iter()
        .filter(|frame| frame.kind() == "usage")
        .map(|frame| frame.json["model"].as_str().unwrap())
        .collect();
    assert_eq!(models, ["cheap", "test-model"]);
    let kinds: Vec<_> = fourth.message["steps"].as_array().unwrap().iter().map(|step| step["kind"].clone()).collect();
    assert_eq!(kinds, ["model", "rewrite", "model"]);
    let out = left_out(&fourth.message).unwrap();
    assert_eq!((&out["turns"], &out["summarised"]), (&json!(3), &json!(true)));
    // Eleven tokens of a prompt and two of an answer, at a price of a thousandth.
    assert_eq!(fourth.message["usage"]["prompt_tokens"], 22);
    let cheap = "select count(*) from usage_records where model = 'cheap' and cost_nano_usd = 0";
    assert_eq!(scene.database.numbers(cheap).await, [2]);
    assert_eq!(fourth.content(), tides(20) + &tides(30), "a summary is no part of an answer");
    let delete = Request { method: "DELETE".into(), ..Request::get(&format!("/v1/conversations/{conversation}")) };
    assert_eq!(scene.client.send(delete).await.status, 204);
    assert_eq!(scene.database.numbers("select count(*) from summaries").await, [0]);
}

#[tokio::test]
async fn without_a_summary_a_turn_goes_on_and_a_stop_counts_what_it_took() {
    let scene = Scene::with(summarised).await;
    scene.upstream.always(Script::answer(&[&tides(20), &tides(30)]));
    let conversation = scene.client.conversation().await;
    for _ in 0..3 {
        scene.client.ask_whole(&conversation, &tides(40)).await.expect(200);
    }
    for script in [Script::status(400, &[], &json!({})), Script::new().delta("They").cut(), Script::answer(&[])] {
        scene.upstream.when("Person: ", script);
        let answer = scene.client.ask_whole(&conversation, "next").await.expect(200);
        assert_eq!((&answer["status"], &answer["steps"][0]["kind"]), (&json!("completed"), &json!("model")));
        assert_eq!(left_out(&answer).unwrap()["summarised"], false);
    }
    scene.upstream.when("Person: ", Script::new().delta("They spoke").hang());
    let before = summaries(&scene).len();
    let stream = scene.client.ask(&conversation, "stop").await;
    eventually("a summary to be asked for", async || (summaries(&scene).len() > before).then_some(())).await;
    // Whether its head was there in time is for nobody to know, but if it was, it costs.
    let stopped = scene.client.stop(&stream.turn()).await.expect(200);
    assert_eq!((&stopped["status"], &stopped["content"]), (&json!("stopped"), &json!("")));
    let told = Told::hear(&scene.client, &conversation, stream).await;
    let usages = told.frames.iter().filter(|frame| frame.kind() == "usage");
    assert!(usages.into_iter().all(|usage| usage.json["model"] == "cheap"), "the answer was not asked for");
    let kept = format!("select count(*) from usage_records where turn_id = '{}'", told.turn);
    assert_eq!(scene.database.numbers(&kept).await, [i64::from(!stopped["usage"].is_null())]);
}
