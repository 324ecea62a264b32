//! Words as a search finds them, and where they stand in a text.
//!
//! A word is a run of letters and digits, in lower case; in writing without spaces each sign is one. It has no other signs in it,
//! so none can be taken for the syntax of a database.

use std::ops::Range;

use serde::Serialize;

/// The longest word, in characters; what is longer is known by its beginning.
const LONGEST: usize = 40;
/// The most words that are looked for at once.
const SOUGHT: usize = 16;
/// About so many characters of a text are shown before its first match…
const BEFORE: usize = 40;
/// …and at most so many in all.
const SHOWN: usize = 200;

/// The words of a text, in order, each with the bytes it stands at.
pub fn words(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    let mut signs = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = signs.find(|(_, sign)| sign.is_alphanumeric())?;
        let mut end = start + first.len_utf8();
        if !stands_alone(first) {
            while let Some((at, sign)) = signs.next_if(|(_, sign)| sign.is_alphanumeric() && !stands_alone(*sign)) {
                end = at + sign.len_utf8();
            }
        }
        Some((start..end, lower(&text[start..end])))
    })
}

/// A word in lower case, at its full length or the longest.
fn lower(word: &str) -> String {
    if word.is_ascii() {
        return word[..word.len().min(LONGEST)].to_ascii_lowercase();
    }
    word.chars().take(LONGEST).flat_map(char::to_lowercase).collect()
}

/// Whether it is a sign of a writing that has no spaces between words: Chinese and Japanese.
fn stands_alone(sign: char) -> bool {
    matches!(sign, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// What is looked for: whole words, and one that a word begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    /// The whole ones.
    pub whole: Vec<String>,
    /// The last, of which more may be to come.
    pub begun: String,
}

impl Sought {
    /// What a person means by this text: its words, the last as a beginning. `None` when there are none in it. Beyond
    /// sixteen words the rest is not looked at.
    pub fn read(text: &str) -> Option<Self> {
        let mut whole: Vec<String> = Vec::new();
        let mut begun: Option<String> = None;
        for (_, word) in words(text).take(SOUGHT) {
            whole.extend(begun.replace(word));
        }
        whole.sort();
        whole.dedup();
        Some(Self { whole, begun: begun? })
    }

    fn matches(&self, word: &str) -> bool {
        word.starts_with(&self.begun) || self.whole.iter().any(|whole| whole == word)
    }

    /// A text in pieces, in which the words that match are marked.
    pub fn mark(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Pieces::default();
        let mut end = 0;
        for (at, word) in words(text) {
            if self.matches(&word) {
                pieces.push(&text[end..at.start], false);
                pieces.push(&text[at.clone()], true);
                end = at.end;
            }
        }
        pieces.push(&text[end..], false);
        pieces.0
    }

    /// The same of the part of a long text where it first matches; `…` stands for what is left out.
    pub fn mark_part(&self, text: &str) -> Vec<Piece> {
        let first = words(text).find(|(_, word)| self.matches(word)).map_or(0, |(at, _)| at.start);
        let start = text[..first].char_indices().rev().take(BEFORE).last().map_or(first, |(at, _)| at);
        // Not in the middle of a word.
        let start = match text[..start].chars().next_back() {
            Some(before) if before.is_alphanumeric() => {
                words(&text[start..first]).nth(1).map_or(first, |(at, _)| start + at.start)
            }
            Some(_) | None => start,
        };
        let end = text[start..].char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| start + at);
        let mut pieces = Pieces::default();
        if start > 0 {
            pieces.push("…", false);
        }
        for Piece { text, matched } in self.mark(&text[start..end]) {
            pieces.push(&text, matched);
        }
        if end < text.len() {
            pieces.push("…", false);
        }
        pieces.0
    }
}

/// A piece of a text, and whether it is what was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// The piece.
    pub text: String,
    /// Whether it is what was looked for.
    pub matched: bool,
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn push(&mut self, text: &str, matched: bool) {
        if text.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if !matched && !last.matched => last.text.push_str(text),
            Some(_) | None => self.0.push(Piece { text: text.to_owned(), matched }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        words(text).map(|(_, word)| word).collect()
    }

    fn marked(pieces: &[Piece]) -> String {
        pieces
            .iter()
            .map(|piece| if piece.matched { format!("[{}]", piece.text) } else { piece.text.clone() })
            .collect()
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(
            all("The  Tide-GATE's 2nd \u{0}\"é\" OR NEAR(a*)"),
            ["the", "tide", "gate", "s", "2nd", "é", "or", "near", "a"]
        );
        assert_eq!(all("東京タワー 12"), ["東", "京", "タ", "ワ", "ー", "12"]);
        assert_eq!(all(" \u{0}-*\"'()^: "), [""; 0]);
        let long = "x".repeat(100);
        assert_eq!(all(&long), ["x".repeat(LONGEST)]);
        assert_eq!(words(&long).next().unwrap().0, 0..100);
        for odd in ["İSTANBUL ſ ΑΣ ẞ", "a\u{301}b", "👩‍👩‍👧x"] {
            for word in all(odd) {
                assert!(word.chars().all(|sign| sign.is_ascii_alphanumeric() || !sign.is_ascii()), "{word:?}");
            }
        }
    }

    #[test]
    fn the_last_word_is_a_beginning_and_odd_input_is_no_error() {
        let sought = Sought::read("Tide gat").unwrap();
        assert_eq!((&*sought.whole, &*sought.begun), (&["tide".to_owned()][..], "gat"));
        assert_eq!(Sought::read(" \"* \u{0} "), None);
        assert_eq!(Sought::read(&"w ".repeat(100)).unwrap().whole, ["w"]);
        assert_eq!(marked(&sought.mark("A tide <gate>, tides & GATEWAYS")), "A [tide] <[gate]>, tides & [GATEWAYS]");
        assert_eq!(marked(&sought.mark("nothing")), "nothing");
        assert!(sought.mark("").is_empty());
    }

    #[test]
    fn a_part_of_a_long_text_begins_at_a_word_near_the_match() {
        let sought = Sought::read("needle").unwrap();
        let text = format!("{}needle {}", "straw ".repeat(100), "é😀 ".repeat(200));
        let part = marked(&sought.mark_part(&text));
        assert!(part.starts_with("…straw ") && part.contains("[needle] é😀") && part.ends_with('…'), "{part}");
        assert!(part.chars().count() < SHOWN + 5);
        assert_eq!(marked(&sought.mark_part("a needle")), "a [needle]");
        assert_eq!(marked(&sought.mark_part(&format!("{}needle", "x".repeat(300)))), format!("{}…", "x".repeat(SHOWN)));
        assert_eq!(marked(&sought.mark_part(&format!("{} needle", "é".repeat(300)))), "…[needle]");
    }
}
