//! The chat page, the client module it is built on, and the schema of what comes over it: files inside the binary.

use std::io::Write;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::accept::weighted;
use super::headers;
use super::schema::json_schema;

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

const ASSETS: [Asset; 14] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", bytes: include_bytes!("../../static/index.html") },
    Asset { path: "/static/chat.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("../../static/chat.css") },
    script("/client.js", include_bytes!("../../static/client.js")),
    script("/static/branches.js", include_bytes!("../../static/branches.js")),
    script("/static/browser.js", include_bytes!("../../static/browser.js")),
    script("/static/chart.js", include_bytes!("../../static/chart.js")),
    script("/static/chat.js", include_bytes!("../../static/chat.js")),
    script("/static/element.js", include_bytes!("../../static/element.js")),
    script("/static/list.js", include_bytes!("../../static/list.js")),
    script("/static/message.js", include_bytes!("../../static/message.js")),
    script("/static/outbox.js", include_bytes!("../../static/outbox.js")),
    script("/static/prose.js", include_bytes!("../../static/prose.js")),
    script("/static/session.js", include_bytes!("../../static/session.js")),
    script("/static/words.js", include_bytes!("../../static/words.js")),
];

/// A module.
const fn script(path: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { path, kind: "text/javascript; charset=utf-8", bytes }
}

/// `/` and what it loads, and what pages of others load.
pub fn routes() -> Router {
    let files = ASSETS.into_iter().map(|asset| (asset.path, Served::new(asset.kind, Bytes::from_static(asset.bytes))));
    let schema = Bytes::from(crate::domain::json::to_vec(&json_schema::document()));
    let schema = (json_schema::PATH, Served::new(json_schema::KIND, schema));
    files.chain([schema]).fold(Router::new(), |router, (path, served)| {
        router.route(path, get(async move |headers: HeaderMap| served.answer(&headers)))
    })
}

/// A file as it is sent.
#[derive(Clone)]
struct Served {
    kind: HeaderValue,
    tag: HeaderValue,
    plain: Bytes,
    gzipped: Option<Bytes>,
}

impl Served {
    fn new(kind: &'static str, plain: Bytes) -> Self {
        let hash: String = Sha256::digest(&plain).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Weak, for it names two encodings of one file (RFC 9110, section 8.8.1).
        let tag = HeaderValue::try_from(format!("W/\"{hash}\"")).unwrap_or(HeaderValue::from_static("W/\"0\""));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let written = gzip.write_all(&plain).and_then(|()| gzip.finish());
        let gzipped = written.ok().map(Bytes::from);
        Self { kind: HeaderValue::from_static(kind), tag, plain, gzipped }
    }

    /// The file, or 304 when the browser has it (RFC 9110, section 13.1.2). There is nothing in it that pages of other
    /// origins may not read, and they import `/client.js` and read the schema.
    fn answer(self, headers: &HeaderMap) -> Response {
        let ours = self.tag.to_str().map(opaque).unwrap_or_default();
        let known = headers::list(headers, IF_NONE_MATCH, ',').any(|known| known == "*" || opaque(known) == ours);
        let head = [
            (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
            (CONTENT_TYPE, self.kind),
            (ETAG, self.tag),
            (VARY, HeaderValue::from_static("Accept-Encoding")),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_SECURITY_POLICY, POLICY),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if known {
            (StatusCode::NOT_MODIFIED, head).into_response()
        } else if takes_gzip(headers)
            && let Some(gzipped) = self.gzipped
        {
            (head, [(CONTENT_ENCODING, "gzip")], gzipped).into_response()
        } else {
            (head, self.plain).into_response()
        }
    }
}

/// Whether the client names gzip, and not to refuse it (RFC 9110, section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    headers::list(headers, ACCEPT_ENCODING, ',')
        .filter_map(weighted)
        .any(|(name, weight)| name.eq_ignore_ascii_case("gzip") && weight > 0)
}

/// What two tags of one file share, weak or strong (RFC 9110, section 8.8.3.2).
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}
