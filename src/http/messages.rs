//! `/v1/conversations/{id}/messages`: asking, and what was said.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, Wanted, json, tell_started};
use super::app::{App, Caller, no_conversation, object};
use super::body::Json;
use super::problem::Problem;
use super::query::{Id, Query};
use super::{fingerprint, idempotency, prefer};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::message::{Content, Message};
use crate::domain::turn::{IfBusy, OnDisconnect};
use crate::store::admission::Target;
use crate::store::idempotency::Key;
use crate::turn::start::{Ask, Refused};

/// How many messages come without a `limit`, and at most.
const LIMITS: (u32, u32) = (20, 100);

/// The body of `POST /v1/conversations/{id}/messages`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    content: Content,
    metadata: Option<Value>,
    model: Option<String>,
    parent_id: Option<String>,
    on_disconnect: Option<String>,
    if_busy: Option<IfBusy>,
}

/// Starts a turn, and tells it by `Accept`.
pub async fn create(
    State(app): State<App>,
    Caller(owner): Caller,
    Id(id): Id<ConversationId>,
    OriginalUri(uri): OriginalUri,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
    body: Json<New>,
) -> Result<Response, Problem> {
    let chosen = negotiate(&headers, &Encoding::ALL)?;
    let wanted = Wanted::read(&headers, chosen, reading, prefer::respond_async(&headers))?;
    let key = idempotency::of_headers(&headers)?
        .map(|key| Key { key, fingerprint: fingerprint::of_body("POST", uri.path(), &body.parsed) });
    let New { content, metadata, model, parent_id, on_disconnect, if_busy } = body.value;
    if content.is_empty() {
        return Err(Problem::field("content", "must not be empty"));
    }
    let ask = Ask {
        target: Target::Existing(id),
        content,
        metadata: object("metadata", metadata, app.turns.settings.limits.metadata_bytes)?,
        model,
        parent_id: parent_id.map(read_parent_id).transpose()?,
        on_disconnect: on_disconnect.as_deref().map(read_on_disconnect).transpose()?,
        if_busy,
        history: None,
        language: None,
        key,
        attended: wanted.prefer.is_none(),
    };
    let started = app.turns.start(&owner, ask).await.map_err(Problem::from);
    tell_started(&app, &owner, started, wanted).await
}

/// What has a NUL in it is no id, and PostgreSQL's text cannot hold it.
fn read_parent_id(text: String) -> Result<MessageId, Problem> {
    if text.contains('\0') { Err(Refused::NoParent.into()) } else { Ok(text.into()) }
}

fn read_on_disconnect(text: &str) -> Result<OnDisconnect, Problem> {
    OnDisconnect::parse(text)
        .ok_or_else(|| Problem::field("on_disconnect", "must be `continue`, `cancel` or `grace:SECONDS`"))
}

/// The query of `GET /v1/conversations/{id}/messages`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paging {
    limit: Option<u32>,
    before: Option<String>,
}

#[derive(Serialize)]
struct List {
    data: Vec<Message>,
    next_cursor: Option<String>,
    feed_cursor: String,
}

/// The newest messages, oldest first, the running one included.
pub async fn list(
    State(app): State<App>,
    Caller(owner): Caller,
    Id(id): Id<ConversationId>,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let (usual, most) = LIMITS;
    let limit = paging.limit.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(Problem::field("limit", format!("must be 1 to {most}")));
    }
    let before = match paging.before.as_deref() {
        None => None,
        Some(text) => {
            let place = crate::domain::cursor::parse(text);
            Some(place.ok_or_else(|| Problem::field("before", "must be a `next_cursor` of this list"))?)
        }
    };
    let page = app.turns.page(&owner, &id, before, limit).await?.ok_or_else(no_conversation)?;
    let list = List {
        data: page.messages,
        next_cursor: page.next.map(|place| place.to_string()),
        feed_cursor: page.feed.to_string(),
    };
    Ok(json(StatusCode::OK, &list))
}
