//! What every resource needs, and what most of them do the same way.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::code::Code;
use super::cors::Origins;
use super::health::Checkups;
use super::problem::Problem;
use crate::access::Access;
use crate::domain::conversation::State;
use crate::store::Error;
use crate::turn::Turns;
use crate::turn::start::Refused;

/// What every resource needs. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The turns.
    pub turns: Turns,
    /// Who may call.
    pub access: Access,
    /// Whose pages may use a cookie.
    pub origins: Origins,
    /// The origin of the gateway's own pages.
    pub own_origin: Arc<str>,
    /// When the process was ready.
    pub since: Arc<Instant>,
    /// A permit is a reading of the metrics. See [`super::health::SCRAPES`].
    pub scrapes: Arc<Semaphore>,
    /// What a look at its parts found last.
    pub checkups: Arc<Checkups>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::NotBegun(_) | Error::Slow(_) | Error::Unchanged => {
                tracing::warn!(%error, "a request finds no database");
                Self::new(Code::StoreUnavailable, "The database does not answer at present.")
            }
            // The database is well: it is no news for whoever runs it.
            Error::Crowded => Self::new(Code::StoreUnavailable, "Too many search, or write the same, at present."),
            Error::Corrupt(_) => {
                tracing::error!(%error, "a row cannot be read");
                Self::internal()
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::KeyReused => {
                Self::new(Code::IdempotencyKeyReused, "This key was used for another request.").at("Idempotency-Key")
            }
            Refused::Deleted => Self::new(Code::TurnDeleted, "What this key made has been deleted."),
            Refused::Busy(conversation, turn) => Self::new(Code::TurnInProgress, "The conversation has a live turn.")
                .conversation(&conversation)
                .turn(&turn),
            Refused::QueueFull => Self::new(Code::QueueFull, "Too many turns wait in this conversation."),
            Refused::Full => Self::new(Code::TooManyTurns, "Too many turns are live."),
            Refused::Draining => Self::new(Code::Draining, "The process is being stopped."),
            Refused::NoConversation => no_conversation(),
            Refused::NoParent => Self::field("parent_id", "The conversation has no such message."),
            Refused::NoQuestion => no_message(),
            Refused::NoModel => Self::new(Code::ModelNotFound, "No upstream serves this model.").at("model"),
            Refused::Closed(conversation, State::Paused) => {
                Self::new(Code::ConversationPaused, "The conversation is paused.").conversation(&conversation)
            }
            Refused::Closed(conversation, State::Active | State::Ended) => {
                Self::new(Code::ConversationEnded, "The conversation has ended.").conversation(&conversation)
            }
            Refused::Spent(spent) => spent.into(),
            Refused::Outlived => {
                Self::new(Code::AuthenticationRequired, "What let this request in has been revoked meanwhile.")
            }
            Refused::Store(error) => error.into(),
            Refused::Unsure(turn, error) => {
                tracing::warn!(%error, turn_id = %turn, "a request was not told whether its turn was started");
                let detail = "The database does not say whether the turn was started.";
                Self::new(Code::StoreUnavailable, detail).turn(&turn).unsure()
            }
        }
    }
}

/// 404 for a conversation that is not there, or not the caller's.
pub fn no_conversation() -> Problem {
    Problem::new(Code::ConversationNotFound, "There is no such conversation.")
}

/// 404 for a turn that is not there, or not the caller's.
pub fn no_turn() -> Problem {
    Problem::new(Code::TurnNotFound, "There is no such turn.")
}

/// 404 for a message that is not there, or not the caller's.
pub fn no_message() -> Problem {
    Problem::new(Code::MessageNotFound, "There is no such message.")
}

/// There are no assistants yet: whoever names one is told that it is not there.
///
/// # Errors
/// 404 `assistant_not_found`.
pub fn no_assistant(assistant_id: Option<&String>) -> Result<(), Problem> {
    match assistant_id {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::AssistantNotFound, "There is no such assistant.").at("assistant_id")),
    }
}

/// `metadata` or `context`: an object of at most `most` bytes as JSON; absent is empty.
///
/// # Errors
/// 422 naming `field`.
pub fn object(field: &'static str, value: Option<Value>, most: usize) -> Result<Value, Problem> {
    let value = value.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if !value.is_object() {
        return Err(Problem::field(field, "must be an object"));
    }
    if crate::domain::json::to_vec(&value).len() > most {
        return Err(Problem::field(field, format!("may have {most} bytes as JSON")));
    }
    Ok(value)
}
