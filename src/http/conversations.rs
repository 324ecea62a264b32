//! `/v1/conversations`: making one, reading, changing and erasing one, and its feed.

use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, crowded, json};
use super::app::{App, no_assistant, no_conversation, object};
use super::asker::{Asker, Mine, forbidden};
use super::body::Json;
use super::code::Code;
use super::json::typed;
use super::limits::{Quota, left};
use super::problem::Problem;
use super::query::Query;
use super::schema::{self, parameters, refusals, streams};
use super::stream::{Source, respond};
use super::traced::traceparent;
use super::{context, cursor, fingerprint, idempotency};
use crate::domain::audit::{Action, Deed};
use crate::domain::caller::Caller;
use crate::domain::conversation::{Config, Conversation};
use crate::domain::ids::ConversationId;
use crate::domain::merge::merge;
use crate::domain::message::Content;
use crate::store::Error;
use crate::store::admission::{Question, Target};
use crate::store::conversations::NewConversation;
use crate::store::idempotency::{Claimed, Key};
use crate::store::indexing::Item;
use crate::turn::feed::Followed;
use crate::turn::reader::Manner;
use crate::turn::start::{Ask, Refused};

/// What is said to whoever may not say what models are told beforehand, nor take it away.
const INSTRUCTIONS: &str = "Instructions are for service and admin keys.";
/// The longest title, in characters.
const TITLE: usize = 500;

