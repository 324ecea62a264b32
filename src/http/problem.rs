//! A refusal as the client reads it: RFC 9457 problem details.
//!
//! A handler returns a [`Problem`]; the guard, who knows the request's id and the time, writes its body.

use std::borrow::Cow;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::code::{Code, PAGE};
use super::limits::Quota;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, RequestId, TurnId};
use crate::domain::json;
use crate::domain::quota::Bound;
use crate::domain::turn;

/// The media type of a problem (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The longest `detail` and `field`, in characters: a client's own text may be in them.
const SHOWN: usize = 240;

/// When to come back, where nobody knows better.
const RETRY: Duration = Duration::from_secs(1);

/// Why a request is refused.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    field: Option<Box<str>>,
    conversation_id: Option<ConversationId>,
    turn_id: Option<TurnId>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    limit: Option<Box<Limit>>,
    is_unsure: bool,
    /// It tells of a turn's end, and refuses nothing.
    is_end: bool,
}

/// A limit that is reached.
#[derive(Clone, Debug)]
struct Limit {
    scope: &'static str,
    setting: &'static str,
    resets_at: Option<Timestamp>,
    quota: Option<Quota>,
}

/// Laid into an answer that is a refusal, for the guard to count.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub Code);

/// A problem as JSON.
#[derive(Serialize)]
struct Body9457<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a RequestId,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<&'a ConversationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_id: Option<&'a TurnId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

impl Problem {
    /// A refusal with a sentence about this occurrence. 429 and 503 ask to come back in a second.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: code.status(),
            detail: shortened(detail.into()),
            field: None,
            conversation_id: None,
            turn_id: None,
            retry_after: code.is_transient().then_some(RETRY),
            allow: None,
            limit: None,
            is_unsure: false,
            is_end: false,
        }
    }

    /// 422 `invalid_request` about one field, named by its path: `content`, `history[3].role`.
    pub fn field(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, detail).at(field)
    }

    /// 405, with the methods there are.
    pub fn method(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(Code::MethodNotAllowed, "This path does not take that method.") }
    }

    /// 500; the cause is for the log.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "Something broke in the gateway. Its log has it under this request_id.")
    }

    /// What a turn's end is to a client that waited for JSON: nothing, unless it `failed` or ran into a `timeout`.
    pub fn of_end(status: turn::Status, error: Option<&turn::Problem>, turn_id: &TurnId) -> Option<Self> {
        let (or, http) = match status {
            turn::Status::Failed => (Code::UpstreamError, StatusCode::BAD_GATEWAY),
            turn::Status::Timeout => (Code::Timeout, StatusCode::GATEWAY_TIMEOUT),
            turn::Status::Queued
            | turn::Status::Running
            | turn::Status::Completed
            | turn::Status::Length
            | turn::Status::Filtered
            | turn::Status::Stopped
            | turn::Status::Truncated
            | turn::Status::Interrupted => return None,
        };
        let code = error.and_then(|error| Code::parse(&error.code)).unwrap_or(or);
        let detail = error.map_or_else(|| code.doc().into(), |error| Cow::Owned(error.message.clone()));
        let own =
            matches!(code, Code::UpstreamRateLimited | Code::UpstreamUnavailable) && status == turn::Status::Failed;
        let status = if own { code.status() } else { http };
        Some(Self { status, is_end: true, ..Self::new(code, detail) }.turn(turn_id))
    }

    /// The field at fault, by its path.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(shortened(field.into().into()).into());
        self
    }

    /// The conversation it is about.
    #[must_use]
    pub fn conversation(mut self, id: &ConversationId) -> Self {
        self.conversation_id = Some(id.clone());
        self
    }

    /// The turn it is about.
    #[must_use]
    pub fn turn(mut self, id: &TurnId) -> Self {
        self.turn_id = Some(id.clone());
        self
    }

    /// When to come back; sent in whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The limit that is reached, when there is some of it again, and what the head says of it.
    #[must_use]
    pub fn limit(mut self, bound: &Bound, resets_at: Option<Timestamp>, quota: Option<Quota>) -> Self {
        let (scope, setting) = (bound.scope.as_str(), bound.setting());
        self.limit = Some(Box::new(Limit { scope, setting, resets_at, quota }));
        self
    }

    /// It is not known whether a turn was started.
    #[must_use]
    pub fn unsure(mut self) -> Self {
        self.is_unsure = true;
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// As an `EventSource` can bear it. That reader gives up for good on any status but 200 and 204, so what may pass
    /// is 200 with a comment, a time to come back and the end of the stream; anything else stays a status.
    pub fn for_event_source(self) -> Response {
        if !self.code.is_transient() {
            return self.into_response();
        }
        let wait = self.retry_after.unwrap_or(RETRY).as_millis();
        let text = format!(": {}\nretry: {wait}\n\n", self.code.as_str());
        let headers = [(CONTENT_TYPE, "text/event-stream"), (http::header::CACHE_CONTROL, "no-store, no-transform")];
        (Extension(Refused(self.code)), headers, text).into_response()
    }

    /// The body: one JSON object.
    pub fn to_json(&self, request_id: &RequestId, timestamp: Timestamp) -> Vec<u8> {
        json::to_vec(&Body9457 {
            r#type: format!("{PAGE}#{}", self.code.as_str()),
            title: self.code.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            timestamp,
            field: self.field.as_deref(),
            conversation_id: self.conversation_id.as_ref(),
            turn_id: self.turn_id.as_ref(),
            scope: self.limit.as_ref().map(|limit| limit.scope),
            limit: self.limit.as_ref().map(|limit| limit.setting),
            resets_at: self.limit.as_ref().and_then(|limit| limit.resets_at),
            outcome: self.is_unsure.then_some("unknown"),
        })
    }
}

