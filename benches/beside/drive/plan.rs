//! What the fake model is to say: the question tells it, so that it passes through any gateway.

use memchr::memmem;

/// How the question begins.
const MARK: &str = "plan deltas=";

/// What the fake model is to say, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// So many deltas.
    pub deltas: u32,
    /// Microseconds from one to the next; 0 = as fast as they can be written.
    pub every_us: u32,
    /// Microseconds from the question to the first.
    pub first_us: u32,
    /// Whether each stream starts at another point of the interval, as streams of different users do.
    pub spread: bool,
}

impl Plan {
    /// As fast as the connection takes them.
    pub fn flood(deltas: u32) -> Self {
        Self { deltas, every_us: 0, first_us: 0, spread: false }
    }

    /// So many microseconds apart, out of step with other streams.
    pub fn paced(deltas: u32, every_us: u32) -> Self {
        Self { deltas, every_us, first_us: 0, spread: true }
    }

    /// The question that asks for it.
    pub fn question(self) -> String {
        let Self { deltas, every_us, first_us, spread } = self;
        format!("{MARK}{deltas} every={every_us} first={first_us} spread={}.", u8::from(spread))
    }

    /// Finds it in a request's body.
    pub fn find(body: &[u8]) -> Option<Self> {
        let mut rest = &body[memmem::find(body, MARK.as_bytes())? + MARK.len()..];
        let mut number = |end: &[u8]| {
            let at = memmem::find(rest, end)?;
            let number = std::str::from_utf8(&rest[..at]).ok()?.parse().ok()?;
            rest = &rest[at + end.len()..];
            Some(number)
        };
        let (deltas, every_us) = (number(b" every=")?, number(b" first=")?);
        Some(Self { deltas, every_us, first_us: number(b" spread=")?, spread: number(b".")? == 1 })
    }
}
