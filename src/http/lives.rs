//! How a conversation stands: put away and fetched back, paused and resumed, ended.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::json;
use super::app::{App, no_conversation};
use super::asker::{Mine, Who};
use super::body::{Json, Nothing};
use super::conversations::shown;
use super::problem::Problem;
use super::schema::{conversation, refusals};
use crate::domain::audit::Action;
use crate::domain::conversation::{self as domain, Life};
use crate::domain::ids::ConversationId;
use crate::store::lives::Lived;
use crate::turn::start::Refused;

/// The longest reason, in characters.
const REASON: usize = 500;

/// Why a conversation is put away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Archiving, example = json!({"reason": "solved"}))]
pub struct Archive {
    /// Kept with it, and shown; the last one counts.
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

/// Archive a conversation
///
/// It is left out of the list unless asked for, and is otherwise as before: it takes messages.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/archive",
    tag = "Conversations",
    operation_id = "archive_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = Option<Archive>,
    responses(
        (status = 200, description = "The conversation.", body = conversation::Conversation),
        refusals::OfLife
    )
)]
pub async fn archive(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    body: Option<Json<Archive>>,
) -> Result<Response, Problem> {
    let reason = body.and_then(|body| body.value.reason);
    if reason.as_ref().is_some_and(|reason| reason.is_empty() || reason.chars().count() > REASON) {
        return Err(Problem::field("reason", format!("must have 1 to {REASON} characters")));
    }
    live(&app, &who, &id, Life::Archive(reason)).await
}

/// Fetch a conversation back from the archive
///
/// It is in the list again, and its reason is forgotten.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/unarchive",
    tag = "Conversations",
    operation_id = "unarchive_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The conversation.", body = conversation::Conversation),
        refusals::OfLife
    )
)]
pub async fn unarchive(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    _: Option<Json<Nothing>>,
) -> Result<Response, Problem> {
    live(&app, &who, &id, Life::Unarchive).await
}

/// Pause a conversation
///
/// It takes no messages until it is resumed: 409 `conversation_paused`. A live turn goes on to its end, and so do those that
/// wait behind it: stop them if they are not wanted. While it is paused it does not expire.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/pause",
    tag = "Conversations",
    operation_id = "pause_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The conversation.", body = conversation::Conversation),
        refusals::OfPause
    )
)]
pub async fn pause(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    _: Option<Json<Nothing>>,
) -> Result<Response, Problem> {
    live(&app, &who, &id, Life::Pause).await
}

/// Resume a conversation
///
/// One that is paused or has ended takes messages again. Where conversations expire, this counts as activity.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/resume",
    tag = "Conversations",
    operation_id = "resume_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The conversation.", body = conversation::Conversation),
        refusals::OfLife
    )
)]
pub async fn resume(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    _: Option<Json<Nothing>>,
) -> Result<Response, Problem> {
    live(&app, &who, &id, Life::Resume).await
}

/// End a conversation
///
/// It takes no messages: 409 `conversation_ended`. Its context is cleared; its messages stay. A live turn goes on to its end, and
/// so do those that wait behind it: stop them if they are not wanted. `resume` reopens it.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/end",
    tag = "Conversations",
    operation_id = "end_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The conversation.", body = conversation::Conversation),
        refusals::OfLife
    )
)]
pub async fn end(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    _: Option<Json<Nothing>>,
) -> Result<Response, Problem> {
    live(&app, &who, &id, Life::End).await
}

async fn live(app: &App, who: &Who, id: &ConversationId, life: Life) -> Result<Response, Problem> {
    let action = match &life {
        Life::Archive(_) => Action::ConversationArchive,
        Life::Unarchive => Action::ConversationUnarchive,
        Life::Pause => Action::ConversationPause,
        Life::Resume => Action::ConversationResume,
        Life::End => Action::ConversationEnd,
    };
    let deed = app.deed(&who.caller, action, Some(id.into()));
    match app.turns.live(&who.owner, id, life, deed).await? {
        Lived::Done => {}
        Lived::Ended => return Err(Refused::Closed(id.clone(), domain::State::Ended).into()),
        Lived::Missing => return Err(no_conversation()),
    }
    let conversation = app.turns.conversation(&who.owner, id).await?.ok_or_else(no_conversation)?;
    Ok(json(StatusCode::OK, &shown(&who.caller, conversation)))
}
