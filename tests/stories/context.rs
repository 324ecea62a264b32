//! What goes to a model fits its window: the question, what the operator says, and as many whole turns as there is room
//! for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Call, Scene, Script, Setup, Told};

/// What the model reads, less the room for an answer: a quarter of it.
const ROOM: usize = 300;

fn small(setup: Setup) -> Setup {
    setup.set("context.models.test-model", 400).set("instructions", "Be brief.")
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
    let scene = Scene::with(|setup| setup.set("context.tokens", 90_000)).await;
    let conversation = scene.client.conversation().await;
    let begun = Instant::now();
    for _ in 0..3 {
        let answer = scene.client.ask_whole(&conversation, &format!("{}.", " ".repeat(100_000))).await.expect(200);
        assert_eq!(answer["status"], "completed", "it is few tokens");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
