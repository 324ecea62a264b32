//! Mirrors of [`crate::domain::message`] and [`crate::domain::usage`].

use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::only;
use super::turn::{Status, StoppedBy, TurnProblem};

/// Who speaks.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A message's text: plain, or the list of parts it was sent as.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Parts, in the order they came.
    Parts(Vec<ContentPart>),
}

/// One part of a message.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentPart {
    /// What it is; only text for now.
    #[schema(schema_with = only_text)]
    pub r#type: String,
    /// The text.
    pub text: String,
}

fn only_text() -> Object {
    only("text")
}

/// How a step stands.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
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
#[derive(ToSchema)]
pub struct Step {
    /// Its id.
    #[schema(pattern = "^step_[0-9a-f]{32}$")]
    pub step_id: String,
    /// The step it is part of.
    #[schema(required = false, pattern = "^step_[0-9a-f]{32}$")]
    pub parent_id: String,
    /// `retrieval`, `model`, `tool`, `sql`, `rewrite`, `guard` or another: the list is open.
    pub kind: String,
    /// What a person reads.
    pub label: String,
    /// What it was given.
    #[schema(required = false, value_type = Value)]
    pub input: (),
    /// How it stands.
    pub status: StepStatus,
    /// What it gave.
    #[schema(required = false, value_type = Value)]
    pub output: (),
    /// What went wrong.
    #[schema(required = false)]
    pub error: String,
    /// How long it took, in milliseconds; absent while it runs or when it was cut off.
    #[schema(required = false)]
    pub duration_ms: u64,
}

/// Something an answer rests on.
#[derive(ToSchema)]
pub struct Source {
    /// Its id.
    #[schema(pattern = "^src_[0-9a-f]{32}$")]
    pub source_id: String,
    /// The `[n]` by which the text cites it.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Where it is; http or https.
    #[schema(required = false, format = "uri")]
    pub url: String,
    /// The document it is from.
    #[schema(required = false)]
    pub document_id: String,
    /// The passage that counts.
    pub snippet: String,
    /// How well it fits; higher is better.
    pub score: f64,
}

/// A table or chart.
#[derive(ToSchema)]
pub struct Visualization {
    /// Its id.
    #[schema(pattern = "^viz_[0-9a-f]{32}$")]
    pub visualization_id: String,
    /// `table`, `bar`, `line`, `area` or `pie`.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// What is shown.
    pub spec: VisualizationSpec,
}

/// The data of a table or chart, and which columns are its axes.
#[derive(ToSchema)]
pub struct VisualizationSpec {
    /// The columns, in order.
    pub columns: Vec<VisualizationColumn>,
    /// The rows: each an object with the columns' keys.
    #[schema(value_type = Vec<Object>)]
    pub rows: (),
    /// The key of the column along the axis.
    #[schema(required = false)]
    pub x: String,
    /// The keys of the columns that are drawn.
    #[schema(required = false)]
    pub y: Vec<String>,
}

/// A column of a table or chart.
#[derive(ToSchema)]
pub struct VisualizationColumn {
    /// Its key in each row.
    pub key: String,
    /// What a person reads.
    pub label: String,
    /// What its cells are.
    pub r#type: VisualizationColumnType,
}

/// What the cells of a column are.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum VisualizationColumnType {
    /// Text.
    String,
    /// Numbers.
    Number,
    /// Moments.
    Time,
}

/// Where the figures of a usage come from.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Basis {
    /// The upstream said so.
    Reported,
    /// Counted here with a tokenizer, because the upstream did not say.
    Estimated,
}

/// Tokens of one model call, or the sums over a turn.
#[derive(ToSchema)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of the completion, reasoning included.
    pub completion_tokens: u64,
    /// Of the prompt's, those read from the provider's cache.
    #[schema(required = false)]
    pub cached_tokens: u64,
    /// Of the prompt's, those written to the provider's cache.
    #[schema(required = false)]
    pub cache_write_tokens: u64,
    /// Of the completion's, those spent on reasoning.
    #[schema(required = false)]
    pub reasoning_tokens: u64,
    /// Cost in nano-USD; absent where no price is known.
    #[schema(required = false)]
    pub cost_nano_usd: u64,
    /// Where the figures come from.
    pub basis: Basis,
}

/// Whether somebody thinks well of an answer.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Rating {
    /// Yes.
    Up,
    /// No.
    Down,
}

/// What somebody thinks of an answer.
#[derive(ToSchema)]
pub struct Feedback {
    /// Whether they think well of it.
    pub rating: Rating,
    /// Why, in a word or two.
    #[schema(required = false)]
    pub reason: String,
    /// Why, at length.
    #[schema(required = false)]
    pub note: String,
    /// When they said so.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// One message of a conversation.
#[derive(ToSchema)]
pub struct Message {
    /// Its id.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    pub id: String,
    /// The conversation it is in.
    #[schema(pattern = "^conv_[0-9a-f]{32}$")]
    pub conversation_id: String,
    /// The turn it is part of.
    #[schema(pattern = "^turn_[0-9a-f]{32}$")]
    pub turn_id: String,
    /// The message it answers; null for the first.
    #[schema(required, pattern = "^msg_[0-9a-f]{32}$")]
    pub parent_id: Option<String>,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// What the model thought before it spoke.
    #[schema(required = false)]
    pub reasoning: String,
    /// How it stands; a user's message is `completed` from the start.
    pub status: Status,
    /// The model that answered.
    #[schema(required = false)]
    pub model: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The last event folded into it, good for `?after=`; 0 for a user's message.
    pub seq: u64,
    /// By number.
    pub sources: Vec<Source>,
    /// In the order they began.
    pub steps: Vec<Step>,
    /// In the order they came.
    pub visualizations: Vec<Visualization>,
    /// The sums over the turn's model calls; null while there is none.
    #[schema(required)]
    pub usage: Option<Usage>,
    /// Why the model stopped, in its own word.
    #[schema(required = false)]
    pub finish_reason: String,
    /// What went wrong.
    #[schema(required = false)]
    pub error: TurnProblem,
    /// Who stopped it.
    #[schema(required = false)]
    pub stopped_by: StoppedBy,
    /// From start to end, in milliseconds.
    #[schema(required = false)]
    pub duration_ms: u64,
    /// From start to the first delta or reasoning, in milliseconds.
    #[schema(required = false)]
    pub first_token_ms: u64,
    /// What somebody thinks of it.
    #[schema(required = false)]
    pub feedback: Feedback,
    /// What the client sent along.
    #[schema(value_type = Object)]
    pub metadata: (),
}
