//! `/v1/chat/stream`: one call for a widget, `curl` or `new EventSource(url)`, by the client's own session ids.

use axum::extract::{OriginalUri, State};
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use utoipa::ToSchema;

use super::accept::{Encoding, negotiate};
use super::answer::{Events, Heartbeat, Reading, Wanted, tell_started};
use super::app::{App, no_assistant, object};
use super::asker::{Asker, Who};
use super::body::Json;
use super::problem::Problem;
use super::query::{Query, pairs};
use super::schema::{self, parameters, refusals, streams};
use super::traced::traceparent;
use super::{fingerprint, idempotency, prefer, sessions};
use crate::domain::ids::ConversationId;
use crate::domain::message::Content;
use crate::store::admission::{Question, Target};
use crate::store::conversations::NewConversation;
use crate::store::idempotency::Key;
use crate::turn::prompt::Said;
use crate::turn::start::{Ask, Started};

/// The longest language tag, in bytes.
const LANGUAGE: usize = 255;
/// The longest history a request may bring, in messages.
const HISTORY: usize = 100;

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
    Asker(caller): Asker,
    OriginalUri(uri): OriginalUri,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
    body: Json<New>,
) -> Result<Response, Problem> {
    let chosen = negotiate(&headers, &Encoding::ALL)?;
    let who = Who::own(&app, caller);
    let wanted = Wanted::read(&app, &who, &headers, chosen, reading, prefer::respond_async(&headers)).await?;
    let key = idempotency::of_headers(&headers)?
        .map(|key| Key { key, fingerprint: fingerprint::of_body("POST", uri.path(), &body.parsed) });
    let started = start(&app, &who, &headers, body.value, key, &wanted).await;
    tell_started(&app, &who, started, wanted).await
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
    asker: Result<Asker, Problem>,
    OriginalUri(uri): OriginalUri,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    get_or_refuse(&app, asker, &uri, asked, &headers).await.unwrap_or_else(Problem::for_event_source)
}

async fn get_or_refuse(
    app: &App,
    asker: Result<Asker, Problem>,
    uri: &Uri,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let chosen = negotiate(headers, &[Encoding::Sse])?;
    let who = Who::own(app, asker?.0);
    let Asked { message, session_id, key, assistant_id, language, model, after, events, heartbeat } = asked;
    let message = message.ok_or_else(|| Problem::field("message", "is missing"))?;
    let key = key.ok_or_else(|| Problem::field("key", "is missing: an EventSource comes back by itself"))?;
    let key = idempotency::of_query(&key)?;
    let reading = Reading { after, events, heartbeat, follow: None };
    let wanted = Wanted::read(app, &who, headers, chosen, reading, None).await?;
    let query = pairs(uri.query().unwrap_or_default())?;
    let key = Key { key, fingerprint: fingerprint::of_query("GET", uri.path(), &query) };
    let new = New { message: Content::Text(message), session_id, assistant_id, language, history: None, model };
    let started = start(app, &who, headers, new, Some(key), &wanted).await;
    tell_started(app, &who, started, wanted).await
}

async fn start(
    app: &App,
    who: &Who,
    headers: &HeaderMap,
    new: New,
    key: Option<Key>,
    wanted: &Wanted,
) -> Result<Started, Problem> {
    let New { message, session_id, assistant_id, language, history, model } = new;
    no_assistant(assistant_id.as_ref())?;
    if message.is_empty() {
        return Err(Problem::field("message", "must not be empty"));
    }
    if let Some(session_id) = &session_id {
        sessions::check(session_id)?;
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
        question: Question::New { content: message, metadata: object("metadata", None, 2)?, parent_id: None },
        model,
        on_disconnect: None,
        if_busy: None,
        history,
        language,
        traceparent: traceparent(app, headers),
        key,
        attended: wanted.prefer.is_none(),
        on_behalf: (&who.caller).into(),
        deed: None,
    };
    Ok(app.turns.start(&who.owner, ask).await?)
}

/// Whether it has the shape of a language tag (RFC 5646, section 2.1): subtags of 1 to 8 letters or digits.
fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let first = subtags
        .next()
        .is_some_and(|first| (1..=8).contains(&first.len()) && first.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let rest =
        |subtag: &str| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    first && tag.len() <= LANGUAGE && subtags.all(rest)
}
