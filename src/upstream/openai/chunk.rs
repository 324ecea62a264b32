//! A chunk of a chat completion, as far as it is read. Texts are borrowed as they stand in JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::usage::{Basis, Usage};

/// One `chat.completion.chunk`, one whole `chat.completion`, or an error object.
#[derive(Debug, Deserialize)]
pub struct Chunk<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "choices", deserialize_with = "first")]
    choice: Option<Choice<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What is said, and whether it is all. A whole completion has a `message` where a chunk has a `delta`.
#[derive(Debug, Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<Said<'a>>,
    #[serde(borrow)]
    message: Option<Said<'a>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A piece of text, of one kind or another.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Said<'a> {
    /// A piece of the answer.
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    /// A piece of an answer that declines.
    #[serde(borrow)]
    pub refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
}

impl<'a> Said<'a> {
    /// A piece of the reasoning. Servers that know both names put the same text under each.
    pub fn reasoning(&self) -> Option<&'a RawValue> {
        self.reasoning_content.filter(|text| text.get() != "\"\"").or(self.reasoning)
    }
}

impl<'a> Chunk<'a> {
    /// Reads one; none when it is no JSON object, or none of this shape.
    pub fn read(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The error object, whatever it says.
    pub fn error(&self) -> Option<&'a str> {
        let inside = self.choice.as_ref().and_then(|choice| choice.error);
        let error = self.error.or(inside).map(RawValue::get);
        let whole = self.object.filter(|object| object.get() == "\"error\"").map(RawValue::get);
        error.filter(|json| !matches!(*json, "false" | "\"\"" | "0")).or(whole)
    }

    /// Which model answers, by the provider's name for it.
    pub fn model(&self) -> Option<String> {
        let name: Option<String> = serde_json::from_str(self.model?.get()).ok();
        name.filter(|name| !name.is_empty())
    }

    /// What is said.
    pub fn said(&self) -> Option<Said<'a>> {
        let choice = self.choice.as_ref()?;
        choice.delta.or(choice.message)
    }

    /// The end mark, in the provider's own word.
    pub fn finish_reason(&self) -> Option<String> {
        let json = self.choice.as_ref()?.finish_reason?.get();
        let word: Option<String> = serde_json::from_str(json).ok();
        word.filter(|word| !word.is_empty())
    }

    /// The usage; figures that cannot be read, or cannot be, are none.
    pub fn usage(&self) -> Option<Usage> {
        let figures: Figures = serde_json::from_str(self.usage?.get()).ok()?;
        let usage = Usage {
            prompt_tokens: figures.prompt_tokens,
            completion_tokens: figures.completion_tokens,
            cached_tokens: figures.prompt_tokens_details.and_then(|details| details.cached_tokens),
            cache_write_tokens: None,
            reasoning_tokens: figures.completion_tokens_details.and_then(|details| details.reasoning_tokens),
            cost_nano_usd: None,
            basis: Basis::Reported,
        };
        usage.is_believable().then_some(usage)
    }
}

#[derive(Deserialize)]
struct Figures {
    prompt_tokens: u64,
    /// Left out by servers whose answer was empty.
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

/// The first choice; there are more only when `extra_body` asks for them, and they are not part of the answer.
fn first<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Choice<'de>>, D::Error> {
    struct First;

    impl<'de> Visitor<'de> for First {
        type Value = Option<Choice<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of choices")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut choices: A) -> Result<Self::Value, A::Error> {
            let mut first = None;
            while let Some(choice) = choices.next_element::<Choice<'de>>()? {
                if choice.index.unwrap_or(0) == 0 {
                    first.get_or_insert(choice);
                }
            }
            Ok(first)
        }
    }

    deserializer.deserialize_any(First)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Chunk<'_> {
        Chunk::read(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_chunk_is_read_without_what_it_does_not_say() {
        let chunk = read(
            r#"{"id":"x","choices":[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"role":"assistant","content":"a\n"},"finish_reason":null}],"usage":null}"#,
        );
        let said = chunk.said().unwrap();
        assert_eq!(said.content.unwrap().get(), r#""a\n""#);
        assert!(said.reasoning().is_none() && chunk.finish_reason().is_none());
        assert!(chunk.usage().is_none() && chunk.error().is_none());
    }

    #[test]
    fn usage_is_read_with_its_details() {
        let json = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,
            "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
        let usage = read(json).usage().unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (9, 5));
        assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (Some(4), Some(2)));
        assert!(read(r#"{"usage":{"prompt_tokens":-1}}"#).usage().is_none());
        assert!(read(r#"{"usage":{"prompt_tokens":1,"completion_tokens":18446744073709551615}}"#).usage().is_none());
        let bare = read(r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":null}}"#).usage().unwrap();
        assert_eq!((bare.completion_tokens, bare.cached_tokens), (0, None));
    }

    #[test]
    fn an_error_is_found_wherever_servers_put_it() {
        for json in [
            r#"{"error":{"message":"no"}}"#,
            r#"{"error":"no","choices":null}"#,
            r#"{"choices":[{"error":{"code":502},"finish_reason":"error"}]}"#,
            r#"{"object":"error","message":"no"}"#,
        ] {
            assert!(read(json).error().is_some(), "{json}");
        }
        assert!(read(r#"{"error":null,"choices":[]}"#).error().is_none());
    }

    #[test]
    fn reasoning_has_two_names() {
        let of = |json| read(json).said().unwrap().reasoning().map(RawValue::get);
        assert_eq!(of(r#"{"choices":[{"delta":{"reasoning_content":"a","reasoning":"a"}}]}"#), Some("\"a\""));
        assert_eq!(of(r#"{"choices":[{"delta":{"reasoning_content":"","reasoning":"b"}}]}"#), Some("\"b\""));
        assert_eq!(of(r#"{"choices":[{"delta":{"reasoning_content":null,"content":"c"}}]}"#), None);
    }

    #[test]
    fn what_is_no_object_is_no_chunk() {
        for json in ["", "12", "\"x\"", "{", "[1]", "{\"choices\":3}", "{\"choices\":[{\"delta\":5}]}"] {
            assert!(Chunk::read(json.as_bytes()).is_none(), "{json}");
        }
        assert!(Chunk::read(b"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}").is_none());
    }
}
