//! A message: what was asked, or the fold of what was answered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::Timestamp;
use super::ids::{ConversationId, MessageId, SourceId, StepId, TurnId, VisualizationId};
use super::turn::{Problem, Status, StoppedBy};
use super::usage::Usage;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message's text: plain, or the list of parts it was sent as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a string, or a list of parts of the type `text`")]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts, in the order they came.
    Parts(Vec<ContentPart>),
}

/// One part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ContentPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
}

impl Content {
    /// The text a model reads: parts follow each other with nothing between.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().map(|ContentPart::Text { text }| text.as_str()).collect(),
        }
    }

    /// Whether there is nothing to read in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Parts(parts) => parts.iter().all(|ContentPart::Text { text }| text.is_empty()),
        }
    }
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not finished.
    Running,
    /// Done.
    Ok,
    /// Failed, or cut off.
    Error,
    /// Not needed.
    Skipped,
}

/// One thing that was done on the way to an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its id.
    pub step_id: StepId,
    /// The step it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<StepId>,
    /// `retrieval`, `model`, `tool`, `sql`, `rewrite`, `guard`…
    pub kind: String,
    /// What a person reads.
    pub label: String,
    /// What it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// How it stands.
    pub status: StepStatus,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long it took, in milliseconds; absent while it runs or when it was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// Something an answer rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub source_id: SourceId,
    /// The `[n]` by which the text cites it.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Where it is; http or https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The document it is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_id: Option<String>,
    /// The passage that counts.
    pub snippet: String,
    /// How well it fits; higher is better.
    pub score: f64,
}

/// A table or chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Visualization {
    /// Its id.
    pub visualization_id: VisualizationId,
    /// `table`, `bar`, `line`, `area` or `pie`.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// `{columns: [{key, label, type}], rows: [{…}], x?, y?: […]}`.
    pub spec: Value,
}

/// Whether somebody thinks well of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// Yes.
    Up,
    /// No.
    Down,
}

/// What somebody thinks of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// Whether they think well of it.
    pub rating: Rating,
    /// Why, in a word or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, at length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When they said so.
    pub created_at: Timestamp,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// The turn it is part of.
    pub turn_id: TurnId,
    /// The message it answers; null for the first.
    pub parent_id: Option<MessageId>,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// What the model thought before it spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// How it stands; a user's message is `completed` from the start.
    pub status: Status,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// The last event folded into it; 0 for a user's message.
    pub seq: u64,
    /// By number.
    pub sources: Vec<Source>,
    /// In the order they began.
    pub steps: Vec<Step>,
    /// In the order they came.
    pub visualizations: Vec<Visualization>,
    /// The sums over the turn's model calls; null while there is none.
    pub usage: Option<Usage>,
    /// Why the model stopped, in its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Who stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<StoppedBy>,
    /// From start to end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// From start to the first delta or reasoning, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// What somebody thinks of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<Feedback>,
    /// What the client sent along.
    pub metadata: Value,
}

impl Message {
    /// How many bytes of text it holds.
    pub fn weight(&self) -> usize {
        let content = match &self.content {
            Content::Text(text) => text.len(),
            Content::Parts(parts) => parts.iter().map(|ContentPart::Text { text }| text.len()).sum(),
        };
        content + self.reasoning.as_ref().map_or(0, String::len)
    }
}
