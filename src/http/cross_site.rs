//! No stranger's page spends money: what a browser says about who asks (W3C Fetch Metadata).

use std::borrow::Cow;

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, Method};

use super::code::Code;
use super::cors::Origins;
use super::headers;
use super::problem::Problem;

/// Paths whose GET starts something.
const STARTING: &[&str] = &["/v1/chat/stream"];

/// Whether a request starts or changes anything.
pub fn changes(request: &Parts) -> bool {
    let safe = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    !safe || STARTING.contains(&request.uri.path())
}

/// Refuses what starts or changes anything when a browser says that a stranger's page, or nobody yet, asks for it.
///
/// # Errors
/// 403 `cross_site_request`.
pub fn check(request: &Parts, origins: &Origins) -> Result<(), Problem> {
    if !changes(request) {
        return Ok(());
    }
    let refusal = |detail| Err(Problem::new(Code::CrossSiteRequest, detail));
    if is_prefetch(&request.headers) {
        return refusal("A prefetch starts nothing.");
    }
    if passes(&request.headers, origins) { Ok(()) } else { refusal("The page that asks is not of an allowed origin.") }
}

/// Whether no browser says that a stranger's page asks.
fn passes(headers: &HeaderMap, origins: &Origins) -> bool {
    match one(headers, "sec-fetch-site") {
        None | Some(b"same-origin") => true,
        Some(_) => one(headers, "sec-fetch-mode") == Some(b"cors") && origins.of(headers).is_some(),
    }
}

/// Whether a cookie counts: the same, and where a browser does not say who asks, the origin it may name is `own` or allowed.
pub fn cookie_counts(headers: &HeaderMap, origins: &Origins, own: &str) -> bool {
    let named = headers.contains_key(ORIGIN);
    passes(headers, origins)
        && (!named || one(headers, "origin") == Some(own.as_bytes()) || origins.of(headers).is_some())
}

/// The gateway's own origin, where a browser says that one of its own pages asks: such a GET names none (WHATWG Fetch,
/// section 3.2).
pub fn own_origin<'a>(request: &Parts, own: &'a str) -> Option<Cow<'a, str>> {
    let host = one(&request.headers, "host").or(request.uri.authority().map(|host| host.as_str().as_bytes()));
    let ours = own.split_once("://").map(|(_, host)| host.as_bytes());
    // Under another name a page elsewhere may have pointed at this machine.
    let is_own = one(&request.headers, "sec-fetch-site") == Some(b"same-origin") && host.is_some() && host == ours;
    is_own.then_some(Cow::Borrowed(own))
}

/// The one line of that name; empty where there are several.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).into_iter();
    lines.next().map(|line| if lines.next().is_none() { line.as_bytes() } else { &b""[..] })
}

/// `Sec-Purpose: prefetch;prerender` (WHATWG Fetch), or the older names for it.
fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"].into_iter().any(|name| {
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        let mut tokens = lines.flat_map(|line| headers::split(line, ',')).flat_map(|part| headers::split(part, ';'));
        tokens.any(|token| ["prefetch", "prerender", "preview"].iter().any(|word| token.eq_ignore_ascii_case(word)))
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn passes(method: Method, path: &str, lines: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let origins = Origins::new(&["https://shop.example".to_owned(), "null".to_owned()], None);
        check(&request.body(()).unwrap().into_parts().0, &origins).is_ok()
    }

    #[test]
    fn a_strangers_page_starts_nothing() {
        let asks = |lines: &[(&str, &str)]| {
            let get = passes(Method::GET, "/v1/chat/stream?message=hi", lines);
            let post = passes(Method::POST, "/v1/conversations", lines);
            assert_eq!(get, post, "{lines:?}");
            post
        };
        let (site, mode, origin) = ("sec-fetch-site", "sec-fetch-mode", "origin");
        assert!(asks(&[]));
        assert!(asks(&[(site, "same-origin")]));
        assert!(asks(&[(site, "cross-site"), (mode, "cors"), (origin, "https://shop.example")]));
        assert!(asks(&[(site, "same-site"), (mode, "cors"), (origin, "https://shop.example")]));
        assert!(!asks(&[(site, "cross-site"), (mode, "no-cors"), (origin, "https://shop.example")]));
        assert!(!asks(&[(site, "cross-site"), (mode, "cors"), (origin, "https://evil.example")]));
        assert!(!asks(&[(site, "cross-site"), (mode, "cors"), (origin, "null")]));
        assert!(!asks(&[(site, "cross-site"), (mode, "cors"), (origin, "https://shop.example"), (origin, "x:")]));
        assert!(!asks(&[(site, "same-site")]));
        assert!(!asks(&[(site, "none"), (mode, "navigate")]));
        assert!(!asks(&[(site, "same-origin"), (site, "cross-site")]));
        assert!(!asks(&[(site, "same-origin"), ("sec-purpose", "prefetch;prerender")]));
        assert!(!asks(&[("purpose", "prefetch")]));
        assert!(!asks(&[("x-moz", "Prefetch")]));
    }

    #[test]
    fn reading_is_anybodys() {
        assert!(passes(Method::GET, "/v1/models", &[("sec-fetch-site", "cross-site"), ("sec-purpose", "prefetch")]));
        assert!(passes(Method::OPTIONS, "/v1/conversations", &[("sec-fetch-site", "cross-site")]));
    }
}
