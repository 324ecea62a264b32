//! `/v1/conversations/{id}/context`: what is known in a conversation.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value};

use super::answer::json;
use super::app::{App, no_conversation, object};
use super::asker::Mine;
use super::body::Json;
use super::problem::Problem;
use super::schema::{conversation, refusals};
use crate::domain::audit::Action;
use crate::domain::context::KEPT;
use crate::domain::conversation::State as Stands;
use crate::domain::ids::ConversationId;
use crate::domain::merge::merge;
use crate::store::context::Patched;
use crate::turn::start::Refused;

/// Whether a client may say this of a conversation.
///
/// # Errors
/// 422 that names what is kept by itself, as a field of `field`.
pub fn check(field: &str, said: Value) -> Result<Value, Problem> {
    let kept = KEPT.into_iter().find(|name| said.get(name).is_some());
    kept.map_or(Ok(said), |name| {
        let path = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
        Err(Problem::field(path, "is kept by the gateway"))
    })
}

/// Get a context
///
/// What is known in a conversation: what its creator and others said, and what is kept by itself. One that has ended has
/// only the latter.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/context",
    tag = "Conversations",
    operation_id = "get_context",
    params(("id" = String, Path, description = "The conversation.")),
    responses((status = 200, description = "The context.", body = conversation::Context), refusals::OfConversation)
)]
pub async fn get(State(app): State<App>, Mine { who, id }: Mine<ConversationId>) -> Result<Response, Problem> {
    let context = app.turns.store.context(&who.owner, &id, app.turns.silence()).await?.ok_or_else(no_conversation)?;
    Ok(json(StatusCode::OK, &context))
}

/// Change a context
///
/// By a JSON merge patch (RFC 7396): what is null in it goes, objects are merged, everything else takes the place of what was.
/// What is kept by itself (`application_id`, `user_id`, `message_count`, `last_message_at`) cannot be said: 422. At most
/// `context_bytes` as JSON, once it is merged. One that has ended takes nothing: 409 `conversation_ended`.
#[utoipa::path(
    patch,
    path = "/v1/conversations/{id}/context",
    tag = "Conversations",
    operation_id = "update_context",
    params(("id" = String, Path, description = "The conversation.")),
    request_body(content((Object = "application/json"), (Object = "application/merge-patch+json"))),
    responses((status = 200, description = "The context.", body = conversation::Context), refusals::OfUpdateContext)
)]
pub async fn update(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    body: Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let patch = check("", body.parsed)?;
    let most = app.turns.settings.limits.context_bytes;
    let change = move |context: &mut Value| {
        merge(context, &patch);
        object("context", Some(context.clone()), most).map(drop)
    };
    let silence = app.turns.silence();
    let deed = app.deed(&who.caller, Action::ContextUpdate, Some((&id).into()));
    match app.turns.store.patch_context(&who.owner, &id, silence, &deed, change).await? {
        Patched::Done => {}
        Patched::Refused(problem) => return Err(problem),
        Patched::Ended => return Err(Refused::Closed(id, Stands::Ended).into()),
        Patched::Missing => return Err(no_conversation()),
    }
    get(State(app), Mine { who, id }).await
}

/// Clear a context
///
/// All that somebody said is forgotten; what is kept by itself stays.
#[utoipa::path(
    delete,
    path = "/v1/conversations/{id}/context",
    tag = "Conversations",
    operation_id = "clear_context",
    params(("id" = String, Path, description = "The conversation.")),
    responses((status = 204, description = "It is clear."), refusals::OfDeleteConversation)
)]
pub async fn delete(State(app): State<App>, Mine { who, id }: Mine<ConversationId>) -> Result<Response, Problem> {
    let deed = app.deed(&who.caller, Action::ContextClear, Some((&id).into()));
    match app.turns.store.clear_context(&who.owner, &id, &deed).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(no_conversation()),
    }
}
