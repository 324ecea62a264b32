//! The chat page: three files inside the binary.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::headers;

/// Nothing from elsewhere, nothing inline, no markup made of text.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// A file inside the binary.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", bytes: include_bytes!("../../static/index.html") },
    Asset {
        path: "/static/chat.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../static/chat.js"),
    },
    Asset { path: "/static/chat.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("../../static/chat.css") },
];

/// `/` and what it loads.
pub fn routes() -> Router {
    ASSETS.into_iter().fold(Router::new(), |router, asset| {
        let tag: String = Sha256::digest(asset.bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("W/\"0\""));
        router.route(asset.path, get(async move |headers: HeaderMap| asset.answer(&headers, tag)))
    })
}

impl Asset {
    /// The file, or 304 when the browser has it (RFC 9110, section 13.1.2).
    fn answer(self, headers: &HeaderMap, tag: HeaderValue) -> Response {
        let known = headers::list(headers, IF_NONE_MATCH, ',')
            .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes());
        let head = [
            (CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (ETAG, tag),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_SECURITY_POLICY, POLICY),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if known { (StatusCode::NOT_MODIFIED, head).into_response() } else { (head, self.bytes).into_response() }
    }
}
