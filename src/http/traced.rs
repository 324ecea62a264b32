//! The trace a request is part of.

use http::{HeaderMap, HeaderName};

use super::app::App;
use super::headers::single;
use crate::trace::{HEADER, is_traceparent};

/// The request's `traceparent` (W3C Trace Context, section 3.2), where traces are sent; one that cannot be read is passed
/// over, as the recommendation asks.
pub fn traceparent(app: &App, headers: &HeaderMap) -> Option<String> {
    if !app.turns.tracer.is_on() {
        return None;
    }
    let text = single(headers, HeaderName::from_static(HEADER)).ok()??;
    is_traceparent(text).then(|| text.to_owned())
}
