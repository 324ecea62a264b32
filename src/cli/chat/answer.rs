//! An answer as far as it has come.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::screen::{Gone, Screen};

/// What has been shown of an answer.
#[derive(Default)]
pub struct Answer {
    turn_id: Option<String>,
    seq: u64,
    /// The text that was shown.
    shown: String,
    /// Labels of steps, by id, and how deep they lie.
    steps: HashMap<String, (String, usize)>,
    sources: Vec<String>,
}

/// How an answer ended.
pub struct Ended {
    status: String,
    message: Option<String>,
    saved: bool,
}

impl Ended {
    /// Whether all of it was said, and saved.
    pub fn is_whole(&self) -> bool {
        self.status == "completed" && self.saved
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer is {}", self.status)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if self.saved { Ok(()) } else { f.write_str(", and not saved yet") }
    }
}

impl Answer {
    /// The turn, once it is known.
    pub fn turn_id(&self) -> Option<&str> {
        self.turn_id.as_deref()
    }

    /// The last event that was shown.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Notes the turn it is of.
    pub fn belongs_to(&mut self, turn: Option<&str>) {
        if let Some(turn) = turn {
            self.turn_id = Some(turn.to_owned());
        }
    }

    /// Shows an event, unless it was shown already. The last one says how the answer ended.
    ///
    /// # Errors
    /// When nobody reads what is shown.
    pub fn take(&mut self, event: &Value, screen: &mut Screen) -> Result<Option<Ended>, Gone> {
        let kind = event["type"].as_str().unwrap_or_default();
        if let Some(seq) = event["seq"].as_u64() {
            if seq < self.seq || (seq == self.seq && kind != "snapshot") {
                return Ok(None);
            }
            self.seq = seq;
        }
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        match kind {
            "turn.started" => self.belongs_to(Some(text("turn_id"))),
            "delta" => {
                self.shown.push_str(text("text"));
                screen.say(text("text"))?;
            }
            "step.started" => {
                let depth = self.steps.get(text("parent_id")).map_or(0, |(_, depth)| depth + 1);
                screen.note(&format!("{}· {} …", "  ".repeat(depth), text("label")));
                self.steps.insert(text("step_id").to_owned(), (text("label").to_owned(), depth));
            }
            "step.finished" => {
                if let Some((label, depth)) = self.steps.get(text("step_id"))
                    && text("status") != "ok"
                {
                    screen.note(&format!("{}· {label}: {}", "  ".repeat(*depth), text("status")));
                }
            }
            "source" => self.cite(event),
            "visualization" => tabulate(event, screen),
            "snapshot" => self.replace(&event["message"], screen)?,
            "turn.finished" => {
                screen.end_answer()?;
                self.sources.drain(..).for_each(|source| screen.note(&source));
                let message = event["error"]["message"].as_str().map(str::to_owned);
                let (status, saved) = (text("status").to_owned(), event["saved"] != false);
                return Ok(Some(Ended { status, message, saved }));
            }
            // Reasoning, usage, signs of life, and what this client does not know.
            _ => {}
        }
        Ok(None)
    }

    fn cite(&mut self, source: &Value) {
        let text = |key: &str| source[key].as_str().unwrap_or_default();
        let line = format!("[{}] {}  {}", source["number"], text("title"), text("url"));
        if !self.sources.contains(&line) {
            self.sources.push(line);
        }
    }

    /// The record in place of what was shown. It goes on from there, unless it says less or other than that: a crash may
    /// have lost what was shown last.
    fn replace(&mut self, message: &Value, screen: &mut Screen) -> Result<(), Gone> {
        for source in message["sources"].as_array().into_iter().flatten() {
            self.cite(source);
        }
        let content = message["content"].as_str().unwrap_or_default();
        if let Some(rest) = content.strip_prefix(&self.shown) {
            screen.say(rest)?;
        } else {
            screen.end_answer()?;
            screen.note("The record of the answer is this:");
            screen.say(content)?;
        }
        content.clone_into(&mut self.shown);
        Ok(())
    }
}

/// Shows the rows of a table or chart.
fn tabulate(visualization: &Value, screen: &mut Screen) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let columns = list(&visualization["spec"]["columns"]);
    let keys: Vec<&str> = columns.iter().filter_map(|column| column["key"].as_str()).collect();
    screen.note(visualization["title"].as_str().unwrap_or_default());
    let head = columns.iter().map(|column| cell(&column["label"])).collect::<Vec<_>>();
    screen.note(&head.join("\t"));
    for row in list(&visualization["spec"]["rows"]) {
        screen.note(&keys.iter().map(|key| cell(&row[*key])).collect::<Vec<_>>().join("\t"));
    }
}