impl IntoResponse for Problem {
    /// The head; the guard adds the body.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_millis().div_ceil(1000).clamp(1, 86_400) as u32));
        }
        if let Some(quota) = self.limit.as_ref().and_then(|limit| limit.quota.as_ref()) {
            Quota::tell(std::slice::from_ref(quota), headers);
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if !self.is_end {
            response.extensions_mut().insert(Refused(self.code));
        }
        response.extensions_mut().insert(self);
        response
    }
}

fn shortened(text: Cow<'static, str>) -> Cow<'static, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_rfc_9457_asks_and_which_field() {
        let problem = Problem::field("history[3].role", "must be `user` or `assistant`");
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let body = problem.to_json(&"req_1".into(), now);
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = serde_json::json!({
            "type": "/docs/errors#invalid_request", "title": "A field is wrong", "status": 422,
            "detail": "must be `user` or `assistant`", "code": "invalid_request", "request_id": "req_1",
            "timestamp": "2023-11-14T22:13:20.000000Z", "field": "history[3].role",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_may_pass_says_when_to_come_back() {
        let response = Problem::new(Code::QueueFull, "full").retry_after(Duration::from_millis(1500)).into_response();
        assert_eq!(
            (response.status(), &response.headers()[RETRY_AFTER]),
            (StatusCode::TOO_MANY_REQUESTS, &"2".parse().unwrap())
        );
        let response = Problem::new(Code::Draining, "bye").for_event_source();
        assert_eq!(response.status(), StatusCode::OK);
        let response = Problem::new(Code::TurnNotFound, "none").for_event_source();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_end_of_a_turn_has_a_status_for_those_who_waited() {
        let of = |status, code: &str| {
            let error = turn::Problem { code: code.to_owned(), message: "m".to_owned() };
            Problem::of_end(status, Some(&error), &"turn_1".into()).map(|problem| problem.status.as_u16())
        };
        assert_eq!(of(turn::Status::Failed, "upstream_rate_limited"), Some(429));
        assert_eq!(of(turn::Status::Failed, "upstream_unavailable"), Some(503));
        assert_eq!(of(turn::Status::Failed, "upstream_protocol"), Some(502));
        assert_eq!(of(turn::Status::Failed, "store_unavailable"), Some(502));
        assert_eq!(of(turn::Status::Timeout, "timeout"), Some(504));
        assert_eq!(of(turn::Status::Completed, "x"), None);
    }

    #[test]
    fn a_clients_own_text_is_not_echoed_at_length() {
        let problem = Problem::field("é".repeat(5000), "x".repeat(5000));
        assert_eq!(problem.detail.chars().count(), SHOWN + 1);
        assert_eq!(problem.field.unwrap().chars().count(), SHOWN + 1);
    }
}
