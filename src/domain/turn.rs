//! A turn: one user message and the reply it causes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, TurnId};
use super::message::Message;
use super::usage::Usage;

/// How a turn, and the answer it makes, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Our process died, was told to stop, or lost its lease.
    Interrupted,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Queued,
        Self::Running,
        Self::Completed,
        Self::Length,
        Self::Filtered,
        Self::Stopped,
        Self::Failed,
        Self::Truncated,
        Self::Timeout,
        Self::Interrupted,
    ];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Length => "length",
            Self::Filtered => "filtered",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Truncated => "truncated",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether it is an end.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Who stopped a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl StoppedBy {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Disconnect => "disconnect",
            Self::Interrupt => "interrupt",
            Self::Deletion => "deletion",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Request, Self::Disconnect, Self::Interrupt, Self::Deletion].into_iter().find(|by| by.as_str() == name)
    }
}

/// Why a turn failed, in words that are safe to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable code, such as `upstream_unavailable`.
    pub code: String,
    /// A sentence; never the upstream's own text.
    pub message: String,
}

/// How a turn ended: delivered once, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The status; always an end.
    pub status: Status,
    /// Why the model stopped, in its own word.
    pub finish_reason: Option<String>,
    /// What went wrong.
    pub error: Option<Problem>,
    /// Who stopped it.
    pub stopped_by: Option<StoppedBy>,
}

impl Ending {
    /// An ending that needs no more words.
    pub fn plain(status: Status) -> Self {
        Self { status, finish_reason: None, error: None, stopped_by: None }
    }

    /// The model came to its own end.
    pub fn finished(status: Status, finish_reason: &str) -> Self {
        Self { finish_reason: Some(finish_reason.to_owned()), ..Self::plain(status) }
    }

    /// Stopped, and by whom.
    pub fn stopped(by: StoppedBy) -> Self {
        Self { stopped_by: Some(by), ..Self::plain(Status::Stopped) }
    }

    /// Failed, or cut short, with a code and a sentence.
    pub fn problem(status: Status, code: &str, message: &str) -> Self {
        let error = Problem { code: code.to_owned(), message: message.to_owned() };
        Self { error: Some(error), ..Self::plain(status) }
    }
}

/// What becomes of a turn when its last reader leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It goes on.
    Continue,
    /// It is stopped when no reader has come back for this long.
    Grace(Duration),
}

impl OnDisconnect {
    /// Reads `continue`, `cancel` (= `grace:0`) or `grace:SECONDS`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "continue" => Some(Self::Continue),
            "cancel" => Some(Self::Grace(Duration::ZERO)),
            _ => {
                let seconds: u32 = text.strip_prefix("grace:")?.parse().ok()?;
                Some(Self::Grace(Duration::from_secs(seconds.into())))
            }
        }
    }

    /// The text [`OnDisconnect::parse`] reads.
    pub fn to_text(self) -> String {
        match self {
            Self::Continue => "continue".to_owned(),
            Self::Grace(Duration::ZERO) => "cancel".to_owned(),
            Self::Grace(grace) => format!("grace:{}", grace.as_secs()),
        }
    }
}

/// What becomes of a message to a conversation that has a live turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfBusy {
    /// It is refused.
    Reject,
    /// It waits its turn, first in first out.
    Queue,
    /// Live and queued turns are stopped, and it starts after them.
    Interrupt,
}

/// A turn, as its readers see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// How it stands.
    pub status: Status,
    /// The last event folded into `message`.
    pub seq: u64,
    /// The answer, as far as it has come.
    pub message: Message,
    /// The sums over its model calls; null while there is none.
    pub usage: Option<Usage>,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_disconnect_reads_what_it_writes() {
        for text in ["continue", "cancel", "grace:5"] {
            assert_eq!(OnDisconnect::parse(text).unwrap().to_text(), text);
        }
        assert_eq!(OnDisconnect::parse("grace:0"), OnDisconnect::parse("cancel"));
        for bad in ["", "grace", "grace:", "grace:-1", "grace:1.5", "Cancel", "grace:99999999999"] {
            assert_eq!(OnDisconnect::parse(bad), None, "{bad}");
        }
    }
}
