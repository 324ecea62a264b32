//! `/v1/chat/…`: one call for a widget, `curl` or `new EventSource(url)`, by the client's own session ids.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::accept::{Encoding, negotiate};
use super::answer::{Events, Heartbeat, Reading, Wanted, json, said, tell_started};
use super::app::{App, Caller, no_assistant, object};
use super::body::Json;
use super::code::Code;
use super::problem::Problem;
use super::query::{Id, Query, pairs};
use super::{fingerprint, idempotency, prefer};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, MessageId, TurnId};
use crate::domain::message::{Content, Message, Role, Source, Step, Visualization};
use crate::domain::owner::Owner;
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

/// The body of `POST /v1/chat/stream`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct New {
    message: Content,
    session_id: Option<String>,
    assistant_id: Option<String>,
    language: Option<String>,
    history: Option<Vec<Said>>,
    model: Option<String>,
}

/// Starts a turn, and tells it by `Accept`.
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
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    message: Option<String>,
    session_id: Option<String>,
    key: Option<String>,
    assistant_id: Option<String>,
    language: Option<String>,
    model: Option<String>,
    after: Option<String>,
    events: Option<Events>,
    heartbeat: Option<Heartbeat>,
}

/// The same for `new EventSource(url)`: server-sent events only, and only under a key.
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

#[derive(Serialize)]
struct History {
    messages: Vec<Spoken>,
}

/// A message as a widget shows it.
#[derive(Serialize)]
struct Spoken {
    id: MessageId,
    turn_id: TurnId,
    text: String,
    sender: &'static str,
    status: Status,
    seq: u64,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    sources: Vec<Source>,
    steps: Vec<Branch>,
    visualization: Option<Visualization>,
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<TurnProblem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<StoppedBy>,
    metadata: Value,
}

/// A step with those that are part of it.
#[derive(Serialize)]
struct Branch {
    #[serde(flatten)]
    step: Step,
    children: Vec<Self>,
}

/// What was said in a session; nothing in one that nobody knows.
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

fn spoken(message: Message) -> Spoken {
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

/// Resets a session: a live turn is stopped, and all of it erased. 200 also where there is none.
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
    Ok(said("The session is reset."))
}
