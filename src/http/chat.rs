//! `/v1/chat/…`: one call for a widget, `curl` or `new EventSource(url)`, by the client's own session ids.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::accept::{Encoding, negotiate};
use super::answer::{Events, Heartbeat, Reading, Wanted, Word, json, tell_started};
use super::app::{App, Caller, no_assistant, object};
use super::body::Json;
use super::code::Code;
use super::problem::Problem;
use super::query::{Id, Query, pairs};
use super::schema::{self, parameters, refusals, streams};
use super::{fingerprint, idempotency, prefer};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, MessageId, TurnId};
use crate::domain::message::{Content, Message, Role, Source, Step, Visualization};
use crate::domain::owner::Owner;
use crate::domain::repair;
use crate::domain::turn::{Problem as TurnProblem, Status, StoppedBy};
use crate::domain::usage::Usage;
use crate::store::admission::Target;
use crate::store::conversations::NewConversation;
use crate::store::idempotency::Key;
use crate::turn::prompt::Said;
use crate::turn::start::{Ask, Started};

/// The longest session id or language tag, in bytes.
const NAME: usize = 255;
/// The longest history a request may bring, in messages.
const HISTORY: usize = 100;
/// The most messages a session's history shows: the newest.
const SHOWN: u32 = 1000;

/// A message to send, and to what session.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewChat, example = json!({"message": "Show me a chart.", "session_id": "me"}))]
pub struct New {
    /// What is said.
    #[schema(value_type = schema::new_content::NewContent)]
    message: Content,
    /// The client's own name for the session; without one it is a new conversation. Visible ASCII, and not `stream`.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    session_id: Option<String>,
    /// The assistant that answers. There are none yet.
    assistant_id: Option<String>,
    /// The language to answer in (BCP 47), such as `de` or `pt-BR`.
    #[schema(max_length = 255, pattern = "^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$")]
    language: Option<String>,
    /// Stands for what was said before, for this turn; it is not saved.
    #[schema(value_type = Option<Vec<schema::turn::Said>>, max_items = 100)]
    history: Option<Vec<Said>>,
    /// The model to ask; else the gateway's.
    model: Option<String>,
}

/// Chat
///
/// Starts a turn in a session, and tells it as `Accept` asks: streamed, or as JSON at its end. The session is made by its
/// first message.
#[utoipa::path(
    post,
    path = "/v1/chat/stream",
    tag = "Chat",
    operation_id = "chat",
    params(Reading, parameters::IdempotencyKey, parameters::Prefer, parameters::LastEventId),
    request_body = New,
    responses(streams::Told, refusals::OfChat)
)]
pub async fn post(
    State(app): State<App>,
    Caller(owner): Caller,
    OriginalUri(uri): OriginalUri,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
    body: Json<New>,
) -> Result<Response, Problem> {
    let chosen = negotiate(&headers, &Encoding::ALL)?;
    let wanted = Wanted::read(&headers, chosen, reading, prefer::respond_async(&headers))?;
    let key = idempotency::of_headers(&headers)?
        .map(|key| Key { key, fingerprint: fingerprint::of_body("POST", uri.path(), &body.parsed) });
    let started = start(&app, &owner, body.value, key, &wanted).await;
    tell_started(&app, &owner, started, wanted).await
}

/// The query of `GET /v1/chat/stream`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// What is said.
    #[param(value_type = String, required, min_length = 1)]
    message: Option<String>,
    /// The client's own name for the session; without one it is a new conversation. Visible ASCII, and not `stream`.
    #[param(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    session_id: Option<String>,
    /// The idempotency key: an `EventSource` comes back by itself, and must find the same turn.
    #[param(value_type = String, required, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    key: Option<String>,
    /// The assistant that answers. There are none yet.
    assistant_id: Option<String>,
    /// The language to answer in (BCP 47), such as `de` or `pt-BR`.
    #[param(max_length = 255, pattern = "^[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*$")]
    language: Option<String>,
    /// The model to ask; else the gateway's.
    model: Option<String>,
    /// A cursor, where `Last-Event-ID` cannot be sent.
    #[param(pattern = "^([0-9]{1,15}|[0-8][0-9]{15}|900[0-6][0-9]{12})$")]
    after: Option<String>,
    /// `named`: an `event:` line with each event.
    #[param(inline)]
    events: Option<Events>,
    /// `event`: signs of life as events.
    #[param(inline)]
    heartbeat: Option<Heartbeat>,
}

