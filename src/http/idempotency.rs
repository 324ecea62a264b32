//! The key by which a client can ask again without asking twice.

use http::HeaderMap;
use http::header::HeaderName;

use super::headers;
use super::problem::Problem;

/// The field (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key, in bytes.
const LONGEST: usize = 255;

/// The key of a request: 1 to 255 visible ASCII characters, bare or as a quoted string; both are the same key.
///
/// # Errors
/// 422 `invalid_request` with the field `Idempotency-Key`.
pub fn of_headers(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let bad = || Problem::field("Idempotency-Key", "must be 1 to 255 visible ASCII characters, bare or quoted, once");
    let Some(text) = headers::single(headers, IDEMPOTENCY_KEY).map_err(|()| bad())? else {
        return Ok(None);
    };
    let text = text.trim_matches([' ', '\t']);
    let key = if text.starts_with('"') { headers::word(text) } else { Some(text.to_owned()) };
    key.filter(|key| is_visible(key, LONGEST)).map(Some).ok_or_else(bad)
}

/// The same for `?key=`, which stands for the header where none can be set; bare.
///
/// # Errors
/// 422 `invalid_request` with the field `key`.
pub fn of_query(key: &str) -> Result<String, Problem> {
    match is_visible(key, LONGEST) {
        true => Ok(key.to_owned()),
        false => Err(Problem::field("key", "must be 1 to 255 visible ASCII characters")),
    }
}

/// Whether a text is 1 to `longest` visible ASCII characters (0x21 to 0x7E).
pub fn is_visible(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(lines: &[&str]) -> Result<Option<String>, ()> {
        let headers = lines.iter().map(|line| (IDEMPOTENCY_KEY, line.parse().unwrap())).collect();
        of_headers(&headers).map_err(drop)
    }

    #[test]
    fn bare_and_quoted_are_the_same_key() {
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["abc"]), key(&["\"abc\""]));
        assert_eq!(key(&["\"a\\\"b\""]), Ok(Some("a\"b".to_owned())));
        assert_eq!(key(&[&"k".repeat(255)]), Ok(Some("k".repeat(255))));
        for bad in ["", "\"\"", "a b", "\"a b\"", "\"abc", "\"abc\";x=1", &"k".repeat(256)] {
            assert_eq!(key(&[bad]), Err(()), "{bad}");
        }
        assert_eq!(key(&["a", "a"]), Err(()));
    }
}
