//! What a server puts around each piece of text: learned from one chunk, recognised in the next.
//!
//! The chunks of one answer differ in nothing but the text. One that begins and ends with the same bytes as the last,
//! and has in between what can only be the inside of a JSON string, says the same as the last with another text; it need
//! not be read as JSON again, which would cost ten times as much. Whatever else comes is read in full.

use serde_json::value::RawValue;

use super::chunk::{Chunk, Said};

/// Which text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The answer.
    Content,
    /// The reasoning.
    Reasoning,
}

/// The longest that is kept of what stands around a text, in bytes.
const MOST: usize = 1 << 10;

/// What stood around the last text, once there was one.
#[derive(Debug, Default)]
pub struct Template(Option<Around>);

#[derive(Debug)]
struct Around {
    /// Up to the text's opening quote.
    before: Vec<u8>,
    /// From its closing one.
    after: Vec<u8>,
    voice: Voice,
}

impl Template {
    /// The text, quotes included, if this chunk is the last one with another text.
    pub fn fit<'a>(&self, json: &'a [u8]) -> Option<(Voice, &'a str)> {
        let Around { before, after, voice } = self.0.as_ref()?;
        let inside = json.strip_prefix(&before[..])?.strip_suffix(&after[..])?;
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if inside.is_empty() || !inside.iter().all(|byte| is_plain(*byte)) {
            return None;
        }
        let from = before.len() - 1;
        let text = std::str::from_utf8(&json[from..from + inside.len() + 2]).ok()?;
        Some((*voice, text))
    }

    /// Learns from a chunk that was read in full, if a text is all it says.
    pub fn learn(&mut self, json: &[u8], chunk: &Chunk<'_>) {
        let Some((voice, text)) = only_text(chunk) else { return };
        if json.len() - text.len() > MOST {
            return;
        }
        // Borrowed from it: the place is the difference of the two.
        let Some(at) = (text.as_ptr() as usize).checked_sub(json.as_ptr() as usize) else { return };
        let (Some(before), Some(after)) = (json.get(..=at), json.get((at + text.len()).saturating_sub(1)..)) else {
            return;
        };
        let around = self.0.get_or_insert(Around { before: Vec::new(), after: Vec::new(), voice });
        around.voice = voice;
        around.before.clear();
        around.before.extend_from_slice(before);
        around.after.clear();
        around.after.extend_from_slice(after);
    }
}

/// The one text a chunk says, quotes included; none when it says anything else.
fn only_text<'a>(chunk: &Chunk<'a>) -> Option<(Voice, &'a str)> {
    let is_text = |text: &&RawValue| text.get().len() > 2 && text.get().starts_with('"');
    let said = chunk.said()?;
    let Said { content, refusal, .. } = said;
    if chunk.error().is_some() || chunk.finish_reason().is_some() || chunk.usage().is_some() || refusal.is_some() {
        return None;
    }
    match (content, said.reasoning()) {
        (Some(content), None) if is_text(&content) => Some((Voice::Content, content.get())),
        (None, Some(reasoning)) if is_text(&reasoning) => Some((Voice::Reasoning, reasoning.get())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dialect::Dialect;
    use crate::upstream::decoder::Event;
    use crate::upstream::{Batch, Fault, Part};

    /// What one dialect makes of chunk after chunk, and what a new one makes of each alone.
    fn both(chunks: &[String]) -> [Vec<String>; 2] {
        let said = |batch: &Batch| batch.parts().map(|part| format!("{part:?}")).collect::<Vec<_>>();
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        let mut alone = Vec::new();
        for chunk in chunks {
            let event = || Event { name: b"", data: chunk.as_bytes() };
            let read = dialect.read(event(), &mut batch);
            let mut one = Batch::default();
            assert_eq!(read, Dialect::default().read(event(), &mut one));
            alone.extend(said(&one));
        }
        [said(&batch), alone]
    }

    fn chunk(field: &str, text: &str, rest: &str) -> String {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"id":"a","choices":[{{"index":0,"delta":{{"{field}":{text}}}{rest}}}]}}"#)
    }

    proptest! {
        #[test]
        fn chunks_say_the_same_one_after_the_other_as_each_alone(
            chunks in prop::collection::vec(
                (
                    prop::sample::select(vec!["content", "reasoning_content", "role", "refusal"]),
                    prop::sample::select(vec![
                        "a", "", " b", "\"", "\\", "\n", "é😀", "x\"},\"finish_reason\":\"stop\"}]}", "\",\"content\":\"",
                        "\u{0}", "\u{7f}", "\u{2028}",
                    ]),
                    prop::sample::select(vec!["", "", "", r#","finish_reason":null"#, r#","logprobs":"""#]),
                ),
                1..30,
            ),
        ) {
            let chunks: Vec<_> = chunks.into_iter().map(|(field, text, rest)| chunk(field, text, rest)).collect();
            let [together, alone] = both(&chunks);
            prop_assert_eq!(together, alone);
        }
    }

    #[test]
    fn a_text_alone_is_no_chunk() {
        for data in [&b"\"upstream overloaded\""[..], b"\"a\"", b"a"] {
            let read = Dialect::default().read(Event { name: b"", data }, &mut Batch::default());
            assert_eq!(read.unwrap_err().fault, Fault::Protocol);
        }
    }

    #[test]
    fn no_more_than_a_little_is_kept() {
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        let rest = format!(r#","logprobs":"{}""#, "x".repeat(2 * super::MOST));
        for text in ["a", "b"] {
            dialect.read(Event { name: b"", data: chunk("content", text, &rest).as_bytes() }, &mut batch).unwrap();
        }
        assert_eq!(batch.parts().collect::<Vec<_>>(), [Part::Delta("a"), Part::Delta("b")]);
        assert!(dialect.template.0.is_none());
    }

    #[test]
    fn what_only_looks_alike_is_read_in_full() {
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        for data in [
            chunk("content", "a", ""),
            // Two texts where one was.
            r#"{"id":"a","choices":[{"index":0,"delta":{"content":"b","content":"c"}}]}"#.to_owned(),
            // An end that hides where the text was.
            r#"{"id":"a","choices":[{"index":0,"delta":{"content":"d"},"finish_reason":"x"}}]}"#.to_owned(),
        ] {
            let _judged_below = dialect.read(Event { name: b"", data: data.as_bytes() }, &mut batch);
        }
        assert_eq!(batch.parts().next(), Some(Part::Delta("a")));
        assert!(!batch.parts().any(|part| part == Part::Delta("b") || part == Part::Delta("d")));
        assert!(dialect.finish().is_none());
    }
}