/// A conversation to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewConversation, example = json!({"first_message": "Hello!"}))]
pub struct New {
    /// Its title; else the first message's first 60 characters.
    #[schema(min_length = 1, max_length = 500)]
    title: Option<String>,
    /// The assistant that answers in it. There are none yet.
    assistant_id: Option<String>,
    /// Starts a turn in the background.
    #[schema(value_type = Option<schema::new_content::NewContent>)]
    first_message: Option<Content>,
    /// What it asks of its models.
    #[serde(default)]
    #[schema(value_type = Option<schema::conversation::Config>)]
    config: Option<Config>,
    /// What is known beforehand; at most `context_bytes` as JSON.
    #[schema(value_type = Option<Object>)]
    context: Option<Value>,
    /// What the client keeps with it; at most `metadata_bytes` as JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// Make a conversation
///
/// A `first_message` starts its turn in the background. With an `Idempotency-Key` asking again gives the same one.
#[utoipa::path(
    post,
    path = "/v1/conversations",
    tag = "Conversations",
    operation_id = "create_conversation",
    params(parameters::IdempotencyKey),
    request_body = New,
    responses(
        (
            status = 201, description = "The conversation.", body = schema::conversation::Conversation,
            headers(("Location" = String, description = "Where it is found, as a path.")),
            links(
                ("get" = (operation_id = "get_conversation", parameters(("id" = "$response.body#/id")))),
                ("list_messages" = (operation_id = "list_messages", parameters(("id" = "$response.body#/id")))),
                ("create_message" = (operation_id = "create_message", parameters(("id" = "$response.body#/id")))),
            ),
        ),
        refusals::OfCreateConversation
    )
)]
pub async fn create(
    State(app): State<App>,
    Asker(caller): Asker,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Json<New>,
) -> Result<Response, Problem> {
    let key = idempotency::of_headers(&headers)?
        .map(|key| Key { key, fingerprint: fingerprint::of_body("POST", uri.path(), &body.parsed) });
    let New { title, assistant_id, first_message, config, context, metadata } = body.value;
    no_assistant(assistant_id.as_ref())?;
    check_title(title.as_deref())?;
    if first_message.as_ref().is_some_and(Content::is_empty) {
        return Err(Problem::field("first_message", "must not be empty"));
    }
    let config = config.unwrap_or_default();
    check(&app, &caller, &config)?;
    check_room(&app, &config)?;
    let limits = &app.turns.settings.limits;
    let now = app.turns.now();
    let new = NewConversation {
        id: ConversationId::new(now),
        session_id: None,
        title,
        config,
        context: context::check("context", object("context", context, limits.context_bytes)?)?,
        metadata: object("metadata", metadata, limits.metadata_bytes)?,
        now,
    };
    let deed = app.deed(&caller, Action::ConversationCreate, Some((&new.id).into()));
    let (id, turn, taken) = match first_message {
        Some(content) => {
            let ask = Ask {
                target: Target::New(Box::new(new)),
                question: Question::New {
                    content,
                    metadata: object("metadata", None, limits.metadata_bytes)?,
                    parent_id: None,
                },
                model: None,
                on_disconnect: None,
                if_busy: None,
                history: None,
                language: None,
                traceparent: traceparent(&app, &headers),
                key,
                attended: false,
                on_behalf: (&caller).into(),
                deed: Some(deed),
            };
            let started = app.turns.start(&caller.owner, ask).await?;
            (started.conversation_id, Some(started.turn_id), started.taken)
        }
        None => (make(&app, &caller, &new, key.as_ref(), &deed).await?, None, Vec::new()),
    };
    let conversation = match app.turns.conversation(&caller.owner, &id).await {
        Ok(conversation) => conversation.ok_or_else(no_conversation)?,
        // It is made: whoever reads of it does not ask for another.
        Err(error) => {
            let problem = Problem::from(error).conversation(&id);
            return Err(match &turn {
                Some(turn) => problem.turn(turn),
                None => problem,
            });
        }
    };
    let mut response = json(StatusCode::CREATED, &shown(&caller, conversation));
    Quota::tell(&left(&taken), response.headers_mut());
    if let Ok(location) = HeaderValue::try_from(format!("/v1/conversations/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

async fn make(
    app: &App,
    caller: &Caller,
    new: &NewConversation,
    key: Option<&Key>,
    deed: &Deed,
) -> Result<ConversationId, Problem> {
    let (store, owner) = (&app.turns.store, &caller.owner);
    let claimed = if !app.turns.lifecycle.soft().is_cancelled() {
        match store.create_conversation(owner, new, key, app.turns.kept_until(), Some(deed)).await {
            Err(Error::Unchanged) => return Err(Refused::Outlived.into()),
            made => made?,
        }
    } else if let Some(key) = key
        && let Some(claimed) = store.claimed(owner, key, app.turns.now()).await?
    {
        // Whoever comes back for a conversation that is there finds it all the same.
        Some(claimed)
    } else {
        return Err(Refused::Draining.into());
    };
    match claimed {
        None => {
            app.turns.registry.note(Item::Title(new.id.clone()));
            Ok(new.id.clone())
        }
        Some(Claimed::Same(id, _)) => Ok(id),
        Some(Claimed::Other) => Err(Refused::KeyReused.into()),
        Some(Claimed::Deleted) => Err(Refused::Deleted.into()),
    }
}

fn check_title(title: Option<&str>) -> Result<(), Problem> {
    match title {
        Some(title) if title.is_empty() || title.chars().count() > TITLE => {
            Err(Problem::field("title", format!("must have 1 to {TITLE} characters")))
        }
        Some(_) | None => Ok(()),
    }
}

/// What a configuration may say.
fn check(app: &App, caller: &Caller, config: &Config) -> Result<(), Problem> {
    if config.instructions.is_some() && !caller.instructs() {
        return Err(forbidden(INSTRUCTIONS).at("config.instructions"));
    }
    let longest = app.turns.settings.limits.instructions_bytes;
    if config.instructions.as_ref().is_some_and(|text| text.len() > longest) {
        return Err(Problem::field("config.instructions", format!("may have {longest} bytes")));
    }
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
        Some(model) if !caller.models.has(model) || !app.turns.upstreams.get().serves(model) => {
            Err(Problem::new(Code::ModelNotFound, "No upstream serves this model.").at("config.model"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses an answer so long that its model could be asked nothing: each question would end as `context_exceeded`.
fn check_room(app: &App, config: &Config) -> Result<(), Problem> {
    let Some(max_tokens) = config.max_tokens else { return Ok(()) };
    let window = app.turns.window(config.model.as_ref().unwrap_or(&app.turns.settings.default_model));
    match u64::from(max_tokens) < window {
        true => Ok(()),
        false => Err(Problem::field(
            "config.max_tokens",
            format!("must be less than the {window} tokens that the model reads, question and answer together"),
        )),
    }
}

/// A conversation as this caller may see it.
pub fn shown(caller: &Caller, conversation: Conversation) -> Conversation {
    conversation.seen(caller.instructs())
}

/// What is to change of a conversation. What is absent, or null, stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConversationChange, example = json!({"title": "Tides", "metadata": {"seen": true, "draft": null}}))]
pub struct Change {
    /// Its title.
    #[schema(min_length = 1, max_length = 500)]
    title: Option<String>,
    /// What it asks of its models, as a merge patch (RFC 7396): a field that is null in it is no longer set, one that is absent
    /// stays.
    #[schema(value_type = Option<schema::conversation::Config>)]
    config: Option<Value>,
    /// What the client keeps with it, as a merge patch (RFC 7396); at most `metadata_bytes` as JSON, once it is merged.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// Change a conversation
///
/// Its title, what it asks of its models from the next turn on, and what the client keeps with it. Those who follow it are
/// told by `conversation.updated`.
#[utoipa::path(
    patch,
    path = "/v1/conversations/{id}",
    tag = "Conversations",
    operation_id = "update_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = Change,
    responses(
        (status = 200, description = "The conversation.", body = schema::conversation::Conversation),
        refusals::OfUpdateConversation
    )
)]
pub async fn update(
    State(app): State<App>,
    Mine { who, id }: Mine<ConversationId>,
    body: Json<Change>,
) -> Result<Response, Problem> {
    let Change { title, config, metadata } = body.value;
    check_title(title.as_deref())?;
    if let Some(patch) = &config {
        if patch.get("instructions").is_some() && !who.caller.instructs() {
            return Err(forbidden(INSTRUCTIONS).at("config.instructions"));
        }
        // A field that goes is as good as one that is absent.
        let named = typed::<Config>(patch.clone()).map_err(|(field, detail)| match &*field {
            "" => Problem::field("config", detail),
            field => Problem::field(format!("config.{field}"), detail),
        })?;
        check(&app, &who.caller, &named)?;
    }
    if metadata.as_ref().is_some_and(|metadata| !metadata.is_object()) {
        return Err(Problem::field("metadata", "must be an object"));
    }
    if title.is_some() || config.is_some() || metadata.is_some() {
        let most = app.turns.settings.limits.metadata_bytes;
        let app_then = app.clone();
        let change = move |to_config: &mut Value, to_metadata: &mut Value| {
            if let Some(patch) = &config {
                merge(to_config, patch);
                // Against what it has then: each may be as it was before.
                if patch.get("max_tokens").or_else(|| patch.get("model")).is_some() {
                    check_room(&app_then, &typed::<Config>(to_config.clone()).unwrap_or_default())?;
                }
            }
            if let Some(patch) = &metadata {
                merge(to_metadata, patch);
                object("metadata", Some(to_metadata.clone()), most)?;
            }
            Ok::<(), Problem>(())
        };
        let deed = app.deed(&who.caller, Action::ConversationUpdate, Some((&id).into()));
        app.turns.patch(&who.owner, &id, title, deed, change).await?.ok_or_else(no_conversation)??;
    }
    let conversation = app.turns.conversation(&who.owner, &id).await?.ok_or_else(no_conversation)?;
    Ok(json(StatusCode::OK, &shown(&who.caller, conversation)))
}

/// Delete a conversation
///
/// A live turn is stopped, and all of it is erased.
#[utoipa::path(
    delete,
    path = "/v1/conversations/{id}",
    tag = "Conversations",
    operation_id = "delete_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    responses((status = 204, description = "It is gone."), refusals::OfDeleteConversation)
)]
pub async fn delete(State(app): State<App>, Mine { who, id }: Mine<ConversationId>) -> Result<Response, Problem> {
    app.turns.conversation(&who.owner, &id).await?.ok_or_else(no_conversation)?;
    let deed = app.deed(&who.caller, Action::ConversationDelete, Some((&id).into()));
    if app.turns.erase(&who.owner, &id, deed.into()).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::new(Code::StoreUnavailable, "A turn of the conversation could not be ended in time."))
    }
}

/// Get a conversation
///
/// The conversation now, without its messages.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}",
    tag = "Conversations",
    operation_id = "get_conversation",
    params(("id" = String, Path, description = "The conversation.")),
    responses(
        (status = 200, description = "The conversation.", body = schema::conversation::Conversation),
        refusals::OfConversation
    )
)]
pub async fn get(State(app): State<App>, Mine { who, id }: Mine<ConversationId>) -> Result<Response, Problem> {
    let conversation = app.turns.conversation(&who.owner, &id).await?.ok_or_else(no_conversation)?;
    Ok(json(StatusCode::OK, &shown(&who.caller, conversation)))
}

