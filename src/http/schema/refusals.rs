//! What each operation can refuse with: per status the codes, made from [`Code`].
//!
//! To add one: its code in the list of its operation.

use std::collections::BTreeMap;

use http::StatusCode;
use utoipa::IntoResponses;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Type};

use super::super::code::Code::{self, *};
use super::super::health::Readiness;
use super::super::problem::MEDIA_TYPE;
use super::headers::header;
use super::reference;

/// What any request can meet before its handler.
const ANY: &[Code] = &[BadRequest, UriTooLong, WrongHost, Internal, TooManyConnections];
/// What starts or changes something, when a stranger's page asks for it.
const CHANGE: &[Code] = &[CrossSiteRequest];
/// A query.
const QUERY: &[Code] = &[InvalidRequest];
/// A body.
const BODY: &[Code] = &[InvalidJson, RequestTimeout, BodyTooLarge, UnsupportedMediaType, InvalidRequest];
/// What stands in the path, where it cannot be a name at all: not UTF-8, or a NUL in it.
const PATH: &[Code] = &[RouteNotFound];
/// Whatever asks who asks.
const WHO: &[Code] = &[AuthenticationRequired, Forbidden, OriginNotAllowed, RateLimited, StoreUnavailable];
/// Whatever asks the database.
const STORE: &[Code] = &[StoreUnavailable];
/// A stream from a cursor.
const STREAM: &[Code] = &[NotAcceptable, InvalidCursor, InvalidRequest, TooManyReaders, Draining];
/// The start of a turn.
const START: &[Code] =
    &[BudgetExhausted, ModelNotFound, AssistantNotFound, TurnDeleted, IdempotencyKeyReused, TooManyTurns, Draining];
/// A turn that is awaited as JSON, by what its end is to whoever waited.
const AWAIT: &[(StatusCode, Code)] = &[
    (StatusCode::TOO_MANY_REQUESTS, UpstreamRateLimited),
    (StatusCode::BAD_GATEWAY, UpstreamError),
    (StatusCode::BAD_GATEWAY, UpstreamProtocol),
    (StatusCode::BAD_GATEWAY, ContextExceeded),
    (StatusCode::BAD_GATEWAY, StoreUnavailable),
    (StatusCode::BAD_GATEWAY, Internal),
    (StatusCode::SERVICE_UNAVAILABLE, UpstreamUnavailable),
    (StatusCode::GATEWAY_TIMEOUT, Timeout),
];

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = [$($codes:expr),* $(,)?] $(and $awaits:expr)?;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                let lists: &[&[Code]] = &[ANY, $($codes),*];
                let own = lists.iter().copied().flatten().map(|code| (code.status(), *code));
                let awaited: &[&[(StatusCode, Code)]] = &[$($awaits)?];
                responses(own.chain(awaited.iter().copied().flatten().copied()))
            }
        }
    )*};
}

