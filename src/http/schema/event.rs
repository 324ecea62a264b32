//! Mirrors of [`crate::domain::event`]: the numbered events, and the frames without a number. Each has its `type`
//! besides; [`super::frame`] adds it.

use utoipa::ToSchema;

use super::message::{Basis, Message, StepStatus, VisualizationSpec};
use super::turn::{Status, StoppedBy, TurnProblem};

/// The turn has begun. Always the first event.
#[derive(ToSchema)]
pub struct TurnStarted {
    /// Always 1.
    pub seq: u64,
    /// The turn.
    #[schema(pattern = "^turn_[0-9a-f]{32}$")]
    pub turn_id: String,
    /// The conversation it is in.
    #[schema(pattern = "^conv_[0-9a-f]{32}$")]
    pub conversation_id: String,
    /// The question.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    pub user_message_id: String,
    /// The answer.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    pub message_id: String,
    /// The model that is asked.
    pub model: String,
}

/// Something began on the way to the answer.
#[derive(ToSchema)]
pub struct StepStarted {
    /// Its number in the turn.
    pub seq: u64,
    /// The step.
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
}

/// A step is over.
#[derive(ToSchema)]
pub struct StepFinished {
    /// Its number in the turn.
    pub seq: u64,
    /// The step.
    #[schema(pattern = "^step_[0-9a-f]{32}$")]
    pub step_id: String,
    /// How it went.
    pub status: StepStatus,
    /// What it gave.
    #[schema(required = false, value_type = Value)]
    pub output: (),
    /// What went wrong.
    #[schema(required = false)]
    pub error: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Something the answer rests on.
#[derive(ToSchema)]
pub struct SourceFound {
    /// Its number in the turn.
    pub seq: u64,
    /// The source.
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

/// A piece of the answer, just as the upstream cut it.
#[derive(ToSchema)]
pub struct Delta {
    /// Its number in the turn.
    pub seq: u64,
    /// The text.
    pub text: String,
}

/// A piece of the model's reasoning, just as the upstream cut it.
#[derive(ToSchema)]
pub struct Reasoning {
    /// Its number in the turn.
    pub seq: u64,
    /// The text.
    pub text: String,
}

/// A table or chart.
#[derive(ToSchema)]
pub struct VisualizationShown {
    /// Its number in the turn.
    pub seq: u64,
    /// The visualization.
    #[schema(pattern = "^viz_[0-9a-f]{32}$")]
    pub visualization_id: String,
    /// `table`, `bar`, `line`, `area` or `pie`.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// What is shown.
    pub spec: VisualizationSpec,
}

/// What one model call used.
#[derive(ToSchema)]
pub struct UsageTold {
    /// Its number in the turn.
    pub seq: u64,
    /// The model call.
    #[schema(pattern = "^step_[0-9a-f]{32}$")]
    pub step_id: String,
    /// The model that was asked.
    pub model: String,
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

/// The turn has ended. Always the last event, and there is exactly one.
#[derive(ToSchema)]
pub struct TurnFinished {
    /// Its number in the turn; absent where `saved` is false.
    #[schema(required = false)]
    pub seq: u64,
    /// How the turn ended.
    pub status: Status,
    /// Why the model stopped, in its own word.
    #[schema(required = false)]
    pub finish_reason: String,
    /// What went wrong.
    #[schema(required = false)]
    pub error: TurnProblem,
    /// Who stopped it.
    #[schema(required = false)]
    pub stopped_by: StoppedBy,
    /// Whether the record is committed. Where it is not, come back later for the saved end.
    pub saved: bool,
    /// The answer.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    pub message_id: String,
    /// From start to end, in milliseconds.
    pub duration_ms: u64,
    /// From start to the first delta or reasoning, in milliseconds.
    #[schema(required = false)]
    pub first_token_ms: u64,
}

/// A sign of life, without a number and never replayed.
#[derive(ToSchema)]
pub struct Ping {}

/// Stands for all events up to `seq`: it replaces all that the client holds of that message.
#[derive(ToSchema)]
pub struct Snapshot {
    /// The last event folded in.
    pub seq: u64,
    /// The message as it stood then.
    pub message: Message,
}

/// The gateway closes the stream before its end: resume elsewhere, or stop. It has no number.
#[derive(ToSchema)]
pub struct StreamClosed {
    /// Why.
    pub code: ClosedCode,
    /// How long to wait before coming back, in milliseconds.
    #[schema(required = false)]
    pub retry_after_ms: u64,
}

/// Why the gateway closes a stream before its end.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ClosedCode {
    /// This process is being stopped.
    Draining,
    /// Another replica has the turn now.
    LostLease,
    /// The record cannot be read at present.
    Unavailable,
    /// What let the reader in has been revoked.
    Revoked,
}

/// The conversation has another title, or stands otherwise. It has no number, and comes between two turns.
#[derive(ToSchema)]
pub struct ConversationUpdated {
    /// The conversation now.
    pub conversation: super::conversation::Conversation,
}

/// The conversation is gone. It has no number.
#[derive(ToSchema)]
pub struct ConversationDeleted {
    /// The conversation.
    #[schema(pattern = "^conv_[0-9a-f]{32}$")]
    pub conversation_id: String,
}
