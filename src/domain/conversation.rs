//! A conversation and its configuration.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::Timestamp;
use super::ids::{ConversationId, TurnId};

/// The title of a conversation that has none of its own.
pub const UNTITLED: &str = "New conversation";

/// How a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Takes messages.
    Active,
    /// Takes none until it is resumed.
    Paused,
    /// Over.
    Ended,
}

impl State {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Ended].into_iter().find(|state| state.as_str() == name)
    }
}

/// What a conversation asks of its models; an absent field is not sent upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model, where a message names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether answers draw on the application's documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_rag: Option<bool>,
    /// The longest a turn may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its title.
    pub title: String,
    /// How it stands.
    pub state: State,
    /// When it was put away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the last message came; its making, before any.
    pub last_message_at: Timestamp,
    /// What it asks of its models.
    pub config: Config,
    /// What the client keeps with it.
    pub metadata: Value,
    /// The turn that has the conversation now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_turn_id: Option<TurnId>,
}

/// A title made of a message: its first 60 characters.
pub fn title_of(message: &str) -> String {
    let title: String = message.chars().take(60).collect();
    if title.trim().is_empty() { UNTITLED.to_owned() } else { title }
}
