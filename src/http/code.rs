//! Every code a refusal can carry: one table, from which the answers, the OpenAPI document and the page at
//! [`PAGE`] are made.

use http::StatusCode;

/// The page that explains the codes; a problem's `type` is this and `#code`, relative to the gateway.
pub const PAGE: &str = "/docs/errors";

macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $doc:literal;)*) => {
        /// A stable code for why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $doc] $name,)*
        }

        impl Code {
            /// All of them, by status.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name, as in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The HTTP status it is sent with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// A few words, the same for every occurrence (RFC 9457, section 3.1.3).
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// When it is sent, for the docs.
            pub fn doc(self) -> &'static str {
                match self { $(Self::$name => $doc,)* }
            }
        }
    };
}

codes! {
    InvalidJson = "invalid_json", BAD_REQUEST, "Not JSON",
        "The body is not JSON (RFC 8259): malformed, not UTF-8, a lone surrogate, or a key twice in one object.";
    BadRequest = "bad_request", BAD_REQUEST, "Not a proper request",
        "The head breaks HTTP, as with two `Host` headers, or the body broke off.";
    AuthenticationRequired = "authentication_required", UNAUTHORIZED, "Nobody knows who asks",
        "No key, token, ticket or widget that is good was shown, or a user is required. The detail says which.";
    BudgetExhausted = "budget_exhausted", PAYMENT_REQUIRED, "The budget is spent",
        "What is left of a day's or a month's budget is less than the turn may come to cost; `resets_at` says when there is a new one, \
         `scope` and `limit` which it is.";
    Forbidden = "forbidden", FORBIDDEN, "Not for this caller",
        "The caller is known and may not: another user's object, a read key that would change something, what takes an \
         admin key, a user who has been deactivated.";
    OriginNotAllowed = "origin_not_allowed", FORBIDDEN, "The widget does not stand on this page",
        "The request has no `Origin`, or one that the widget's settings do not name.";
    CrossSiteRequest = "cross_site_request", FORBIDDEN, "Another site's page may not ask this",
        "A browser says that a page of another site, or a prefetch, asks for something that starts or changes anything.";
    ConversationNotFound = "conversation_not_found", NOT_FOUND, "No such conversation",
        "There is no conversation of that id, or it is another's.";
    MessageNotFound = "message_not_found", NOT_FOUND, "No such message",
        "There is no message of that id, or it is another's.";
    TurnNotFound = "turn_not_found", NOT_FOUND, "No such turn",
        "There is no turn of that id, or it is another's.";
    KeyNotFound = "key_not_found", NOT_FOUND, "No such key",
        "The application has no API key of that id that is good.";
    ModelNotFound = "model_not_found", NOT_FOUND, "No such model",
        "No upstream has a model of that name, or the widget may not name it.";
    AssistantNotFound = "assistant_not_found", NOT_FOUND, "No such assistant",
        "There is no assistant of that id.";
    RouteNotFound = "route_not_found", NOT_FOUND, "No such route",
        "Nothing lives at that path.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "Not with that method",
        "The path exists, but not for that method; `Allow` names those it takes.";
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, "No encoding fits",
        "None of the encodings on offer is one that `Accept` allows. Nothing was started.";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request took too long",
        "The body stood still for too long.";
    TurnInProgress = "turn_in_progress", CONFLICT, "The conversation is busy",
        "The conversation has a live turn, and `if_busy` is `reject`.";
    ConversationPaused = "conversation_paused", CONFLICT, "The conversation is paused",
        "A paused conversation takes no messages; `resume` reopens it.";
    ConversationEnded = "conversation_ended", CONFLICT, "The conversation has ended",
        "An ended conversation takes no messages, and is not paused; `resume` reopens it.";
    TurnDeleted = "turn_deleted", GONE, "The turn was deleted",
        "What the key made was erased with its conversation, or by a reset.";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "The body is longer than `max_body_bytes`.";
    UriTooLong = "uri_too_long", URI_TOO_LONG, "The URL is too long",
        "The URL is longer than 8 KiB.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON",
        "The body's `Content-Type` is missing or is not `application/json`.";
    WrongHost = "wrong_host", MISDIRECTED_REQUEST, "Not the host asked for",
        "With auth off the gateway answers only to a loopback name and to its own `public_url`.";
    InvalidRequest = "invalid_request", UNPROCESSABLE_ENTITY, "A field is wrong",
        "A field is wrong, missing, unknown or out of range; `field` names it.";
    InvalidCursor = "invalid_cursor", UNPROCESSABLE_ENTITY, "The cursor cannot be read",
        "`Last-Event-ID` or `after` is not a cursor of this stream.";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The key belongs to another request",
        "The `Idempotency-Key` was used before, for another request.";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too much at once",
        "A limit of the application is reached; `scope` and `limit` say which.";
    QueueFull = "queue_full", TOO_MANY_REQUESTS, "The queue is full",
        "The conversation already has as many queued turns as it may.";
    UpstreamRateLimited = "upstream_rate_limited", TOO_MANY_REQUESTS, "The model is rate limited",
        "Every upstream that has the model answered 429.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something broke here",
        "A fault of the gateway. The log has it under the `request_id`.";
    UpstreamError = "upstream_error", BAD_GATEWAY, "The model refused",
        "The upstream answered 4xx or sent an error object.";
    UpstreamProtocol = "upstream_protocol", BAD_GATEWAY, "The model's answer cannot be read",
        "The upstream sent data that is not in its own protocol.";
    UpstreamTruncated = "upstream_truncated", BAD_GATEWAY, "The model's answer broke off",
        "Only as the `error` of a turn that ended `truncated`: the upstream closed without its end mark.";
    ContextExceeded = "context_exceeded", BAD_GATEWAY, "The question is too long for the model",
        "The question, with the instructions and the room for an answer, has more tokens than the model's `window`.";
    TooManyTurns = "too_many_turns", SERVICE_UNAVAILABLE, "Too many live turns",
        "The process has `max_live_turns` of them.";
    TooManyReaders = "too_many_readers", SERVICE_UNAVAILABLE, "Too many readers",
        "The turn, or the conversation's feed, has `readers_per_turn` of them on this replica, or half as many that may only read; a feed that comes to such a turn is closed as `unavailable`. Or four read the metrics at once.";
    TooManyConnections = "too_many_connections", SERVICE_UNAVAILABLE, "Too many connections",
        "The process is out of file descriptors.";
    StoreUnavailable = "store_unavailable", SERVICE_UNAVAILABLE, "The database does not answer",
        "The database cannot be reached, or too many search or write the same. No turn was started, unless `turn_id` names one; where `outcome` is `unknown`, that one may be undone yet.";
    UpstreamUnavailable = "upstream_unavailable", SERVICE_UNAVAILABLE, "The model cannot be reached",
        "No upstream that has the model took the call.";
    Draining = "draining", SERVICE_UNAVAILABLE, "Shutting down",
        "The process starts nothing new. Where `turn_id` names a turn, that one goes on elsewhere.";
    Timeout = "timeout", GATEWAY_TIMEOUT, "The model took too long",
        "The upstream was silent for too long, or the turn reached `max_turn_s`.";
}

impl Code {
    /// The code of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// Whether the same request may fare better a little later: 429 and 503.
    pub fn is_transient(self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_by_its_name_and_listed_by_status() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
        assert!(Code::ALL.is_sorted_by_key(|code| code.status()));
        assert_eq!(Code::parse("unheard_of"), None);
    }
}
