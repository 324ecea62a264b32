//! Where a body ends (RFC 9112, section 6).

use std::ops::Range;

use super::chunked::Chunked;

/// How a body's end is told, and how much of it is still to come.
#[derive(Debug)]
pub enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// By a last chunk.
    Chunked(Chunked),
    /// By the connection's end.
    UntilClose,
}

/// What some bytes of a connection were.
#[derive(Debug, PartialEq)]
pub struct Read {
    /// Where among them the body's own bytes are now.
    pub data: Range<usize>,
    /// What comes after those.
    pub then: Then,
}

/// What comes after some bytes of a body.
#[derive(Debug, PartialEq)]
pub enum Then {
    /// More of it.
    More,
    /// Nothing: that was all of it.
    End {
        /// Whether bytes followed that nobody asked for.
        surplus: bool,
    },
    /// Bytes that cannot be read.
    Broken(&'static str),
}

impl Framing {
    /// Whether all of the body has come.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// Finds the body in the connection's next bytes, of which there are some. They may be moved.
    pub fn read(&mut self, bytes: &mut [u8]) -> Read {
        match self {
            Self::Length(left) => {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= size as u64;
                let then = if *left == 0 { Then::End { surplus: size < bytes.len() } } else { Then::More };
                Read { data: 0..size, then }
            }
            Self::Chunked(chunked) => chunked.read(bytes),
            Self::UntilClose => Read { data: 0..bytes.len(), then: Then::More },
        }
    }
}
