//! Which encoding a client takes (RFC 9110, section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use super::code::Code;
use super::headers;
use super::problem::Problem;

/// An encoding of an answer, in the order in which ties are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One event a line.
    Ndjson,
    /// Server-sent events.
    Sse,
    /// The message, once it is whole.
    Json,
}

impl Encoding {
    /// All of them, in the order in which ties are settled.
    pub const ALL: [Self; 3] = [Self::Ndjson, Self::Sse, Self::Json];

    /// The names it goes by; the first is the one it is sent under when no other was asked for.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Ndjson => &["application/x-ndjson", "application/ndjson", "application/jsonl"],
            Self::Sse => &["text/event-stream"],
            Self::Json => &["application/json"],
        }
    }
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The encoding.
    pub encoding: Encoding,
    /// The `Content-Type` to send: the name that was asked for.
    pub content_type: &'static str,
}

/// One member of the list: a range, and its weight in thousandths.
struct Range<'a> {
    name: &'a str,
    weight: u16,
}

/// Chooses among the encodings on offer. No `Accept` takes anything; a member that cannot be read is passed over.
///
/// # Errors
/// 406 `not_acceptable` when nothing on offer fits.
pub fn negotiate(headers: &HeaderMap, offers: &[Encoding]) -> Result<Chosen, Problem> {
    let members: Vec<&str> = headers::list(headers, ACCEPT, ',').collect();
    let ranges: Vec<Range<'_>> = match members.is_empty() {
        true => vec![Range { name: "*/*", weight: 1000 }],
        false => members.iter().filter_map(|member| read(member)).collect(),
    };
    let mut best: Option<(u16, Chosen)> = None;
    for encoding in Encoding::ALL.into_iter().filter(|encoding| offers.contains(encoding)) {
        if let Some((weight, content_type)) = weigh(encoding, &ranges)
            && best.is_none_or(|(most, _)| weight > most)
        {
            best = Some((weight, Chosen { encoding, content_type }));
        }
    }
    best.map(|(_, chosen)| chosen).ok_or_else(|| {
        let names: Vec<&str> = offers.iter().map(|offer| offer.names()[0]).collect();
        Problem::new(Code::NotAcceptable, format!("This route answers as {}.", names.join(", ")))
    })
}

/// The weight of an encoding, and the name to send it under. A name outweighs `type/*`, and that `*/*`.
fn weigh(encoding: Encoding, ranges: &[Range<'_>]) -> Option<(u16, &'static str)> {
    let names = encoding.names();
    let mut named: Option<(u16, &'static str)> = None;
    for range in ranges {
        if let Some(name) = names.iter().find(|name| range.name.eq_ignore_ascii_case(name))
            && named.is_none_or(|(most, _)| range.weight > most)
        {
            named = Some((range.weight, name));
        }
    }
    let family = names[0].split('/').next().unwrap_or_default();
    let wild = |pattern: &str| {
        ranges.iter().filter(|range| range.name.eq_ignore_ascii_case(pattern)).map(|range| range.weight).max()
    };
    named
        .or_else(|| wild(&format!("{family}/*")).or_else(|| wild("*/*")).map(|weight| (weight, names[0])))
        .filter(|(weight, _)| *weight > 0)
}

fn read(member: &str) -> Option<Range<'_>> {
    let (name, weight) = weighted(member)?;
    let name = match name {
        "*" => "*/*", // what java.net.HttpURLConnection sends
        name => name,
    };
    let (family, kind) = name.split_once('/')?;
    (headers::is_token(family) && headers::is_token(kind)).then_some(Range { name, weight })
}

/// A member of a list of preferences: what it names, and its weight in thousandths; nothing if that cannot be read.
pub fn weighted(member: &str) -> Option<(&str, u16)> {
    let mut parts = headers::split(member, ';');
    let name = parts.next()?;
    let mut weight = 1000;
    for part in parts {
        if let Some((key, value)) = part.split_once('=')
            && key.trim().eq_ignore_ascii_case("q")
        {
            weight = thousandths(value.trim())?;
        }
    }
    Some((name, weight))
}

/// A weight (RFC 9110, section 12.4.2); `.5` is let pass.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) || text.is_empty() || text == "." {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "" | "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Choice = Option<(Encoding, &'static str)>;

    fn chosen(accept: &[&str], offers: &[Encoding]) -> Choice {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        negotiate(&headers, offers).ok().map(|chosen| (chosen.encoding, chosen.content_type))
    }

    #[test]
    fn accept_chooses_the_encoding() {
        use Encoding::{Json, Ndjson, Sse};
        let x = "application/x-ndjson";
        let table: &[(&[&str], Choice)] = &[
            (&[], Some((Ndjson, x))),
            (&[""], Some((Ndjson, x))),
            (&["*/*"], Some((Ndjson, x))),
            (&["application/*"], Some((Ndjson, x))),
            (&["text/*"], Some((Sse, "text/event-stream"))),
            (&["application/ndjson"], Some((Ndjson, "application/ndjson"))),
            (&["APPLICATION/JSONL"], Some((Ndjson, "application/jsonl"))),
            (&["application/jsonl;q=0.5, application/ndjson"], Some((Ndjson, "application/ndjson"))),
            (&["text/event-stream"], Some((Sse, "text/event-stream"))),
            (&["text/event-stream; charset=utf-8"], Some((Sse, "text/event-stream"))),
            (&["application/json"], Some((Json, "application/json"))),
            (&["application/json, text/event-stream"], Some((Sse, "text/event-stream"))),
            (&["application/json", "text/event-stream;q=0.9"], Some((Json, "application/json"))),
            (&["application/json;q=0.2, */*;q=0.1"], Some((Json, "application/json"))),
            (&["application/x-ndjson;q=0, */*"], Some((Sse, "text/event-stream"))),
            (&["application/*;q=0, */*"], Some((Sse, "text/event-stream"))),
            (&["*/*;q=0"], None),
            (&["*/*;q=0, application/json;q=0.001"], Some((Json, "application/json"))),
            (&["text/html, image/gif, *; q=.2, */*; q=.2"], Some((Ndjson, x))),
            (&["application/json;q=nan, text/event-stream;q=0.1"], Some((Sse, "text/event-stream"))),
            (&["text/html;x=\"a,b;q=0\", application/json"], Some((Json, "application/json"))),
            (&["application/json;Q=0.5,,text/event-stream;q=0.50"], Some((Sse, "text/event-stream"))),
            (&["nonsense"], None),
            (&["text/html"], None),
        ];
        for (accept, expected) in table {
            assert_eq!(chosen(accept, &Encoding::ALL), *expected, "{accept:?}");
        }
        assert_eq!(chosen(&["*/*"], &[Sse]), Some((Sse, "text/event-stream")));
        assert_eq!(chosen(&["application/json"], &[Sse]), None);
        assert_eq!(chosen(&[], &[Ndjson, Sse]), Some((Ndjson, x)));
    }

    #[test]
    fn a_weight_has_at_most_three_decimals_and_is_at_most_one() {
        for (text, expected) in [("1", 1000), ("1.000", 1000), ("0.5", 500), (".2", 200), ("0.001", 1), ("0", 0)] {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
        for text in ["", ".", "2", "1.1", "0.0001", "-1", "a", "0,5", "+.5"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