/// Follow a conversation
///
/// One feed for all that happens in it: every turn, whoever started it, from a cursor on. Without a cursor it begins with
/// the live turn, else with what comes next; `after=0` gives all that is kept.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/events",
    tag = "Conversations",
    operation_id = "follow_conversation",
    params(("id" = String, Path, description = "The conversation."), parameters::FeedReading, parameters::LastFeedId),
    responses(streams::Feed, refusals::OfFeed)
)]
pub async fn events(
    State(app): State<App>,
    mine: Result<Mine<ConversationId>, Problem>,
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
        let Mine { who, id } = mine?;
        let manner = Manner { wire, follow: true, holds: who.caller.may_change() };
        // Whoever is refused has read nothing.
        let place = who.open_stream(&app).await?;
        let followed = app.turns.feed(&who.owner, &id, cursor, manner, who.caller.instructs()).await?;
        let source = match followed.ok_or_else(no_conversation)? {
            Followed::Feed(feed) => Source::Feed(feed),
            Followed::Crowded => {
                return Err(crowded("The conversation is followed by as many as may.").conversation(&id));
            }
        };
        Ok(respond(&app, &who, source, wire, chosen.content_type, (None, &id), place))
    };
    match told.await {
        Ok(response) => response,
        Err(problem) if encoding == Encoding::Sse => Problem::for_event_source(problem),
        Err(problem) => problem.into_response(),
    }
}
