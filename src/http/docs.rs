//! The docs: Swagger UI over `/openapi.json`, all of it from the binary, and the page of the codes.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::code::{Code, PAGE};
use super::problem::Problem;
use super::schema::refusals;

/// Swagger UI styles its elements inline; nothing else is let in.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The OpenAPI document as it is sent, made once.
#[derive(Clone)]
pub struct Document(Bytes);

impl Document {
    /// The bytes of a document.
    pub fn new(document: &OpenApi) -> Self {
        Self(crate::domain::json::to_vec(document).into())
    }
}

/// The API, described
///
/// This document: OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Operation",
    operation_id = "get_openapi",
    responses((status = 200, description = "The document.", body = Object), refusals::OfAny)
)]
pub async fn document(State(Document(bytes)): State<Document>) -> Response {
    ([(CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// `/docs`, its files, and the page of the codes.
pub fn routes() -> Router {
    // Without `none` the browser would send the document to a validator elsewhere.
    let config = Config::from("/openapi.json").validator_url("none");
    Router::new()
        .route("/docs", get(index))
        .route("/docs/", get(index))
        .route(PAGE, get(codes))
        .route("/docs/{file}", get(async |Path(name): Path<String>, config| file(&name, config)))
        .layer(Extension(Arc::new(config)))
}

/// The page itself; its relative links are made absolute, so that `/docs` needs no slash at the end.
async fn index(config: Extension<Arc<Config<'static>>>) -> Response {
    let Ok(Some(page)) = utoipa_swagger_ui::serve("index.html", config.0) else {
        return Problem::internal().into_response();
    };
    let html =
        String::from_utf8_lossy(&page.bytes).replace("\"./", "\"/docs/").replace("\"index.css", "\"/docs/index.css");
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(html)).into_response()
}

fn file(name: &str, config: Extension<Arc<Config<'static>>>) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, config.0) else {
        return Problem::new(Code::RouteNotFound, "The docs have no such file.").into_response();
    };
    let mut response = ([(CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response();
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The codes, as a person reads them.
async fn codes() -> Response {
    let mut rows = String::new();
    for code in Code::ALL {
        let (name, status) = (code.as_str(), code.status().as_u16());
        let doc = code.doc().replace('<', "&lt;");
        let _ = writeln!(rows, "<tr id=\"{name}\"><td><code>{name}</code><td>{status}<td>{doc}",);
    }
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tidegate: error codes</title>\n\
         <h1>Error codes</h1>\n<p>Every refusal is <code>application/problem+json</code> (RFC 9457) with one of these \
         as its <code>code</code>.\n<table><thead><tr><th>code<th>status<th>when\n<tbody>\n{rows}</table>\n"
    );
    ([(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"))], Html(html)).into_response()
}
