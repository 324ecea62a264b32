//! What the demo is going to say, beat by beat.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;

use super::library;
use super::words::Wishes;
use crate::domain::clock::Timestamp;
use crate::domain::message::StepStatus;
use crate::domain::usage::{Basis, Usage};
use crate::upstream::{Call, End, Fault, Finish, Part, Speaker};

const PACE: Duration = Duration::from_millis(20);
const SLOW_PACE: Duration = Duration::from_millis(200);
/// A long answer comes in bursts, as from a fast model: several deltas a read.
const QUICK_PACE: Duration = Duration::from_millis(2);
const QUICK_BURST: usize = 4;
const LONG_SENTENCES: usize = 200;
/// Of the question, so many characters are quoted.
const QUOTED_CHARS: usize = 200;

/// One thing that happens, and how long it takes to come.
#[derive(Debug, PartialEq)]
pub struct Beat {
    /// The time since the beat before.
    pub after: Duration,
    /// What happens.
    pub act: Act,
}

/// What happens.
#[derive(Debug, PartialEq)]
pub enum Act {
    /// A piece of the answer.
    Say(String),
    /// A piece of the reasoning.
    Think(String),
    /// Anything else.
    Show(Part<'static>),
    /// What was used.
    Report(Usage),
    /// The end.
    Finish(Finish),
    /// The end that should not be.
    Break(Fault),
    /// Nothing, until patience is lost.
    Hang,
}

/// The beats of the answer to a call. The same call always makes the same ones, but for ids.
pub fn script(call: &Call, wishes: Wishes, now: Timestamp) -> VecDeque<Beat> {
    let question = call.lines.last().map_or("", |line| line.text.as_str());
    let choice = fingerprint(question);
    let mut script = Script { beats: VecDeque::new(), pace: if wishes.slow { SLOW_PACE } else { PACE } };
    if wishes.silent {
        script.add(Act::Hang);
        return script.beats;
    }
    let kind = visualization_kind(wishes, choice);
    script.steps(question, choice, kind, now);
    let thoughts = if wishes.think { pieces(&thoughts(question)) } else { Vec::new() };
    let words = answer(call, question, choice, kind, wishes.long);
    let full = words.len();
    let broken = wishes.fail || wishes.cut || wishes.stall || wishes.filter;
    let allowed = call.max_tokens.map_or(usize::MAX, |tokens| tokens as usize).saturating_sub(thoughts.len());
    let said = if broken { full / 2 } else { full }.min(allowed);
    let usage = usage(call, said, thoughts.len());
    for thought in thoughts {
        script.add(Act::Think(thought));
    }
    for (index, word) in words.into_iter().take(said).enumerate() {
        match (wishes.long && !wishes.slow, index % QUICK_BURST) {
            (false, _) => script.add(Act::Say(word)),
            (true, 0) => script.add_after(QUICK_PACE, Act::Say(word)),
            (true, _) => script.add_after(Duration::ZERO, Act::Say(word)),
        }
    }
    script.end(wishes, said < full, usage);
    script.beats
}

struct Script {
    beats: VecDeque<Beat>,
    pace: Duration,
}

impl Script {
    fn add(&mut self, act: Act) {
        self.add_after(self.pace, act);
    }

    fn add_after(&mut self, after: Duration, act: Act) {
        self.beats.push_back(Beat { after, act });
    }

    fn show(&mut self, part: Part<'static>) {
        self.add_after(PACE, Act::Show(part));
    }

    fn step(
        &mut self,
        key: &'static str,
        parent: Option<&'static str>,
        kind: &'static str,
        label: &str,
        input: serde_json::Value,
    ) {
        self.show(Part::StepStarted { key, parent, kind, label: label.to_owned(), input: Some(input) });
    }

    fn done(&mut self, key: &'static str, output: serde_json::Value) {
        self.show(Part::StepFinished { key, status: StepStatus::Ok, output: Some(output), error: None });
    }

