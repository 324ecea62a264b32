//! Mirrors of [`crate::domain::conversation`].

use utoipa::ToSchema;

/// How a conversation stands.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum State {
    /// Takes messages.
    Active,
    /// Takes none until it is resumed.
    Paused,
    /// Over.
    Ended,
}

/// What a conversation asks of its models; an absent field is not sent upstream.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model, where a message names none.
    pub model: Option<String>,
    /// The system prompt; at most `instructions_bytes`.
    pub instructions: Option<String>,
    /// Sampling temperature.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// The longest answer, in tokens; less than the model reads, question and answer together.
    #[schema(minimum = 1, maximum = 4_294_967_295_u32)]
    pub max_tokens: Option<u64>,
    /// Whether answers draw on the application's documents. There are none yet: only `false` will do.
    pub enable_rag: Option<bool>,
    /// The longest a turn may take, in seconds; at most the gateway's `max_turn_s`.
    #[schema(minimum = 1)]
    pub timeout_seconds: Option<u64>,
}

/// A conversation.
#[derive(ToSchema)]
pub struct Conversation {
    /// Its id.
    #[schema(pattern = "^conv_[0-9a-f]{32}$")]
    pub id: String,
    /// Its title; the first message's first 60 characters where it was given none.
    pub title: String,
    /// How it stands.
    pub state: State,
    /// When it was put away.
    #[schema(required = false, format = DateTime)]
    pub archived_at: String,
    /// Why, where somebody said so.
    #[schema(required = false)]
    pub archive_reason: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the last message came; its making, before any.
    #[schema(format = DateTime)]
    pub last_message_at: String,
    /// When silence ends it, or has ended it; absent where conversations do not expire, and while it is paused.
    #[schema(required = false, format = DateTime)]
    pub expires_at: String,
    /// What it asks of its models.
    pub config: Config,
    /// What the client keeps with it.
    #[schema(value_type = Object)]
    pub metadata: (),
    /// The turn that has the conversation now.
    #[schema(required = false, pattern = "^turn_[0-9a-f]{32}$")]
    pub live_turn_id: String,
}

/// A piece of a text, and whether it is what was looked for.
#[derive(ToSchema)]
pub struct Piece {
    /// The piece.
    pub text: String,
    /// Whether it is what was looked for.
    pub matched: bool,
}

/// What is known in a conversation, and whatever else somebody said.
#[derive(ToSchema)]
pub struct Context {
    /// The application it is in.
    pub application_id: String,
    /// Whose it is.
    #[schema(required)]
    pub user_id: Option<String>,
    /// How many messages there are, in all branches.
    pub message_count: u64,
    /// When the last one came; the conversation's making, before any.
    #[schema(format = DateTime)]
    pub last_message_at: String,
    /// What somebody said.
    #[serde(flatten)]
    pub said: std::collections::HashMap<String, serde_json::Value>,
}
