//! `/v1/chat/{session_id}`: what was said in a session, and its end.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::answer::{Word, json};
use super::app::App;
use super::asker::Asker;
use super::code::Code;
use super::problem::Problem;
use super::query::Id;
use super::schema::{self, refusals};
use crate::domain::audit::Action;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{MessageId, TurnId};
use crate::domain::message::{Message, Role, Source, Step, Visualization};
use crate::domain::repair;
use crate::domain::turn::{Problem as TurnProblem, Status, StoppedBy};
use crate::domain::usage::Usage;

/// The longest session id, in bytes.
const NAME: usize = 255;
/// The most messages a session's history shows: the newest.
const SHOWN: u32 = 1000;

/// Whether a client may call its session so.
///
/// # Errors
/// 422 that names `session_id`.
pub fn check(session_id: &str) -> Result<(), Problem> {
    let visible = session_id.bytes().all(|byte| byte.is_ascii_graphic());
    if session_id.is_empty() || session_id.len() > NAME || !visible || session_id == "stream" {
        return Err(Problem::field("session_id", "must be 1 to 255 visible ASCII characters, and not `stream`"));
    }
    Ok(())
}

/// What was said in a session.
#[derive(Serialize, ToSchema)]
struct History {
    /// Oldest first.
    messages: Vec<Spoken>,
}

/// A message as a widget shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryMessage)]
struct Spoken {
    /// Its id.
    #[schema(value_type = String, pattern = "^msg_[0-9a-f]{32}$")]
    id: MessageId,
    /// The turn it is part of.
    #[schema(value_type = String, pattern = "^turn_[0-9a-f]{32}$")]
    turn_id: TurnId,
    /// What is said.
    text: String,
    /// `user` or `bot`.
    #[schema(pattern = "^(user|bot)$")]
    sender: &'static str,
    /// How it stands.
    #[schema(value_type = schema::turn::Status)]
    status: Status,
    /// The last event folded into it, good for `?after=`.
    seq: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// What the model thought before it spoke.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reasoning: Option<String>,
    /// By number.
    #[schema(value_type = Vec<schema::message::Source>)]
    sources: Vec<Source>,
    /// In the order they began, each with those that are part of it.
    steps: Vec<Branch>,
    /// The last one; null while there is none.
    #[schema(required, value_type = Option<schema::message::Visualization>)]
    visualization: Option<Visualization>,
    /// The sums over the turn's model calls; null while there is none.
    #[schema(required, value_type = Option<schema::message::Usage>)]
    usage: Option<Usage>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = schema::turn::TurnProblem)]
    error: Option<TurnProblem>,
    /// Who stopped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = schema::turn::StoppedBy)]
    stopped_by: Option<StoppedBy>,
    /// What the client sent along.
    #[schema(value_type = Object)]
    metadata: Value,
}

/// A step with those that are part of it.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryStep)]
struct Branch {
    #[serde(flatten)]
    #[schema(value_type = schema::message::Step)]
    step: Step,
    /// The steps that are part of it.
    #[schema(no_recursion)]
    children: Vec<Self>,
}

/// Read a session
///
/// What was said in it; nothing in one that nobody knows. Of a long one the newest thousand messages, or 8 MiB of them.
#[utoipa::path(
    get,
    path = "/v1/chat/{session_id}/history",
    tag = "Chat",
    operation_id = "get_history",
    params(("session_id" = String, Path, description = "The client's own name for the session.",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    responses((status = 200, description = "The messages.", body = History), refusals::OfHistory)
)]
pub async fn history(
    State(app): State<App>,
    Asker(caller): Asker,
    Id(session_id): Id<String>,
) -> Result<Response, Problem> {
    check(&session_id)?;
    let mut messages = Vec::new();
    if let Some(conversation) = app.turns.store.session(&caller.owner, &session_id).await?
        && let Some(page) = app.turns.page(&caller.owner, &conversation, None, SHOWN).await?
    {
        messages = page.messages.into_iter().map(spoken).collect();
    }
    Ok(json(StatusCode::OK, &History { messages }))
}

fn spoken(mut message: Message) -> Spoken {
    message.steps.iter_mut().for_each(repair::step);
    message.visualizations.iter_mut().for_each(repair::visualization);
    Spoken {
        id: message.id,
        turn_id: message.turn_id,
        text: message.content.text(),
        sender: match message.role {
            Role::User => "user",
            Role::Assistant => "bot",
        },
        status: message.status,
        seq: message.seq,
        created_at: message.created_at,
        reasoning: message.reasoning,
        sources: message.sources,
        steps: tree(message.steps),
        visualization: message.visualizations.into_iter().next_back(),
        usage: message.usage,
        error: message.error,
        stopped_by: message.stopped_by,
        metadata: message.metadata,
    }
}

/// Steps in the order they began, each under the one it is part of. A child never begins before its parent.
fn tree(steps: Vec<Step>) -> Vec<Branch> {
    let mut roots: Vec<Branch> = Vec::new();
    for step in steps.into_iter().rev() {
        // What began later has been placed already: its children stand among the roots.
        let mine = |branch: &Branch| branch.step.parent_id.as_ref() == Some(&step.step_id);
        let (children, others) = roots.into_iter().partition(mine);
        roots = others;
        roots.insert(0, Branch { step, children });
    }
    roots
}

/// Reset a session
///
/// A live turn is stopped, and all of it is erased. 200 also where there is none.
#[utoipa::path(
    delete,
    path = "/v1/chat/{session_id}",
    tag = "Chat",
    operation_id = "reset_session",
    params(("session_id" = String, Path, description = "The client's own name for the session.",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    responses((status = 200, description = "It is reset.", body = Word), refusals::OfReset)
)]
pub async fn reset(
    State(app): State<App>,
    Asker(caller): Asker,
    Id(session_id): Id<String>,
) -> Result<Response, Problem> {
    check(&session_id)?;
    if let Some(conversation) = app.turns.store.session(&caller.owner, &session_id).await?
        && let deed = app.deed(&caller, Action::ConversationDelete, Some((&conversation).into()))
        && !app.turns.erase(&caller.owner, &conversation, deed.into()).await?
    {
        return Err(Problem::new(Code::StoreUnavailable, "A turn of the session could not be ended in time."));
    }
    Ok(json(StatusCode::OK, &Word { message: "The session is reset." }))
}
