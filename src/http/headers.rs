//! The small grammar that header fields share (RFC 9110, section 5.6).

use http::HeaderMap;
use http::header::HeaderName;

/// The members of a list field, over all its lines, trimmed, without the empty ones. A line that is not ASCII is
/// passed over; a separator inside quotes does not separate.
pub fn list(headers: &HeaderMap, name: HeaderName, separator: char) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(move |line| split(line, separator))
}

/// Where in a text one is: within a quoted string (section 5.6.4), or not.
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    /// Reads one more character.
    fn read(&mut self, char: char) {
        match char {
            _ if self.escaped => self.escaped = false,
            '\\' if self.open => self.escaped = true,
            '"' => self.open = !self.open,
            _ => {}
        }
    }
}

/// Splits outside quotes, trims, and leaves out what is empty.
pub fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    text.split(move |char: char| {
        let within = quotes.open;
        quotes.read(char);
        char == separator && !within
    })
    .map(|part| part.trim_matches([' ', '\t']))
    .filter(|part| !part.is_empty())
}

/// Whether every quote that begins in it ends in it.
pub fn quotes_end(text: &str) -> bool {
    let mut quotes = Quotes::default();
    text.chars().for_each(|char| quotes.read(char));
    !quotes.open
}

/// Whether it is a token: at least one character, all of those that need no quotes.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A token or a quoted string, without its quotes; nothing when it is neither.
pub fn word(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else {
        return is_token(text).then(|| text.to_owned());
    };
    let mut word = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(word),
            '\\' => word.push(chars.next()?),
            char => word.push(char),
        }
    }
}

/// The one line of a field that may come once.
///
/// # Errors
/// When there are several, or it is not ASCII.
pub fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut lines = headers.get_all(name).into_iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => line.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_in_quotes_does_not_separate() {
        let parts: Vec<&str> = split("a, \"b,\\\",c\" ,, d=\"e,f\"", ',').collect();
        assert_eq!(parts, ["a", "\"b,\\\",c\"", "d=\"e,f\""]);
    }

    #[test]
    fn a_word_is_a_token_or_a_quoted_string() {
        assert_eq!(word("a-1").as_deref(), Some("a-1"));
        assert_eq!(word("\"a \\\" b\"").as_deref(), Some("a \" b"));
        for bad in ["", "a b", "\"a", "\"a\"b", "\"a\\"] {
            assert_eq!(word(bad), None, "{bad}");
        }
    }
}
