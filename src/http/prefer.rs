//! What a client would rather have (RFC 7240).

use std::time::Duration;

use axum::response::{IntoResponseParts, ResponseParts};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::headers;

/// The field a client asks by.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The field that tells which of its preferences were kept.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Nobody waits for longer: whoever does takes no place among readers. `Preference-Applied` says so.
const LONGEST: Duration = Duration::from_secs(300);

/// `Prefer: respond-async[, wait=N]`: an answer at once, or after N seconds at most, and the work goes on.
///
/// Put into a response it is `Preference-Applied`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RespondAsync {
    /// How long the client will wait for the end; zero when it did not say.
    pub wait: Duration,
}

/// Reads `Prefer`. The first mention of a preference counts, its name in any case; what cannot be read is no
/// preference (section 2). `wait` alone asks for nothing.
pub fn respond_async(headers: &HeaderMap) -> Option<RespondAsync> {
    let (mut asked, mut wait) = (false, None);
    for preference in headers::list(headers, PREFER, ',') {
        let bare = headers::split(preference, ';').next().unwrap_or_default();
        let (name, value) = bare.split_once('=').unwrap_or((bare, ""));
        let name = name.trim_end();
        if name.eq_ignore_ascii_case("respond-async") {
            asked = true;
        } else if name.eq_ignore_ascii_case("wait") && wait.is_none() {
            wait = headers::word(value.trim_start()).and_then(|text| text.parse::<u32>().ok());
        }
    }
    asked.then(|| RespondAsync { wait: Duration::from_secs(wait.unwrap_or(0).into()).min(LONGEST) })
}

impl IntoResponseParts for RespondAsync {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let text = match self.wait.as_secs() {
            0 => "respond-async".to_owned(),
            seconds => format!("respond-async, wait={seconds}"),
        };
        if let Ok(value) = HeaderValue::try_from(text) {
            parts.headers_mut().insert(PREFERENCE_APPLIED, value);
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(PREFER, line.parse().unwrap());
        }
        respond_async(&headers).map(|prefer| prefer.wait.as_secs())
    }

    #[test]
    fn prefer_is_read_however_it_is_written() {
        assert_eq!(read(&["respond-async"]), Some(0));
        assert_eq!(read(&["Respond-Async, WAIT=10"]), Some(10));
        assert_eq!(read(&["wait=\"7\"", "return=minimal; foo=\"a, b\", respond-async;x=1"]), Some(7));
        assert_eq!(read(&["respond-async; wait=5"]), Some(0));
        assert_eq!(read(&["wait = 3, respond-async, wait=9"]), Some(3));
        assert_eq!(read(&["respond-async, wait=-1"]), Some(0));
        assert_eq!(read(&["respond-async, wait=4294967295"]), Some(300));
        assert_eq!(read(&["wait=5"]), None);
        assert_eq!(read(&["handling=lenient"]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_was_kept_is_told() {
        use axum::response::IntoResponse;
        let response = (RespondAsync { wait: Duration::from_secs(4) }, "x").into_response();
        assert_eq!(response.headers()[PREFERENCE_APPLIED], "respond-async, wait=4");
    }
}
