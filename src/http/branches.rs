//! `/v1/messages/{id}/regenerate`: another answer to the same question, beside those it has.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, Wanted, tell_started};
use super::app::{App, no_message};
use super::asker::{Asker, Who, reach_or_own};
use super::body::Json;
use super::messages::read_on_disconnect;
use super::problem::Problem;
use super::query::{Id, Query};
use super::schema::{self, parameters, refusals, streams};
use super::traced::traceparent;
use super::{fingerprint, idempotency, prefer};
use crate::domain::audit::Action;
use crate::domain::ids::MessageId;
use crate::domain::message::Role;
use crate::domain::owner::Owner;
use crate::domain::turn::{IfBusy, OnDisconnect};
use crate::store::admission::{Question, Target};
use crate::store::idempotency::{Claimed, Key};
use crate::turn::start::{Ask, Refused, Started};

/// How another answer is to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Regeneration, example = json!({}))]
pub struct Again {
    /// The model to ask; else the conversation's, else the gateway's.
    model: Option<String>,
    /// What becomes of the turn when its last reader leaves: `continue`, `cancel`, or `grace:SECONDS` for those who
    /// come back.
    #[schema(pattern = "^(continue|cancel|grace:[0-9]{1,9})$")]
    on_disconnect: Option<String>,
    /// What becomes of it when the conversation has a live turn.
    #[schema(value_type = Option<schema::turn::IfBusy>)]
    if_busy: Option<IfBusy>,
}

/// Answer a question again
///
/// A turn without a message of its own: its answer stands beside the one that is named here, which stays as it is, and has the
/// same `parent_id`. The model sees the path up to the question. A question may be named in place of its answer. The turn
/// is told as `Accept` asks, as where a message is sent.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/regenerate",
    tag = "Conversations",
    operation_id = "regenerate_message",
    params(
        ("id" = String, Path, description = "The answer, or its question."),
        Reading, parameters::IdempotencyKey, parameters::Prefer, parameters::LastEventId,
    ),
    request_body = Option<Again>,
    responses(streams::Told, refusals::OfRegenerate)
)]
pub async fn create(
    State(app): State<App>,
    Asker(caller): Asker,
    Id(id): Id<MessageId>,
    OriginalUri(uri): OriginalUri,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
    body: Option<Json<Again>>,
) -> Result<Response, Problem> {
    let chosen = negotiate(&headers, &Encoding::ALL)?;
    let (again, parsed) = body.map_or_else(|| (Again::default(), json!({})), |body| (body.value, body.parsed));
    let key = key(&headers, uri.path(), &parsed)?;
    let on_disconnect = again.on_disconnect.as_deref().map(read_on_disconnect).transpose()?;
    let how = How { model: again.model, on_disconnect, if_busy: again.if_busy, key };
    let who = reach_or_own(&app, caller, &id).await?;
    let wanted = Wanted::read(&app, &who, &headers, chosen, reading, prefer::respond_async(&headers)).await?;
    let started = start(&app, &who, &id, &headers, how, wanted.prefer.is_none()).await;
    tell_started(&app, &who, started, wanted).await
}

/// How a turn is to be started.
struct How {
    model: Option<String>,
    on_disconnect: Option<OnDisconnect>,
    if_busy: Option<IfBusy>,
    key: Option<Key>,
}

fn key(headers: &HeaderMap, path: &str, parsed: &Value) -> Result<Option<Key>, Problem> {
    let key = idempotency::of_headers(headers)?;
    Ok(key.map(|key| Key { key, fingerprint: fingerprint::of_body("POST", path, parsed) }))
}

async fn start(
    app: &App,
    who: &Who,
    id: &MessageId,
    headers: &HeaderMap,
    how: How,
    attended: bool,
) -> Result<Started, Problem> {
    let How { model, on_disconnect, if_busy, key } = how;
    let owner = &who.owner;
    let Some(message) = app.turns.store.message(owner, id).await? else { return Err(missing(app, owner, key).await?) };
    let question = match message.role {
        Role::User => Some(message.id),
        Role::Assistant => message.parent_id,
    };
    let ask = Ask {
        target: Target::Existing(message.conversation_id),
        question: Question::Again(question.ok_or_else(no_message)?),
        model,
        on_disconnect,
        if_busy,
        history: None,
        language: None,
        traceparent: traceparent(app, headers),
        key,
        attended,
        on_behalf: (&who.caller).into(),
        deed: Some(app.deed(&who.caller, Action::MessageRegenerate, Some(id.into()))),
    };
    Ok(app.turns.start(owner, ask).await?)
}

/// What is said of a message that is not there: whoever comes back under a key is told what became of its turn.
async fn missing(app: &App, owner: &Owner, key: Option<Key>) -> Result<Problem, Problem> {
    let Some(key) = key else { return Ok(no_message()) };
    Ok(match app.turns.store.claimed(owner, &key, app.turns.now()).await? {
        Some(Claimed::Deleted) => Refused::Deleted.into(),
        Some(Claimed::Other) => Refused::KeyReused.into(),
        Some(Claimed::Same(..)) | None => no_message(),
    })
}