    fn steps(&mut self, question: &str, choice: u64, kind: Option<&'static str>, now: Timestamp) {
        let query = question.to_lowercase();
        self.step("rewrite", None, "rewrite", "Put the question in other words", json!({"question": question}));
        self.done("rewrite", json!({"query": query}));
        self.step("retrieval", None, "retrieval", "Look it up", json!({"query": query}));
        self.step("search", Some("retrieval"), "tool", "Search the library", json!({"query": query, "limit": 5}));
        self.done("search", json!({"found": 5}));
        self.step("rank", Some("retrieval"), "tool", "Choose what fits best", json!({"passages": 5}));
        let count = source_count(choice);
        for source in library::sources(choice, count, now) {
            self.show(Part::Source(source));
        }
        self.done("rank", json!({"kept": count}));
        if let Some(kind) = kind {
            let sql = json!({"sql": "select hour, gate, harbour from tides where day = today()"});
            self.step("query", Some("retrieval"), "sql", "Query the tide table", sql);
            self.show(Part::Visualization(library::visualization(kind, now)));
            self.done("query", json!({"rows": 6}));
        }
        self.done("retrieval", json!({"sources": count}));
    }

    fn end(&mut self, wishes: Wishes, is_short: bool, usage: Usage) {
        if wishes.fail {
            return self.add(Act::Break(Fault::Error));
        }
        if wishes.cut {
            return self.add(Act::Break(Fault::Truncated));
        }
        if wishes.stall {
            return self.add(Act::Hang);
        }
        let (reason, end) = match (wishes.filter, is_short) {
            (true, _) => ("content_filter", End::Filtered),
            (false, true) => ("length", End::Length),
            (false, false) => ("stop", End::Whole),
        };
        self.add_after(Duration::ZERO, Act::Report(usage));
        self.add(Act::Finish(Finish { reason: reason.to_owned(), end }));
    }
}

fn answer(call: &Call, question: &str, choice: u64, kind: Option<&str>, long: bool) -> Vec<String> {
    let earlier = call.lines.iter().filter(|line| line.speaker != Speaker::System).count().saturating_sub(1);
    let messages = if earlier == 1 { "message" } else { "messages" };
    let mut text = format!("You asked: “{}”. Before that I saw {earlier} earlier {messages}.", quoted(question));
    for number in 1..=source_count(choice) {
        text.push_str(&format!(" {} [{number}]", library::snippet(choice, number)));
    }
    match kind {
        Some("table") => text.push_str(" The table shows the height of the tide today."),
        Some(kind) => text.push_str(&format!(" The {kind} chart shows the height of the tide today.")),
        None => {}
    }
    if long {
        for sentence in 0..LONG_SENTENCES {
            let number = sentence as u64 % source_count(choice) + 1;
            text.push_str(&format!(
                "\n\n{}. {} [{number}]",
                sentence + 1,
                library::snippet(choice + sentence as u64, 1)
            ));
        }
    }
    text.push_str(" I am a demo: I know nothing else, but I stream like a model.");
    pieces(&text)
}

fn thoughts(question: &str) -> String {
    format!(
        "The question has {} words. I look at the passages I found, choose what fits, and answer with what they say.",
        question.split_whitespace().count()
    )
}

/// A text cut as a model cuts it: before each space.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(' ') {
        if at > start {
            pieces.push(text[start..at].to_owned());
            start = at;
        }
    }
    pieces.push(text[start..].to_owned());
    pieces
}

fn quoted(question: &str) -> String {
    let mut quoted: String = question.chars().take(QUOTED_CHARS).collect();
    if quoted.len() < question.len() {
        quoted.push('…');
    }
    quoted
}

fn source_count(choice: u64) -> u64 {
    2 + choice % 2
}

/// What is drawn: on the words for it, and for some questions without them.
fn visualization_kind(wishes: Wishes, choice: u64) -> Option<&'static str> {
    const CHARTS: [&str; 4] = ["bar", "line", "area", "pie"];
    let chart = CHARTS[(choice / 4 % 4) as usize];
    match (wishes.table, wishes.chart, choice % 4) {
        (true, ..) => Some("table"),
        (false, true, _) | (false, false, 0) => Some(chart),
        (false, false, _) => None,
    }
}

/// A piece is a token, and four bytes of a prompt are one.
fn usage(call: &Call, said: usize, thought: usize) -> Usage {
    let bytes: usize = call.lines.iter().map(|line| line.text.len()).sum();
    Usage {
        prompt_tokens: bytes.div_ceil(4) as u64 + 4 * call.lines.len() as u64,
        completion_tokens: (said + thought) as u64,
        cached_tokens: None,
        cache_write_tokens: None,
        reasoning_tokens: (thought > 0).then_some(thought as u64),
        cost_nano_usd: None,
        basis: Basis::Reported,
    }
}

/// FNV-1a, 64 bits (RFC 9923): the same for a question on every machine.
fn fingerprint(question: &str) -> u64 {
    question.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