refusals! {
    /// Where nothing can go wrong but what any request can meet.
    OfAny = [];
    /// Where only who asks can be wrong.
    OfModels = [WHO];
    /// `POST /v1/visitors`.
    OfVisitors = [WHO, CHANGE, BODY];
    /// `POST /v1/session`.
    OfSession = [WHO, CHANGE];
    /// `DELETE /v1/session`.
    OfEndSession = [CHANGE];
    /// `POST /v1/tickets`.
    OfTickets = [WHO, CHANGE, BODY, STORE, &[TurnNotFound, ConversationNotFound]];
    /// A list for admins.
    OfListing = [WHO, QUERY, STORE];
    /// `POST /v1/keys`.
    OfCreateKey = [WHO, CHANGE, BODY, STORE];
    /// `DELETE /v1/keys/{id}`.
    OfKey = [WHO, PATH, CHANGE, STORE, &[KeyNotFound]];
    /// `POST /v1/keys/{id}/rotate`.
    OfRotateKey = [WHO, PATH, CHANGE, BODY, STORE, &[KeyNotFound]];
    /// `PATCH /v1/users/{id}`.
    OfUpdateUser = [WHO, PATH, CHANGE, BODY, STORE];
    /// `DELETE /v1/users/{id}`.
    OfForgetUser = [WHO, PATH, CHANGE, STORE, QUERY];
    /// `GET /metrics` on a listener of its own.
    OfOwnMetrics = [&[TooManyReaders]];
    /// `GET /metrics`.
    OfMetrics = [WHO, &[TooManyReaders]];
    /// `POST /v1/conversations`.
    OfCreateConversation = [WHO, CHANGE, BODY, STORE, START, &[ConversationNotFound]];
    /// `GET /v1/conversations`.
    OfConversations = [WHO, QUERY, STORE];
    /// `PATCH /v1/conversations/{id}`.
    OfUpdateConversation = [WHO, PATH, CHANGE, BODY, STORE, &[ConversationNotFound, ModelNotFound]];
    /// `DELETE /v1/conversations/{id}`.
    OfDeleteConversation = [WHO, PATH, CHANGE, STORE, &[ConversationNotFound]];
    /// `GET /v1/conversations/{id}`.
    OfConversation = [WHO, PATH, STORE, &[ConversationNotFound]];
    /// `PATCH /v1/conversations/{id}/context`.
    OfUpdateContext = [WHO, PATH, CHANGE, BODY, STORE, &[ConversationNotFound, ConversationEnded]];
    /// `POST /v1/conversations/{id}/archive`, and most else that is done with a whole one.
    OfLife = [WHO, PATH, CHANGE, BODY, STORE, &[ConversationNotFound]];
    /// `POST /v1/conversations/{id}/pause`.
    OfPause = [WHO, PATH, CHANGE, BODY, STORE, &[ConversationNotFound, ConversationEnded]];
    /// `GET /v1/conversations/{id}/export`.
    OfExport = [WHO, PATH, QUERY, STORE, &[ConversationNotFound]];
    /// `GET /v1/conversations/{id}/messages`.
    OfMessages = [WHO, PATH, QUERY, STORE, &[ConversationNotFound]];
    /// `GET /v1/conversations/{id}/events`. A turn in it that has too many readers is a `closed` frame there.
    OfFeed = [WHO, PATH, STREAM, STORE, &[ConversationNotFound]];
    /// `POST /v1/conversations/{id}/messages`.
    OfCreateMessage = [WHO, PATH, CHANGE, BODY, STREAM, STORE, START,
        &[ConversationNotFound, TurnNotFound, TurnInProgress, QueueFull, ConversationPaused, ConversationEnded]] and AWAIT;
    /// `POST /v1/messages/{id}/regenerate`.
    OfRegenerate = [WHO, PATH, CHANGE, BODY, STREAM, STORE, START, &[MessageNotFound, ConversationNotFound, TurnNotFound,
        TurnInProgress, QueueFull, ConversationPaused, ConversationEnded]] and AWAIT;
    /// `POST /v1/messages/{id}/feedback`.
    OfFeedback = [WHO, PATH, CHANGE, BODY, STORE, &[MessageNotFound]];
    /// `GET /v1/turns/{id}`.
    OfTurn = [WHO, PATH, STORE, &[TurnNotFound]];
    /// `GET /v1/turns/{id}/events`.
    OfEvents = [WHO, PATH, STREAM, STORE, &[TurnNotFound]] and AWAIT;
    /// `POST /v1/turns/{id}/stop`.
    OfStop = [WHO, PATH, CHANGE, BODY, STORE, &[TurnNotFound]];
    /// `GET /v1/usage`.
    OfUsage = [WHO, QUERY, STORE];
    /// `POST /v1/chat/stream`.
    OfChat = [WHO, CHANGE, BODY, STREAM, STORE, START,
        &[TurnNotFound, TurnInProgress, QueueFull, ConversationPaused, ConversationEnded]] and AWAIT;
    /// `GET /v1/chat/stream`: what may pass is not a status there, and what is deleted is 204.
    OfChatSource = [WHO, CHANGE, &[
        BudgetExhausted, NotAcceptable, InvalidCursor, InvalidRequest, IdempotencyKeyReused, ModelNotFound, AssistantNotFound,
        TurnNotFound, TurnInProgress, ConversationPaused, ConversationEnded,
    ]];
    /// `GET /v1/chat/{session_id}/history`.
    OfHistory = [WHO, PATH, STORE, QUERY];
    /// `DELETE /v1/chat/{session_id}`.
    OfReset = [WHO, PATH, CHANGE, STORE, QUERY];
}

/// Refusals of `/readyz`, whose own 503 is no refusal but says what is not ready.
pub struct OfReadiness;

impl IntoResponses for OfReadiness {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = OfAny::responses();
        if let Some(RefOr::T(response)) = responses.get_mut("503") {
            let own = ContentBuilder::new().schema(Some(reference::<Readiness>())).build();
            response.content.insert("application/json".to_owned(), own.into());
            response.description = format!("It cannot, or as a refusal:\n{}", response.description);
        }
        responses
    }
}

/// A response for each status, with the codes it can bear.
fn responses(codes: impl IntoIterator<Item = (StatusCode, Code)>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for (status, code) in codes {
        let codes = by_status.entry(status.as_u16()).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(status, &codes).into())).collect()
}

/// The response of one status.
fn response(status: u16, codes: &[Code]) -> Response {
    let lines: Vec<String> = codes.iter().map(|code| format!("- `{}`: {}", code.as_str(), code.doc())).collect();
    let content = ContentBuilder::new().schema(Some(narrowed(status, codes))).build();
    let response = ResponseBuilder::new().description(lines.join("\n")).content(MEDIA_TYPE, content);
    let transient = status == 429 || status == 503;
    let response = if transient { response.header_ref("Retry-After", header("Retry-After")) } else { response };
    response.build()
}

/// A problem of that status with one of these codes.
fn narrowed(status: u16, codes: &[Code]) -> Schema {
    let names = codes.iter().map(|code| code.as_str());
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build();
    let number = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status])).build();
    let own = ObjectBuilder::new().property("status", number).property("code", code).build();
    AllOfBuilder::new().item(Ref::from_schema_name("Problem")).item(own).build().into()
}

/// The codes there are, as the schema of a problem's `code`.
pub fn codes() -> Schema {
    let names = Code::ALL.iter().map(|code| code.as_str());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("A stable code; `/docs/errors` explains each."))
        .enum_values(Some(names))
        .build()
        .into()
}
