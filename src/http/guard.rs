//! What every request passes before its handler, and every answer after it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use tokio::time::Instant;
use tracing::Instrument;

use super::address::Proxies;
use super::asker::Aside;
use super::body::BodyLimit;
use super::code::Code;
use super::cors::Origins;
use super::host::Own;
use super::problem::{MEDIA_TYPE, Problem, Refused};
use super::settings::Settings;
use super::{cross_site, unread};
use crate::domain::called::OTHER;
use crate::domain::clock::Clock;
use crate::domain::ids::RequestId;
use crate::meter::{Answer, Meter};

/// The longest URL, in bytes.
pub const MAX_URL: usize = 8 << 10;

/// The id of the request, on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

const VARIES: HeaderValue = HeaderValue::from_static("Accept, Origin, Authorization, Cookie, Last-Event-ID");

/// What every request passes.
#[derive(Clone, Debug)]
pub struct Guard {
    clock: Clock,
    own: Option<Own>,
    origins: Origins,
    proxies: Proxies,
    max_body_bytes: usize,
    meter: Meter,
}

impl Guard {
    /// The guard these settings ask for.
    pub fn new(settings: &Settings, clock: Clock, meter: Meter) -> Self {
        Self {
            clock,
            own: settings.auth_off.then(|| Own::new(&settings.public_url)),
            origins: settings.origins.clone(),
            proxies: settings.proxies.clone(),
            max_body_bytes: settings.max_body_bytes,
            meter,
        }
    }

    /// An answer without the handler's: a refusal, or a preflight's.
    fn stop(&self, request: &Parts) -> Option<Response> {
        let refused = || {
            if request.uri.path_and_query().is_some_and(|path| path.as_str().len() > MAX_URL) {
                return Err(Problem::new(Code::UriTooLong, format!("A URL may have {MAX_URL} bytes.")));
            }
            if let Some(own) = &self.own {
                own.check(request)?;
            }
            cross_site::check(request, &self.origins)
        };
        match refused() {
            Err(problem) => Some(problem.into_response()),
            Ok(()) => self.origins.preflight(request),
        }
    }

    /// What every answer bears, and the body of a refusal.
    fn finish(&self, response: &mut Response, id: &RequestId, path: &Path, aside: &Aside) {
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            *response.body_mut() = Body::from(problem.to_json(id, self.clock.now()));
        }
        if let Some(Refused(code)) = response.extensions_mut().remove() {
            self.meter.refused(code.as_str());
            aside.refused(code.as_str());
        }
        let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
        let response_is_unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        if path.is_v1 || is_problem {
            headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        }
        if path.is_v1 {
            headers.insert(VARY, VARIES);
        } else {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if response_is_unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        aside.tell(headers);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::try_from(id.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(origin) = path.origin.clone() {
            self.origins.mark(origin, headers);
        }
    }
}

/// What of a request its answer depends on.
struct Path {
    is_v1: bool,
    origin: Option<HeaderValue>,
}

/// The layer itself: lays [`RequestId`], [`BodyLimit`] and the client's [`super::address::Address`] into the request, and logs one line an answer, at its head.
pub async fn handle(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = RequestId::new(guard.clock.now());
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(BodyLimit(guard.max_body_bytes));
    let aside = Aside::default();
    request.extensions_mut().insert(aside.clone());
    let unread = unread::lend(&mut request);
    let (mut head, body) = request.into_parts();
    if let Some(address) = guard.proxies.address(&head) {
        head.extensions.insert(address);
    }
    let route = head.extensions.get::<MatchedPath>().cloned();
    let path = Path {
        is_v1: head.uri.path() == "/v1" || head.uri.path().starts_with("/v1/"),
        origin: guard.origins.of(&head.headers).cloned(),
    };
    let (method, version) = (head.method.clone(), head.version);

    let mut response = match guard.stop(&head) {
        Some(response) => response,
        None => {
            let span = tracing::info_span!("request", request_id = %id);
            let answer = next.run(Request::from_parts(head, body)).instrument(span);
            AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| {
                tracing::error!(request_id = %id, panic = said(&*panic), "a handler panicked");
                Problem::internal().into_response()
            })
        }
    };
    if let Some(unread) = unread
        && !unread.drain(guard.max_body_bytes.saturating_mul(2)).await
        && version < Version::HTTP_2
    {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    guard.finish(&mut response, &id, &path, &aside);
    let (took, status) = (began.elapsed(), response.status().as_u16());
    let answer = Answer {
        http_request_method: known(&method),
        http_route: route.as_ref().map_or_else(String::new, |route| route.as_str().to_owned()),
        http_response_status_code: status,
    };
    guard.meter.answered(&answer, took);
    tracing::info!(
        request_id = %id,
        %method,
        route = route.as_ref().map_or("-", MatchedPath::as_str),
        status,
        duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

/// A method as it is counted: clients may make up others.
fn known(method: &Method) -> &'static str {
    const NAMES: [&str; 9] = ["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT", "CONNECT", "TRACE"];
    NAMES.into_iter().find(|name| *name == method.as_str()).unwrap_or(OTHER)
}

/// The text a panic carries.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
