use std::future::poll_fn;

use super::answer::DemoAnswer;
use super::*;
use crate::domain::clock::Timestamp;
use crate::domain::usage::Usage;
use crate::upstream::{Batch, Fault, Line, Part, Progress, Speaker};

struct Told {
    parts: Vec<Part<'static>>,
    text: String,
    reasoning: String,
    deltas: usize,
    usage: Option<Usage>,
    end: Result<String, Fault>,
    /// What the script says, were nobody to lose patience.
    takes: Duration,
}

const FIRST_TOKEN: Duration = Duration::from_millis(40);
const IDLE: Duration = Duration::from_millis(20);

fn call(lines: &[&str]) -> Call {
    let line = |text: &&str| Line { speaker: Speaker::User, text: (*text).to_owned() };
    Call {
        turn_id: "turn_1".into(),
        model: "demo".to_owned(),
        lines: lines.iter().map(line).collect(),
        temperature: None,
        max_tokens: None,
        traceparent: None,
    }
}

async fn run(call: Call) -> Told {
    let wishes = Wishes::of(&call.lines.last().unwrap().text);
    let mut beats = script::script(&call, wishes, Timestamp::from_micros(0));
    let takes = beats.iter().map(|beat| beat.after).sum();
    for beat in &mut beats {
        beat.after = Duration::ZERO;
    }
    let mut answer = DemoAnswer::new(beats, FIRST_TOKEN, IDLE);
    let mut batch = Batch::default();
    let (mut parts, mut text, mut reasoning, mut deltas) = (Vec::new(), String::new(), String::new(), 0);
    let end = loop {
        let progress = poll_fn(|cx| answer.poll_next(cx, &mut batch)).await;
        for part in batch.parts() {
            match part {
                Part::Delta(piece) => {
                    text.push_str(piece);
                    deltas += 1;
                }
                Part::Reasoning(piece) => reasoning.push_str(piece),
                Part::StepStarted { key, parent, kind, label, input } => {
                    parts.push(Part::StepStarted { key, parent, kind, label, input });
                }
                Part::StepFinished { key, status, output, error } => {
                    parts.push(Part::StepFinished { key, status, output, error });
                }
                Part::Source(source) => parts.push(Part::Source(source)),
                Part::Visualization(visualization) => parts.push(Part::Visualization(visualization)),
            }
        }
        batch.clear();
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Finished(finish)) => break Ok(finish.reason),
            Err(fault) => break Err(fault),
        }
    };
    Told { parts, text, reasoning, deltas, usage: batch.usage(), end, takes }
}

async fn ask(question: &str) -> Told {
    run(call(&[question])).await
}

fn drawn(told: &Told) -> Option<&str> {
    told.parts
        .iter()
        .find_map(|part| if let Part::Visualization(drawn) = part { Some(drawn.kind.as_str()) } else { None })
}

#[tokio::test]
async fn an_answer_has_steps_sources_and_usage_and_quotes_the_question() {
    let told = run(call(&["Hi", "Hello", "When is high water?"])).await;
    assert_eq!(told.end, Ok("stop".to_owned()));
    assert!(told.text.contains("“When is high water?”") && told.text.contains("2 earlier messages"), "{}", told.text);
    assert!(told.text.contains("[1]") && told.text.contains("[2]"));
    assert!(told.deltas > 5);
    assert_eq!(told.usage.unwrap().completion_tokens, told.deltas as u64);
    let sources = told.parts.iter().filter(|part| matches!(part, Part::Source(_))).count();
    assert!(sources >= 2);
    assert!(told.takes >= Duration::from_millis(20) * told.deltas as u32);
}

#[tokio::test]
async fn every_step_ends_once_and_within_its_parent() {
    let mut open = Vec::new();
    for part in ask("a table").await.parts {
        match part {
            Part::StepStarted { key, parent, .. } => {
                assert!(parent.is_none_or(|parent| open.contains(&parent)), "{key}");
                open.push(key);
            }
            Part::StepFinished { key, .. } => assert_eq!(open.pop(), Some(key)),
            Part::Delta(_) | Part::Reasoning(_) | Part::Source(_) | Part::Visualization(_) => {}
        }
    }
    assert!(open.is_empty());
}

#[tokio::test]
async fn the_same_question_is_answered_alike() {
    assert_eq!(ask("What is ebb?").await.text, ask("What is ebb?").await.text);
}

#[tokio::test]
async fn it_draws_when_asked_and_now_and_then() {
    assert_eq!(drawn(&ask("A Table please").await), Some("table"));
    assert!(matches!(drawn(&ask("a chart").await), Some("bar" | "line" | "area" | "pie")));
    let mut some = 0;
    for number in 0..40 {
        some += usize::from(drawn(&ask(&format!("question {number}")).await).is_some());
    }
    assert!((2..30).contains(&some), "{some}");
}

#[tokio::test]
async fn words_make_it_misbehave() {
    for (question, end) in [
        ("fail", Err(Fault::Error)),
        ("cut it", Err(Fault::Truncated)),
        ("stall", Err(Fault::Silent)),
        ("silent", Err(Fault::Silent)),
        ("filter", Ok("content_filter".to_owned())),
    ] {
        let told = ask(question).await;
        assert_eq!(told.end, end, "{question}");
        assert_eq!(told.deltas > 5, question != "silent", "{question}");
        assert_eq!(told.usage.is_some(), end.is_ok(), "{question}");
    }
}

#[tokio::test]
async fn patience_is_lost_after_the_silence_it_is_for() {
    for (question, patience) in [("silent", FIRST_TOKEN), ("stall", IDLE)] {
        let start = std::time::Instant::now();
        assert_eq!(ask(question).await.end, Err(Fault::Silent));
        assert!(start.elapsed() >= patience, "{question}");
    }
}

#[tokio::test]
async fn it_is_paced_like_a_model() {
    let demo = Demo::new(FIRST_TOKEN, IDLE);
    let mut answer = demo.open(call(&["hi"])).await.unwrap();
    let (mut batch, start) = (Batch::default(), std::time::Instant::now());
    for _ in 0..3 {
        batch.clear();
        poll_fn(|cx| answer.poll_next(cx, &mut batch)).await.unwrap();
        assert_eq!(batch.parts().count(), 1);
    }
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn words_make_it_refuse() {
    let demo = Demo::new(Duration::from_secs(1), Duration::from_secs(1));
    assert_eq!(demo.open(call(&["Refuse!"])).await.err(), Some(Refusal::Unavailable));
    assert_eq!(demo.open(call(&["busy?"])).await.err(), Some(Refusal::RateLimited(Some(BUSY_FOR))));
    assert!(demo.open(call(&["busy?", "hello"])).await.is_ok(), "only the question counts");
}

#[tokio::test]
async fn words_set_its_pace_and_length() {
    let (plain, slow, long) = (ask("hi").await, ask("hi slow").await, ask("hi long").await);
    assert!(slow.takes >= Duration::from_millis(200) * slow.deltas as u32);
    assert!(long.deltas > 2000 && long.takes < plain.takes * 10, "{} in {:?}", long.deltas, long.takes);
    let thought = ask("think about it").await;
    assert!(!thought.reasoning.is_empty() && plain.reasoning.is_empty());
    assert!(thought.usage.unwrap().reasoning_tokens.unwrap() > 0);
}

#[tokio::test]
async fn max_tokens_cuts_it() {
    let told = run(Call { max_tokens: Some(3), ..call(&["hi"]) }).await;
    assert_eq!((told.deltas, told.end), (3, Ok("length".to_owned())));
}
