//! The extractor of a JSON body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::code::Code;
use super::json;
use super::problem::Problem;
use crate::access::revoked::Watch;

/// The longest a body may stand still.
const BODY_IDLE: Duration = Duration::from_secs(30);

/// So long may the body be of whoever is not known yet, in bytes.
const BRIEF: usize = 4096;
/// The longest it may take in all.
const BODY_WHOLE: Duration = Duration::from_secs(120);

/// `max_body_bytes`, as the guard lays it into every request.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

/// A body of JSON: the typed value, and what was parsed, for a fingerprint.
///
/// Refuses with 400 `invalid_json`, 413 `body_too_large`, 415 `unsupported_media_type`, or 422 `invalid_request` with
/// the field. `Option<Json<T>>` is for a body that may be left out.
#[derive(Clone, Debug)]
pub struct Json<T> {
    /// The typed value.
    pub value: T,
    /// What was parsed, before it was typed.
    pub parsed: Value,
}

/// An empty body, or an empty object.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read(request).await?.ok_or_else(|| Problem::new(Code::InvalidJson, "There is no body."))
    }
}

/// A short body of JSON, of whom nobody knows yet.
#[derive(Debug)]
pub struct Brief<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Brief<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Problem> {
        let most = request.extensions().get().map_or(BRIEF, |BodyLimit(limit)| BRIEF.min(*limit));
        request.extensions_mut().insert(BodyLimit(most));
        let Json { value, .. } = <Json<T> as FromRequest<S>>::from_request(request, state).await?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, Problem> {
        read(request).await
    }
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<Option<Json<T>>, Problem> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(None);
    }
    let is_json = is_json(&head.headers);
    if head.headers.contains_key(CONTENT_TYPE) && !is_json {
        return Err(Problem::new(Code::UnsupportedMediaType, "Send the body as application/json."));
    }
    let BodyLimit(limit) = head.extensions.get().copied().unwrap_or(BodyLimit(0));
    let bytes = collect(&head.headers, body, limit).await?;
    if let Some(watch) = head.extensions.get::<Arc<Watch>>()
        && watch.revoked().now_or_never().is_some()
    {
        return Err(Problem::new(Code::AuthenticationRequired, "What let this request in has been revoked meanwhile."));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    if !is_json {
        return Err(Problem::new(Code::UnsupportedMediaType, "Say Content-Type: application/json."));
    }
    let parsed = json::parse(&bytes).map_err(|error| Problem::new(Code::InvalidJson, error.to_string()))?;
    drop(bytes);
    if !parsed.is_object() {
        return Err(Problem::new(Code::InvalidRequest, "The body must be a JSON object."));
    }
    let value = json::typed(parsed.clone()).map_err(|(field, detail)| Problem::field(field, detail))?;
    Ok(Some(Json { value, parsed }))
}

async fn collect(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(Code::BodyTooLarge, format!("A body may have {limit} bytes."));
    let told = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if told.is_some_and(|told: u64| told > limit as u64) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    let until = tokio::time::Instant::now() + BODY_WHOLE;
    loop {
        let frame =
            match tokio::time::timeout_at(until.min(tokio::time::Instant::now() + BODY_IDLE), body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_))) => return Err(Problem::new(Code::BadRequest, "The body broke off.")),
                Ok(None) => return Ok(bytes.freeze()),
                Err(_) => return Err(Problem::new(Code::RequestTimeout, "The body stood still.")),
            };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
}

/// `application/json`, or any `…+json` (RFC 6839), with whatever parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let name = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    name == "application/json" || name.strip_prefix("application/").is_some_and(|rest| rest.ends_with("+json"))
}
