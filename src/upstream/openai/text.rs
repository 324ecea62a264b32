//! Text as it stands in JSON, read without an allocation for each piece.

use memchr::memchr;

const LOST: char = '\u{fffd}';

/// A text that comes in pieces, each a JSON string. Half of a surrogate pair at the end of one piece waits for the
/// other half at the start of the next; a half without another becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Pieces {
    scratch: String,
    half: Option<u16>,
}

impl Pieces {
    /// Reads a valid JSON string, quotes included.
    pub fn read<'a>(&'a mut self, json: &'a str) -> &'a str {
        let mut rest = json.get(1..json.len() - 1).unwrap_or_default();
        if self.half.is_none() && memchr(b'\\', rest.as_bytes()).is_none() {
            return rest;
        }
        self.scratch.clear();
        while let Some(at) = memchr(b'\\', rest.as_bytes()) {
            self.plain(&rest[..at]);
            rest = self.escape(&rest[at + 1..]);
        }
        self.plain(rest);
        &self.scratch
    }

    /// What is left when no more pieces come.
    pub fn finish(&mut self) -> &'static str {
        if self.half.take().is_some() { "\u{fffd}" } else { "" }
    }

    fn plain(&mut self, text: &str) {
        if !text.is_empty() {
            self.lose_half();
            self.scratch.push_str(text);
        }
    }

    /// Reads what follows a backslash; gives what follows the escape.
    fn escape<'a>(&mut self, rest: &'a str) -> &'a str {
        let (letter, after) = rest.split_at_checked(1).unwrap_or_default();
        let simple = match letter {
            "u" => {
                let (digits, after) = after.split_at_checked(4).unwrap_or_default();
                self.unit(u16::from_str_radix(digits, 16).unwrap_or(0xdc00));
                return after;
            }
            "b" => "\u{8}",
            "f" => "\u{c}",
            "n" => "\n",
            "r" => "\r",
            "t" => "\t",
            other => other,
        };
        self.plain(simple);
        after
    }

    /// Adds one UTF-16 code unit.
    fn unit(&mut self, unit: u16) {
        if let 0xdc00..=0xdfff = unit
            && let Some(high) = self.half.take()
        {
            self.scratch.extend(char::decode_utf16([high, unit]).map(|pair| pair.unwrap_or(LOST)));
            return;
        }
        self.lose_half();
        match unit {
            0xd800..=0xdbff => self.half = Some(unit),
            _ => self.scratch.push(char::from_u32(u32::from(unit)).unwrap_or(LOST)),
        }
    }

    fn lose_half(&mut self) {
        if self.half.take().is_some() {
            self.scratch.push(LOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&str]) -> Vec<String> {
        let mut reader = Pieces::default();
        let mut read: Vec<String> = pieces.iter().map(|piece| reader.read(piece).to_owned()).collect();
        read.push(reader.finish().to_owned());
        read
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(read(&[r#""a\n\"\\\/\u00e9\u0000é""#]), ["a\n\"\\/é\0é", ""]);
        assert_eq!(read(&[r#""\b\f\r\t""#, r#""""#]), ["\u{8}\u{c}\r\t", "", ""]);
    }

    #[test]
    fn halves_of_a_pair_are_joined_across_pieces() {
        assert_eq!(read(&[r#""a\ud83d""#, r#""\uDE00b""#]), ["a", "😀b", ""]);
        assert_eq!(read(&[r#""\ud83d""#, r#""""#, r#""\ude00""#]), ["", "", "😀", ""]);
        assert_eq!(read(&[r#""\ud83d\ude00""#]), ["😀", ""]);
    }

    #[test]
    fn a_lone_half_becomes_a_replacement_character() {
        assert_eq!(read(&[r#""a\ud83d""#, r#""b""#]), ["a", "\u{fffd}b", ""]);
        assert_eq!(read(&[r#""\ud83d\ud83d\ude00""#, r#""\ude00""#]), ["\u{fffd}😀", "\u{fffd}", ""]);
        assert_eq!(read(&[r#""\ud83d\n""#, r#""\ud83d""#]), ["\u{fffd}\n", "", "\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn whole_texts_read_as_serde_json_reads_them(text in any::<String>(), escaped in any::<bool>()) {
            let json = if escaped {
                let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
                format!("\"{units}\"")
            } else {
                serde_json::to_string(&text).unwrap()
            };
            prop_assert_eq!(read(&[&json]), [text, String::new()]);
        }
    }
}