/// Chat by EventSource
///
/// The same for `new EventSource(url)`: server-sent events only, and only under a key.
#[utoipa::path(
    get,
    path = "/v1/chat/stream",
    tag = "Chat",
    operation_id = "chat_by_event_source",
    params(Asked, parameters::LastEventId),
    responses(streams::Source, refusals::OfChatSource)
)]
pub async fn get(
    State(app): State<App>,
    Caller(owner): Caller,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    get_or_refuse(&app, &owner, &uri, asked, &headers).await.unwrap_or_else(Problem::for_event_source)
}

async fn get_or_refuse(
    app: &App,
    owner: &Owner,
    uri: &Uri,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let chosen = negotiate(headers, &[Encoding::Sse])?;
    let Asked { message, session_id, key, assistant_id, language, model, after, events, heartbeat } = asked;
    let message = message.ok_or_else(|| Problem::field("message", "is missing"))?;
    let key = key.ok_or_else(|| Problem::field("key", "is missing: an EventSource comes back by itself"))?;
    let key = idempotency::of_query(&key)?;
    let wanted = Wanted::read(headers, chosen, Reading { after, events, heartbeat, follow: None }, None)?;
    let query = pairs(uri.query().unwrap_or_default())?;
    let key = Key { key, fingerprint: fingerprint::of_query("GET", uri.path(), &query) };
    let new = New { message: Content::Text(message), session_id, assistant_id, language, history: None, model };
    let started = start(app, owner, new, Some(key), &wanted).await;
    tell_started(app, owner, started, wanted).await
}

async fn start(app: &App, owner: &Owner, new: New, key: Option<Key>, wanted: &Wanted) -> Result<Started, Problem> {
    let New { message, session_id, assistant_id, language, history, model } = new;
    no_assistant(assistant_id.as_ref())?;
    if message.is_empty() {
        return Err(Problem::field("message", "must not be empty"));
    }
    if let Some(session_id) = &session_id {
        check_session(session_id)?;
    }
    if language.as_ref().is_some_and(|tag| !is_language(tag)) {
        return Err(Problem::field("language", "must be a language tag (BCP 47) such as `de` or `pt-BR`"));
    }
    if history.as_ref().is_some_and(|history| history.len() > HISTORY) {
        return Err(Problem::field("history", format!("may have {HISTORY} messages")));
    }
    if let Some(at) = history.iter().flatten().position(|said| said.content.is_empty()) {
        return Err(Problem::field(format!("history[{at}].content"), "must not be empty"));
    }
    let now = app.turns.now();
    let id = ConversationId::new(now);
    let conversation = NewConversation {
        // Without a name of the client's own, the conversation's id will do: so it can be asked for later.
        session_id: Some(session_id.unwrap_or_else(|| id.as_str().to_owned())),
        id,
        title: None,
        config: crate::domain::conversation::Config::default(),
        context: object("context", None, 2)?,
        metadata: object("metadata", None, 2)?,
        now,
    };
    let ask = Ask {
        target: Target::New(Box::new(conversation)),
        content: message,
        metadata: object("metadata", None, 2)?,
        model,
        parent_id: None,
        on_disconnect: None,
        if_busy: None,
        history,
        language,
        key,
        attended: wanted.prefer.is_none(),
    };
    Ok(app.turns.start(owner, ask).await?)
}

fn check_session(session_id: &str) -> Result<(), Problem> {
    let visible = session_id.bytes().all(|byte| byte.is_ascii_graphic());
    if session_id.is_empty() || session_id.len() > NAME || !visible || session_id == "stream" {
        return Err(Problem::field("session_id", "must be 1 to 255 visible ASCII characters, and not `stream`"));
    }
    Ok(())
}

/// Whether it has the shape of a language tag (RFC 5646, section 2.1): subtags of 1 to 8 letters or digits.
fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let first = subtags
        .next()
        .is_some_and(|first| (1..=8).contains(&first.len()) && first.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let rest =
        |subtag: &str| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    first && tag.len() <= NAME && subtags.all(rest)
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
/// What was said in it; nothing in one that nobody knows.
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
    Caller(owner): Caller,
    Id(session_id): Id<String>,
) -> Result<Response, Problem> {
    check_session(&session_id)?;
    let mut messages = Vec::new();
    if let Some(conversation) = app.turns.store.session(&owner, &session_id).await?
        && let Some(page) = app.turns.page(&owner, &conversation, None, SHOWN).await?
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
    Caller(owner): Caller,
    Id(session_id): Id<String>,
) -> Result<Response, Problem> {
    check_session(&session_id)?;
    if let Some(conversation) = app.turns.store.session(&owner, &session_id).await?
        && !app.turns.erase(&owner, &conversation).await?
    {
        return Err(Problem::new(Code::StoreUnavailable, "A turn of the session could not be ended in time."));
    }
    Ok(json(StatusCode::OK, &Word { message: "The session is reset." }))
}
