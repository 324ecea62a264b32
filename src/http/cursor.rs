//! Where a reader stands: `Last-Event-ID`, else `?after=`, else nowhere.

use http::HeaderMap;
use http::header::HeaderName;

use super::code::Code;
use super::headers;
use super::problem::Problem;
use crate::domain::cursor::{self, FeedCursor};

/// What an `EventSource` sends when it comes back (WHATWG HTML, section 9.2.4).
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The cursor in a turn; 0 when the client names none. `after` is the query parameter.
///
/// # Errors
/// 422 `invalid_cursor`, with the place it stood in.
pub fn of_turn(headers: &HeaderMap, after: Option<&str>) -> Result<u64, Problem> {
    let detail = "A cursor is a seq: decimal digits, at most 9007199254740991.";
    Ok(read(headers, after, cursor::parse, detail)?.unwrap_or(0))
}

/// The cursor in a conversation's feed; none is not the same as 0.
///
/// # Errors
/// 422 `invalid_cursor`, with the place it stood in.
pub fn of_feed(headers: &HeaderMap, after: Option<&str>) -> Result<Option<FeedCursor>, Problem> {
    read(headers, after, FeedCursor::parse, "A cursor of a feed is `N.SEQ`, or `0` for all that is kept.")
}

fn read<T>(
    headers: &HeaderMap,
    after: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    detail: &'static str,
) -> Result<Option<T>, Problem> {
    let bad = |field: &str| Problem::new(Code::InvalidCursor, detail).at(field);
    match headers::single(headers, LAST_EVENT_ID) {
        Ok(Some("")) | Ok(None) => after.map(|text| parse(text).ok_or_else(|| bad("after"))).transpose(),
        Ok(Some(text)) => parse(text).map(Some).ok_or_else(|| bad("Last-Event-ID")),
        Err(()) => Err(bad("Last-Event-ID")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (LAST_EVENT_ID, line.parse().unwrap())).collect()
    }

    #[test]
    fn the_header_comes_before_the_query() {
        assert_eq!(of_turn(&with(&["7"]), Some("3")).unwrap(), 7);
        assert_eq!(of_turn(&with(&[""]), Some("3")).unwrap(), 3);
        assert_eq!(of_turn(&with(&[]), None).unwrap(), 0);
        assert_eq!(of_feed(&with(&["2.9"]), None).unwrap(), Some(FeedCursor { number: 2, seq: 9 }));
        assert_eq!(of_feed(&with(&[]), None).unwrap(), None);
    }

    #[test]
    fn a_bad_cursor_is_refused_by_the_name_of_its_place() {
        let field = |result: Result<u64, Problem>| {
            let body = result.unwrap_err().to_json(&"req_1".into(), crate::domain::clock::Timestamp::from_micros(0));
            let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            (value["code"].as_str().unwrap().to_owned(), value["field"].as_str().unwrap().to_owned())
        };
        let bad = |field: &str| ("invalid_cursor".to_owned(), field.to_owned());
        assert_eq!(field(of_turn(&with(&["x"]), Some("3"))), bad("Last-Event-ID"));
        assert_eq!(field(of_turn(&with(&["1", "2"]), None)), bad("Last-Event-ID"));
        assert_eq!(field(of_turn(&with(&[]), Some(""))), bad("after"));
        assert_eq!(field(of_turn(&with(&[]), Some("-1"))), bad("after"));
        assert_eq!(field(of_turn(&with(&["1.2"]), None)), bad("Last-Event-ID"));
    }
}
