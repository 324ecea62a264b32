//! `/v1/conversations/{id}/messages`: asking, and what was said.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, Wanted, json, tell_started};
use super::app::{App, no_conversation, object};
use super::asker::{Asker, Mine, reach_or_own};
use super::body::Json;
use super::problem::Problem;
use super::query::{Id, Query};
use super::schema::{self, parameters, refusals, streams};
use super::traced::traceparent;
use super::{fingerprint, idempotency, paging, prefer};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::message::{Content, Message};
use crate::domain::turn::{IfBusy, OnDisconnect};
use crate::store::admission::{Question, Target};
use crate::store::idempotency::Key;
use crate::turn::start::{Ask, Refused};

/// A message to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewMessage, example = json!({"content": "Show me a chart."}))]
pub struct New {
    /// What is said.
    #[schema(value_type = schema::new_content::NewContent)]
    content: Content,
    /// What the client keeps with it; at most `metadata_bytes` as JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// The model to ask; else the conversation's, else the gateway's.
    model: Option<String>,
    /// The message it answers; else the newest. The model sees the path that ends there.
    #[schema(pattern = "^msg_[0-9a-f]{32}$")]
    parent_id: Option<String>,
    /// What becomes of the turn when its last reader leaves: `continue`, `cancel`, or `grace:SECONDS` for those who
    /// come back.
    #[schema(pattern = "^(continue|cancel|grace:[0-9]{1,9})$")]
    on_disconnect: Option<String>,
    /// What becomes of it when the conversation has a live turn.
    #[schema(value_type = Option<schema::turn::IfBusy>)]
    if_busy: Option<IfBusy>,
}

/// Send a message
///
/// Starts a turn, and tells it as `Accept` asks: streamed, or as JSON at its end. Once it is admitted it goes on, whoever
/// reads it; with an `Idempotency-Key` asking again joins it.
#[utoipa::path(
    post,
    path = "/v1/conversations/{id}/messages",
    tag = "Conversations",
    operation_id = "create_message",
    params(
        ("id" = String, Path, description = "The conversation."),
        Reading, parameters::IdempotencyKey, parameters::Prefer, parameters::LastEventId,
    ),
    request_body = New,
    responses(streams::Told, refusals::OfCreateMessage)
)]
pub async fn create(
    State(app): State<App>,
    Asker(caller): Asker,
    Id(id): Id<ConversationId>,
    OriginalUri(uri): OriginalUri,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
    body: Json<New>,
) -> Result<Response, Problem> {
    let who = reach_or_own(&app, caller, &id).await?;
    let chosen = negotiate(&headers, &Encoding::ALL)?;
    let wanted = Wanted::read(&app, &who, &headers, chosen, reading, prefer::respond_async(&headers)).await?;
    let key = idempotency::of_headers(&headers)?
        .map(|key| Key { key, fingerprint: fingerprint::of_body("POST", uri.path(), &body.parsed) });
    let New { content, metadata, model, parent_id, on_disconnect, if_busy } = body.value;
    if content.is_empty() {
        return Err(Problem::field("content", "must not be empty"));
    }
    let ask = Ask {
        target: Target::Existing(id),
        question: Question::New {
            content,
            metadata: object("metadata", metadata, app.turns.settings.limits.metadata_bytes)?,
            parent_id: parent_id.map(read_parent_id).transpose()?,
        },
        model,
        on_disconnect: on_disconnect.as_deref().map(read_on_disconnect).transpose()?,
        if_busy,
        history: None,
        language: None,
        traceparent: traceparent(&app, &headers),
        key,
        attended: wanted.prefer.is_none(),
        on_behalf: (&who.caller).into(),
        deed: None,
    };
    let started = app.turns.start(&who.owner, ask).await.map_err(Problem::from);
    tell_started(&app, &who, started, wanted).await
}

/// What has a NUL in it is no id, and PostgreSQL's text cannot hold it.
fn read_parent_id(text: String) -> Result<MessageId, Problem> {
    if text.contains('\0') { Err(Refused::NoParent.into()) } else { Ok(text.into()) }
}

/// What `on_disconnect` says.
///
/// # Errors
/// 422 that names it.
pub fn read_on_disconnect(text: &str) -> Result<OnDisconnect, Problem> {
    OnDisconnect::parse(text)
        .ok_or_else(|| Problem::field("on_disconnect", "must be `continue`, `cancel` or `grace:SECONDS`"))
}

/// The query of `GET /v1/conversations/{id}/messages`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// How many; 20 where it is absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// A `next_cursor`, for those before it.
    #[param(pattern = "^([0-9]{1,15}|[0-8][0-9]{15}|900[0-6][0-9]{12})$")]
    before: Option<String>,
}

/// Messages of a conversation.
#[derive(Serialize, ToSchema)]
#[schema(as = MessageList)]
struct List {
    /// Oldest first.
    #[schema(value_type = Vec<schema::message::Message>)]
    data: Vec<Message>,
    /// Goes into `before` for those before these; null where there are none.
    #[schema(required)]
    next_cursor: Option<String>,
    /// Goes into `after` of the conversation's events, for what has happened since.
    feed_cursor: String,
}

/// List messages
///
/// The newest of a conversation, oldest first, the running one included. Fewer than `limit` come where these have 8 MiB.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/messages",
    tag = "Conversations",
    operation_id = "list_messages",
    params(("id" = String, Path, description = "The conversation."), Paging),
    responses((status = 200, description = "The messages.", body = List), refusals::OfMessages)
)]
pub async fn list(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let limit = paging::limit(paging.limit)?;
    let before = match paging.before.as_deref() {
        None => None,
        Some(text) => {
            let place = crate::domain::cursor::parse(text);
            Some(place.ok_or_else(|| Problem::field("before", "must be a `next_cursor` of this list"))?)
        }
    };
    let page = app.turns.page(&who.owner, &id, before, limit).await?.ok_or_else(no_conversation)?;
    let list = List {
        data: page.messages,
        next_cursor: page.next.map(|place| place.to_string()),
        feed_cursor: page.feed.to_string(),
    };
    Ok(json(StatusCode::OK, &list))
}
