//! What a model is asked: instructions, the path of earlier messages, the question.

use serde::{Deserialize, Serialize};

use super::Turns;
use super::context::{Fitted, LeftOut, fit};
use super::live::Live;
use crate::domain::conversation::Config;
use crate::domain::message::{Content, Role};
use crate::domain::turn::OnDisconnect;
use crate::store::Result;
use crate::upstream::{Call, Line, Speaker};

/// One message of a history that a request brings along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// What a turn's run is told. It is stored with the turn, so that whoever runs it knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The system prompt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instructions: String,
    /// The language to answer in (BCP 47).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The longest the turn may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Stands for what was said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Said>>,
    /// The span it comes from (`traceparent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What becomes of the turn when its last reader leaves.
    pub on_disconnect: String,
}

impl Request {
    /// What a run is told by a conversation's configuration, over the process's own.
    pub fn new(config: &Config, instructions: &str, on_disconnect: OnDisconnect) -> Self {
        Self {
            instructions: config.instructions.clone().unwrap_or_else(|| instructions.to_owned()),
            temperature: config.temperature,
            max_tokens: config.max_tokens,
            timeout_seconds: config.timeout_seconds,
            on_disconnect: on_disconnect.to_text(),
            ..Self::default()
        }
    }

    /// Reads what [`Request::to_text`] wrote. A text it cannot read tells nothing.
    pub fn from_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// As it is stored.
    pub fn to_text(&self) -> String {
        crate::domain::json::to_string(self)
    }

    /// What becomes of the turn when its last reader leaves.
    pub fn on_disconnect(&self) -> OnDisconnect {
        OnDisconnect::parse(&self.on_disconnect).unwrap_or(OnDisconnect::Continue)
    }
}

/// What a turn asks.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// A call, and what was left out of it because the model reads less.
    Call(Call, Option<LeftOut>),
    /// Nothing: the question alone is more than the model reads.
    TooLong,
    /// Nothing: it could not be counted.
    Uncounted,
}

/// The call a turn makes, as far back as `history_bytes` and the model's window reach. The question is `first` where
/// nothing was said before.
///
/// # Errors
/// The store's, when the earlier messages cannot be read.
pub async fn prompt(turns: &Turns, live: &Live, request: &Request, first: Option<&Content>) -> Result<Prompt> {
    let mut lines = Vec::new();
    let mut instructions = request.instructions.clone();
    if let Some(language) = &request.language {
        if !instructions.is_empty() {
            instructions.push_str("\n\n");
        }
        instructions.push_str("Answer in the language with the tag ");
        instructions.push_str(language);
        instructions.push('.');
    }
    if !instructions.is_empty() {
        lines.push(Line { speaker: Speaker::System, text: instructions });
    }
    let bytes = turns.settings.limits.history_bytes;
    let mut path = match first {
        Some(question) => vec![(Role::User, question.clone())],
        None => turns.store.path(&live.lease.owner, &live.user_message_id, bytes).await?,
    };
    // A path begins with a question: an answer at its end is what `history_bytes` left of a turn.
    while path.len() > 1 && path.last().is_some_and(|(role, _)| *role == Role::Assistant) {
        path.pop();
    }
    let question = path.drain(..path.len().min(1)).next();
    match &request.history {
        Some(history) => lines.extend(history.iter().map(|said| line(said.role, said.content.clone()))),
        // The path comes newest first. An answer that never said a word is left out.
        None => lines.extend(
            path.into_iter()
                .rev()
                .filter(|(_, content)| !content.is_empty())
                .map(|(role, content)| line(role, content.text())),
        ),
    }
    lines.extend(question.map(|(role, content)| line(role, content.text())));
    let model = live.stub.model.clone();
    let upstreams = turns.upstreams.get();
    let named = upstreams.candidates(&model).next().map_or(&*model, |first| first.name_of(&model));
    let room = turns.settings.windows.room(&[&model, named], request.max_tokens);
    let (lines, left_out) = match fit(turns, lines, room).await {
        Fitted::Fits(lines, left_out) => (lines, left_out),
        Fitted::TooLong => return Ok(Prompt::TooLong),
        Fitted::Uncounted => return Ok(Prompt::Uncounted),
    };
    let (turn_id, temperature, max_tokens) = (live.lease.turn_id.clone(), request.temperature, request.max_tokens);
    Ok(Prompt::Call(Call { turn_id, model, lines, temperature, max_tokens, traceparent: None }, left_out))
}

fn line(role: Role, text: String) -> Line {
    let speaker = match role {
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
    };
    Line { speaker, text }
}
