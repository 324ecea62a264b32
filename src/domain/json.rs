//! JSON as it leaves the house: on one line whatever reads it.
//!
//! Beyond what RFC 8259 asks, DEL, the C1 controls (U+0085, which some readers take for a line
//! end, among them), U+2028 and U+2029 are escaped, so that no reader of lines and no JavaScript
//! parser can see an end of line inside an event.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, escape, len)) = next_escape(rest.as_bytes()) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{escape:04x}")?;
            rest = &rest[at + len..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

/// The first character that must be escaped: its place, its code, its length in UTF-8.
fn next_escape(text: &[u8]) -> Option<(usize, u16, usize)> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr3(0x7f, 0xc2, 0xe2, &text[from..])?;
        match &text[at..] {
            [0x7f, ..] => return Some((at, 0x7f, 1)),
            [0xc2, low @ 0x80..=0x9f, ..] => return Some((at, u16::from(*low), 2)),
            [0xe2, 0x80, low @ (0xa8 | 0xa9), ..] => return Some((at, 0x2000 | u16::from(low & 0x3f), 3)),
            _ => from = at + 1,
        }
    }
}

/// Appends `value` to `out` as one line of JSON, without a line end.
///
/// Only for values that cannot fail: maps with text keys, finite numbers.
pub fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = out.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, OneLine);
    if value.serialize(&mut serializer).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// How many bytes `value` has as one line of JSON.
pub fn length(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut serializer = serde_json::Serializer::with_formatter(Count(0), OneLine);
    match value.serialize(&mut serializer) {
        Ok(()) => serializer.into_inner().0,
        Err(_) => "null".len(),
    }
}

/// `value` as one line of JSON, without a line end.
pub fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(&mut out, value);
    out
}

/// `value` as one line of JSON text, without a line end.
pub fn to_string(value: &impl Serialize) -> String {
    String::from_utf8(to_vec(value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_line_end_anybody_knows_is_escaped() {
        let text = "a\u{0}\n\r\u{7f}\u{80}\u{85}\u{9f}\u{a0}é€\u{2027}\u{2028}\u{2029}😀";
        let json = to_string(&text);
        assert_eq!(json, "\"a\\u0000\\n\\r\\u007f\\u0080\\u0085\\u009f\u{a0}é€\u{2027}\\u2028\\u2029😀\"");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(text in any::<String>()) {
            let back: String = serde_json::from_slice(&to_vec(&text)).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
