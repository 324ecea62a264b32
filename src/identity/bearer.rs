//! What a Bearer token (RFC 6750) looks like it is.

use super::pepper;
use super::visitor;

/// The longest token that is looked at, in bytes.
pub const LONGEST: usize = 8 << 10;

/// What a Bearer token looks like it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer<'a> {
    /// An API key, and what it is found by.
    Key {
        /// What it is found by.
        prefix: &'a str,
    },
    /// A visitor's token.
    Visitor,
    /// A user's token, signed by others (RFC 7519).
    Jwt,
    /// Nothing that could be any of them.
    Malformed,
}

impl<'a> Bearer<'a> {
    /// Looks at a token.
    pub fn of(token: &'a str) -> Self {
        if token.len() > LONGEST {
            return Self::Malformed;
        }
        if let Some(prefix) = pepper::prefix(token) {
            return Self::Key { prefix };
        }
        if token.starts_with(visitor::START) {
            return Self::Visitor;
        }
        if token.bytes().filter(|byte| *byte == b'.').count() == 2 { Self::Jwt } else { Self::Malformed }
    }
}

/// The token in an `Authorization` header; `None` for another scheme.
pub fn token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_it_looks_like() {
        let key = pepper::new_key().unwrap();
        assert_eq!(Bearer::of(&key.text), Bearer::Key { prefix: &key.prefix });
        assert_eq!(Bearer::of("tgv_a.b"), Bearer::Visitor);
        assert_eq!(Bearer::of("a.b.c"), Bearer::Jwt);
        let long = format!("a.b.{}", "c".repeat(LONGEST));
        for no in ["", "abc", "a.b", "a.b.c.d", "tg_short_key", &long] {
            assert_eq!(Bearer::of(no), Bearer::Malformed, "{no}");
        }
    }

    #[test]
    fn only_a_bearer_is_read() {
        assert_eq!(token("Bearer a.b.c"), Some("a.b.c"));
        assert_eq!(token("bEARER   x "), Some("x"));
        for no in ["Basic eDp5", "Bearer", "Bearer ", "Bearer a b", "Bearer é"] {
            assert_eq!(token(no), None, "{no}");
        }
    }
}
