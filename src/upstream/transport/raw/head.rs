//! The head of an answer (RFC 9112, sections 2 to 6), and what it says of the rest.
//!
//! What can be read in two ways is not read at all: whoever guesses differently from the server, or from a proxy
//! before it, takes one answer's bytes for another's.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use super::chunked::Chunked;
use super::framing::Framing;

/// The most header fields of one head.
const FIELDS: usize = 100;

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request after it.
    pub persists: bool,
}

/// Reads the head that `bytes` begin with, and says how long it is; none while more of it is to come.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    // The parser would read over empty lines before the first; RFC 9112, section 2.2, lets only servers do that.
    if bytes.first().is_some_and(|first| *first != b'H') {
        return Err("what came is no HTTP".to_owned());
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the head cannot be read: {error}")),
    };
    check_lines(&bytes[..length])?;
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("the status is none")?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(field.value).map_err(|error| error.to_string())?;
        headers.append(name, value);
    }
    let framing = framing(status, version, &headers)?;
    let persists = persists(status, version, &headers) && !matches!(framing, Framing::UntilClose);
    Ok(Some((Head { status, headers, framing, persists }, length)))
}

/// Whether header fields and the empty line after them are as they should be.
///
/// # Errors
/// What is wrong with them.
pub fn check_fields(bytes: &[u8]) -> Result<(), &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) if length == bytes.len() => Ok(()),
        _ => Err("the trailers cannot be read"),
    }
}

/// The parser takes a bare LF for a line's end, as RFC 9112, section 2.2, allows; with a proxy in between that takes it
/// for something else, there would be two answers.
fn check_lines(head: &[u8]) -> Result<(), &'static str> {
    let bare = memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r');
    if bare { Err("a line of the head does not end as lines do") } else { Ok(()) }
}

/// RFC 9112, section 6.3, for a POST.
fn framing(status: StatusCode, version: Version, headers: &HeaderMap) -> Result<Framing, &'static str> {
    if has_no_body(status) {
        return Ok(Framing::Length(0));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return content_length(headers).map(|length| length.map_or(Framing::UntilClose, Framing::Length));
    };
    if version == Version::HTTP_10 {
        return Err("a transfer coding in HTTP/1.0");
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return Err("both a transfer coding and a length");
    }
    if codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err("a transfer coding that is not known");
    }
    Ok(Framing::Chunked(Chunked::default()))
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// One length, however often it is said (RFC 9110, section 8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    const WRONG: &str = "a length that is none, or several that differ";
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.to_str().map_err(|_| WRONG)?.split(',') {
            let digits = text.trim_matches([' ', '\t']);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(WRONG);
            }
            let said: u64 = digits.parse().map_err(|_| WRONG)?;
            if length.is_some_and(|length| length != said) {
                return Err(WRONG);
            }
            length = Some(said);
        }
    }
    Ok(length)
}

/// RFC 9112, section 9.3. A status that has no body, and a head that announces one all the same, are not trusted.
fn persists(status: StatusCode, version: Version, headers: &HeaderMap) -> bool {
    let announced = headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(CONTENT_LENGTH);
    let asked = if version == Version::HTTP_11 { !says(headers, "close") } else { says(headers, "keep-alive") };
    asked && !says(headers, "close") && !(has_no_body(status) && announced)
}

/// Whether `Connection` holds the word.
pub fn says(headers: &HeaderMap, word: &str) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}
