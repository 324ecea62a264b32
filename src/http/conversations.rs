//! `/v1/conversations`: making one, reading one, and its feed.

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, json};
use super::app::{App, Caller, no_assistant, no_conversation, object};
use super::body::Json;
use super::code::Code;
use super::problem::Problem;
use super::query::{Id, Query};
use super::stream::{Source, respond};
use super::{cursor, fingerprint, idempotency};
use crate::domain::conversation::Config;
use crate::domain::ids::ConversationId;
use crate::domain::message::Content;
use crate::domain::owner::Owner;
use crate::store::admission::Target;
use crate::store::conversations::NewConversation;
use crate::store::idempotency::{Claimed, Key};
use crate::turn::start::{Ask, Refused};

/// The longest title, in characters.
const TITLE: usize = 500;

/// The body of `POST /v1/conversations`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    title: Option<String>,
    assistant_id: Option<String>,
    first_message: Option<Content>,
    #[serde(default)]
    config: Option<Config>,
    context: Option<Value>,
    metadata: Option<Value>,
}

/// Makes a conversation; a `first_message` starts its turn in the background. 201.
pub async fn create(
    State(app): State<App>,
    Caller(owner): Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Json<New>,
) -> Result<Response, Problem> {
    let key = idempotency::of_headers(&headers)?
        .map(|key| Key { key, fingerprint: fingerprint::of_body("POST", uri.path(), &body.parsed) });
    let New { title, assistant_id, first_message, config, context, metadata } = body.value;
    no_assistant(assistant_id.as_ref())?;
    if title.as_ref().is_some_and(|title| title.is_empty() || title.chars().count() > TITLE) {
        return Err(Problem::field("title", format!("must have 1 to {TITLE} characters")));
    }
    if first_message.as_ref().is_some_and(Content::is_empty) {
        return Err(Problem::field("first_message", "must not be empty"));
    }
    let config = config.unwrap_or_default();
    check(&app, &config)?;
    let limits = &app.turns.settings.limits;
    let now = app.turns.now();
    let new = NewConversation {
        id: ConversationId::new(now),
        session_id: None,
        title,
        config,
        context: object("context", context, limits.max_body_bytes)?,
        metadata: object("metadata", metadata, limits.metadata_bytes)?,
        now,
    };
    let id = match first_message {
        Some(content) => {
            let ask = Ask {
                target: Target::New(Box::new(new)),
                content,
                metadata: object("metadata", None, limits.metadata_bytes)?,
                model: None,
                parent_id: None,
                on_disconnect: None,
                if_busy: None,
                history: None,
                language: None,
                key,
                attended: false,
            };
            app.turns.start(&owner, ask).await?.conversation_id
        }
        None => make(&app, &owner, &new, key.as_ref()).await?,
    };
    let conversation = app.turns.store.conversation(&owner, &id).await?.ok_or_else(no_conversation)?;
    let mut response = json(StatusCode::CREATED, &conversation);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/conversations/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

async fn make(app: &App, owner: &Owner, new: &NewConversation, key: Option<&Key>) -> Result<ConversationId, Problem> {
    if app.turns.lifecycle.soft().is_cancelled() {
        return Err(Refused::Draining.into());
    }
    match app.turns.store.create_conversation(owner, new, key, app.turns.kept_until()).await? {
        None => Ok(new.id.clone()),
        Some(Claimed::Same(id, _)) => Ok(id),
        Some(Claimed::Other) => Err(Refused::KeyReused.into()),
        Some(Claimed::Deleted) => Err(Refused::Deleted.into()),
    }
}

/// What a configuration may say.
fn check(app: &App, config: &Config) -> Result<(), Problem> {
    if config.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return Err(Problem::field("config.temperature", "must be 0 to 2"));
    }
    if config.max_tokens == Some(0) {
        return Err(Problem::field("config.max_tokens", "must be at least 1"));
    }
    if config.enable_rag == Some(true) {
        return Err(Problem::field("config.enable_rag", "there are no documents to draw on yet"));
    }
    let most = app.turns.settings.limits.max_turn_s;
    if config.timeout_seconds.is_some_and(|seconds| seconds == 0 || seconds > most) {
        return Err(Problem::field("config.timeout_seconds", format!("must be 1 to {most}")));
    }
    match &config.model {
        Some(model) if !app.turns.upstreams.serves(model) => {
            Err(Problem::new(Code::ModelNotFound, "No upstream serves this model.").at("config.model"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The conversation now.
pub async fn get(
    State(app): State<App>,
    Caller(owner): Caller,
    Id(id): Id<ConversationId>,
) -> Result<Response, Problem> {
    let conversation = app.turns.store.conversation(&owner, &id).await?.ok_or_else(no_conversation)?;
    Ok(json(StatusCode::OK, &conversation))
}

/// The feed: every turn of the conversation, whoever started it.
pub async fn events(
    State(app): State<App>,
    Caller(owner): Caller,
    Id(id): Id<ConversationId>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    let mut encoding = Encoding::Ndjson;
    let told = async {
        let chosen = negotiate(&headers, &[Encoding::Ndjson, Encoding::Sse])?;
        encoding = chosen.encoding;
        if reading.follow == Some(false) {
            return Err(Problem::field("follow", "a feed is always followed"));
        }
        let cursor = cursor::of_feed(&headers, reading.after.as_deref())?;
        let wire = reading.wire(encoding).ok_or_else(Problem::internal)?;
        if app.turns.lifecycle.soft().is_cancelled() {
            return Err(Refused::Draining.into());
        }
        let feed = app.turns.feed(&owner, &id, cursor, wire).await?.ok_or_else(no_conversation)?;
        Ok(respond(&app, Source::Feed(Box::new(feed)), wire, chosen.content_type, None, &id))
    };
    match told.await {
        Ok(response) => response,
        Err(problem) if encoding == Encoding::Sse => Problem::for_event_source(problem),
        Err(problem) => problem.into_response(),
    }
}
