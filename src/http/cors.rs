//! Pages of other origins: those that are allowed, and what their browsers are told (WHATWG Fetch, section 3.3).

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::identity::applications::Applications;
use crate::latest::Latest;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE");
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Accept, Last-Event-ID, Idempotency-Key, Prefer, Tidegate-Widget",
);
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Turn-Id, Conversation-Id, Location, Retry-After, Request-Id, Preference-Applied, RateLimit, RateLimit-Policy, \
     Auth-Status, Visitor-Token",
);
/// How long a browser may keep a preflight's answer, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may call.
#[derive(Clone, Debug)]
pub struct Origins {
    own: Vec<HeaderValue>,
    /// Those of widgets, where callers must say who they are.
    applications: Option<Latest<Applications>>,
}

impl Origins {
    /// Exact origins. `null`, which any sandboxed page can send, is never one of them.
    pub fn new(origins: &[String], applications: Option<Latest<Applications>>) -> Self {
        let known = origins.iter().filter(|origin| !origin.eq_ignore_ascii_case("null"));
        let own = known.filter_map(|origin| HeaderValue::try_from(origin.as_str()).ok()).collect();
        Self { own, applications }
    }

    /// The request's origin, when it is one of these.
    pub fn of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let mut lines = headers.get_all(ORIGIN).into_iter();
        let origin = lines.next().filter(|_| lines.next().is_none())?;
        let of_widget = || {
            let origin = origin.to_str().ok().filter(|origin| !origin.eq_ignore_ascii_case("null"));
            let applications = self.applications.as_ref().map(Latest::get);
            origin.zip(applications).is_some_and(|(origin, applications)| applications.has_origin(origin))
        };
        (self.own.contains(origin) || of_widget()).then_some(origin)
    }

    /// The answer to a preflight; nothing when the request is none. An origin that is not allowed gets one that
    /// allows nothing.
    pub fn preflight(&self, request: &Parts) -> Option<Response> {
        let asks = request.headers.contains_key(ORIGIN) && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if request.method != Method::OPTIONS || !asks {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if self.of(&request.headers).is_some() {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
        Some(response)
    }

    /// Tells the browser that this origin's page may read the answer. A page of the settings may use the cookie of
    /// `/v1/session`, where it is of the same site; a widget's may not, for the cookie may be of another application's user.
    pub fn mark(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        if self.own.contains(&origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}
