//! Mirrors of [`crate::domain::turn`].

use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::message::{Message, Role, Usage};
use super::only;

/// How a turn, and the answer it makes, stands. All but `queued` and `running` are ends.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Status {
    /// Waits for the turns before it.
    Queued,
    /// Is being answered.
    Running,
    /// The model said all it had to say.
    Completed,
    /// The answer reached its longest.
    Length,
    /// The provider's filter cut it.
    Filtered,
    /// Somebody stopped it.
    Stopped,
    /// An error; see `error`.
    Failed,
    /// The upstream ended without its end mark.
    Truncated,
    /// Something took too long.
    Timeout,
    /// The gateway's process died, was told to stop, or lost its lease.
    Interrupted,
}

/// Who stopped a turn.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum StoppedBy {
    /// A stop request.
    Request,
    /// The last reader left, and the turn was not to go on without one.
    Disconnect,
    /// A newer message.
    Interrupt,
    /// Its conversation was deleted or reset.
    Deletion,
}

/// Why a turn failed, in words that are safe to show.
#[derive(ToSchema)]
pub struct TurnProblem {
    /// A stable code, such as `upstream_unavailable`.
    pub code: String,
    /// A sentence; never the upstream's own text.
    pub message: String,
}

/// What becomes of a message to a conversation that has a live turn.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum IfBusy {
    /// It is refused with 409 `turn_in_progress`.
    Reject,
    /// It waits its turn, first in first out.
    Queue,
    /// Live and queued turns are stopped, and it starts after them.
    Interrupt,
}

/// One message of a history that a request brings along.
#[derive(ToSchema)]
pub struct Said {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// A turn.
#[derive(ToSchema)]
pub struct Turn {
    /// Its id.
    #[schema(pattern = "^turn_[0-9a-f]{32}$")]
    pub id: String,
    /// The conversation it is in.
    #[schema(pattern = "^conv_[0-9a-f]{32}$")]
    pub conversation_id: String,
    /// How it stands.
    pub status: Status,
    /// The last event folded into `message`, good for `?after=`.
    pub seq: u64,
    /// The answer, as far as it has come.
    pub message: Message,
    /// The sums over its model calls; null while there is none.
    #[schema(required)]
    pub usage: Option<Usage>,
    /// When it was admitted.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ended.
    #[schema(required = false, format = DateTime)]
    pub finished_at: String,
}

/// That a turn is being stopped, and its end is not committed yet.
#[derive(ToSchema)]
pub struct Stopping {
    /// The turn.
    #[schema(pattern = "^turn_[0-9a-f]{32}$")]
    pub turn_id: String,
    /// How it stands.
    #[schema(schema_with = only_stopping)]
    pub status: String,
}

fn only_stopping() -> Object {
    only("stopping")
}
