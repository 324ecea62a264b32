//! The chunked coding (RFC 9112, section 7.1), read where it lies.

use std::ops::Range;

use super::framing::{Read, Then};
use super::head;

/// The longest line with a chunk's size and its extensions, in bytes.
const LINE: usize = 1 << 10;
/// The longest trailer section, in bytes.
const TRAILERS: usize = 16 << 10;

/// A body in chunks, as far as it has come. Extensions are read over, trailers are checked and dropped.
#[derive(Debug, Default)]
pub struct Chunked {
    at: At,
    /// Of the chunk that is open; while its size is read, the size so far.
    left: u64,
    /// Of the line with the size, so far.
    line: usize,
    trailers: Vec<u8>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum At {
    #[default]
    FirstDigit,
    Digit,
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Field,
    InField,
    FieldLf,
    EndLf,
    End,
}

impl Chunked {
    /// Moves the chunks' data in `bytes` together, and says where it is.
    pub fn read(&mut self, bytes: &mut [u8]) -> Read {
        let mut data = 0..0;
        let mut next = 0;
        while next < bytes.len() {
            if self.at == At::Data {
                let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - next);
                keep(bytes, &mut data, next..next + size);
                next += size;
                self.left -= size as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            match self.step(bytes[next]) {
                Ok(at) => self.at = at,
                Err(cause) => return Read { data, then: Then::Broken(cause) },
            }
            next += 1;
            if self.at == At::End {
                return Read { data, then: Then::End { surplus: next < bytes.len() } };
            }
        }
        Read { data, then: Then::More }
    }

    /// Takes one byte that is no data.
    fn step(&mut self, byte: u8) -> Result<At, &'static str> {
        if matches!(self.at, At::FirstDigit | At::Digit | At::Blank | At::Extension) {
            self.line += 1;
            if self.line > LINE {
                return Err("the line of a chunk's size is too long");
            }
        }
        Ok(match (self.at, byte) {
            (At::FirstDigit | At::Digit, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let larger = self.left.checked_mul(16).ok_or("a chunk's size is beyond all bounds")?;
                self.left = larger + u64::from(digit);
                At::Digit
            }
            // Blanks after the size are against the grammar and not unheard of; they can mean one thing only.
            (At::Digit | At::Blank, b' ' | b'\t') => At::Blank,
            (At::Digit | At::Blank, b';') => At::Extension,
            (At::Digit | At::Blank | At::Extension, b'\r') => At::SizeLf,
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => At::Extension,
            (At::SizeLf, b'\n') => {
                self.line = 0;
                if self.left == 0 { At::Field } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::FirstDigit,
            (At::Field | At::InField | At::FieldLf | At::EndLf, _) => return self.trailer(byte),
            (At::FirstDigit | At::Digit | At::Blank, _) => return Err("a chunk's size is no number"),
            (At::Extension, _) => return Err("a chunk's extension holds a control character"),
            (At::SizeLf, _) => return Err("the line of a chunk's size does not end as lines do"),
            (At::DataCr | At::DataLf, _) => return Err("a chunk is longer than its size"),
            (At::Data | At::End, _) => return Err("a byte that is nobody's"),
        })
    }

    /// Takes one byte after the last chunk.
    fn trailer(&mut self, byte: u8) -> Result<At, &'static str> {
        self.trailers.push(byte);
        if self.trailers.len() > TRAILERS {
            return Err("the trailers are too long");
        }
        match (self.at, byte) {
            (At::Field, b'\r') => Ok(At::EndLf),
            (At::InField, b'\r') => Ok(At::FieldLf),
            (At::FieldLf, b'\n') => Ok(At::Field),
            (At::EndLf, b'\n') => {
                let trailers = std::mem::take(&mut self.trailers);
                head::check_fields(&trailers).map(|()| At::End)
            }
            (At::FieldLf | At::EndLf, _) | (_, b'\n') => Err("a trailer does not end as lines do"),
            _ => Ok(At::InField),
        }
    }
}

/// Adds the bytes at `more` to those at `data`. The first stay where they are, as do all of a read with one chunk.
fn keep(bytes: &mut [u8], data: &mut Range<usize>, more: Range<usize>) {
    if data.start == data.end {
        *data = more;
    } else {
        let end = data.end + more.len();
        bytes.copy_within(more, data.end);
        data.end = end;
    }
}
