//! What a model is asked: instructions, the path of earlier messages, the question.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::live::Live;
use super::window::{Earlier, Material};
use super::{House, Turns};
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

    /// Whether the turn ends with its readers, so that these hold it.
    pub fn can_be_held(&self) -> bool {
        self.on_disconnect() != OnDisconnect::Continue
    }
}

/// What a turn asks, before it is known what of it fits.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What is said.
    pub material: Arc<Material>,
    /// The tokens there are for it.
    pub room: u64,
    call: Call,
}

impl Prompt {
    /// The call, without what is before the line `from`, for which `summary` stands if there is one.
    pub fn into_call(self, from: usize, summary: Option<Line>) -> Call {
        Call { lines: Arc::unwrap_or_clone(self.material).into_lines(from, summary), ..self.call }
    }
}

impl House {
    /// The tokens that a model reads, prompt and answer together.
    pub fn window(&self, model: &str) -> u64 {
        self.settings.windows.of(&[model, self.named(model).as_deref().unwrap_or(model)])
    }

    /// What of them there is for the prompt, beside an answer of at most `max_tokens`.
    fn room(&self, model: &str, max_tokens: Option<u32>) -> u64 {
        self.settings.windows.room(&[model, self.named(model).as_deref().unwrap_or(model)], max_tokens)
    }

    /// What the first upstream that serves it calls it.
    fn named(&self, model: &str) -> Option<String> {
        self.upstreams.get().candidates(model).next().map(|first| first.name_of(model).to_owned())
    }
}

/// What a turn asks, as far back as `history_bytes` reach. The question is `first` where nothing was said before.
///
/// # Errors
/// The store's, when the earlier messages cannot be read.
pub async fn prompt(turns: &Turns, live: &Live, request: &Request, first: Option<&Content>) -> Result<Prompt> {
    let mut instructions = request.instructions.clone();
    if let Some(language) = &request.language {
        if !instructions.is_empty() {
            instructions.push_str("\n\n");
        }
        instructions.push_str("Answer in the language with the tag ");
        instructions.push_str(language);
        instructions.push('.');
    }
    let head = Some(instructions).filter(|text| !text.is_empty());
    let head = head.map(|text| Line { speaker: Speaker::System, text }).into_iter().collect();
    let (question, earlier) = said(turns, live, request, first).await?;
    let model = live.stub.model.clone();
    let room = turns.room(&model, request.max_tokens);
    let material = Arc::new(Material { head, earlier, question });
    let (turn_id, temperature, max_tokens) = (live.lease.turn_id.clone(), request.temperature, request.max_tokens);
    let call = Call { turn_id, model, lines: Vec::new(), temperature, max_tokens, traceparent: None };
    Ok(Prompt { material, room, call })
}

/// The question, and what was said before it, oldest first.
async fn said(turns: &Turns, live: &Live, request: &Request, first: Option<&Content>) -> Result<(Line, Vec<Earlier>)> {
    let (question, path) = match first {
        Some(question) => (question.text(), Vec::new()),
        None => {
            let bytes = turns.settings.limits.history_bytes;
            let mut path = turns.store.path(&live.lease.owner, &live.user_message_id, bytes).await?;
            // The path comes newest first, and begins with a question: an answer at its end is what `history_bytes` left
            // of a turn.
            while path.len() > 1 && path.last().is_some_and(|said| said.role == Role::Assistant) {
                path.pop();
            }
            let question = path.drain(..path.len().min(1)).next();
            (question.map(|said| said.content.text()).unwrap_or_default(), path)
        }
    };
    let earlier = match &request.history {
        Some(history) => {
            let line = |said: &Said| Earlier { id: None, line: line(said.role, said.content.clone()) };
            history.iter().map(line).collect()
        }
        // An answer that never said a word is left out.
        None => path
            .into_iter()
            .rev()
            .filter(|said| !said.content.is_empty())
            .map(|said| Earlier { id: Some(said.id), line: line(said.role, said.content.text()) })
            .collect(),
    };
    Ok((line(Role::User, question), earlier))
}

fn line(role: Role, text: String) -> Line {
    let speaker = match role {
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
    };
    Line { speaker, text }
}
