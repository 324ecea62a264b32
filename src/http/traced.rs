//! The trace a request is part of.

use http::HeaderMap;

use super::app::App;
use crate::trace::{HEADER, is_traceparent};

/// The request's `traceparent` (W3C Trace Context, section 3.2), where traces are sent; one that cannot be read is passed
/// over, as the recommendation asks.
pub fn traceparent(app: &App, headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HEADER).filter(|_| app.turns.tracer.is_on())?.to_str().ok()?;
    is_traceparent(text).then(|| text.to_owned())
}
