//! What a status other than 2xx means.

use std::time::Duration;

use http::StatusCode;
use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

use crate::upstream::Refusal;

/// A longer wait is not believed.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The refusal an answer with this head is.
pub fn of(status: StatusCode, headers: &HeaderMap) -> Refusal {
    match status {
        StatusCode::REQUEST_TIMEOUT => Refusal::RequestTimeout,
        StatusCode::TOO_MANY_REQUESTS => Refusal::RateLimited(retry_after(headers)),
        _ if status.is_server_error() => Refusal::Unavailable,
        _ => Refusal::Rejected,
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), measured by the upstream's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::from_secs(date(headers, RETRY_AFTER)?.saturating_sub(date(headers, DATE)?)),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The header's date, in seconds since the Unix epoch.
fn date(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    u64::try_from(moment.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(fields: &[(HeaderName, &str)]) -> Refusal {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        of(StatusCode::TOO_MANY_REQUESTS, &headers)
    }

    #[test]
    fn a_status_tells_whether_another_may_be_asked() {
        let of = |status: u16| of(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert_eq!([500, 503, 529].map(of), [Refusal::Unavailable; 3]);
        assert_eq!([302, 400, 401, 404, 422].map(of), [Refusal::Rejected; 5]);
        assert_eq!((of(408), of(429)), (Refusal::RequestTimeout, Refusal::RateLimited(None)));
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        let seconds = |n| Refusal::RateLimited(Some(Duration::from_secs(n)));
        assert_eq!(limited(&[(RETRY_AFTER, "7")]), seconds(7));
        let (now, then) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(limited(&[(RETRY_AFTER, then), (DATE, now)]), seconds(30));
        assert_eq!(limited(&[(RETRY_AFTER, now), (DATE, then)]), seconds(0));
        assert_eq!(limited(&[(RETRY_AFTER, "999999999")]), seconds(86400));
        assert_eq!(limited(&[(RETRY_AFTER, "soon")]), Refusal::RateLimited(None));
    }
}
