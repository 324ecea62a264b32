//! What the events of a chat completion mean.

use serde_json::value::RawValue;

use super::chunk::{Chunk, Said};
use super::template::{Template, Voice};
use super::text::Pieces;
use crate::upstream::decoder::Event;
use crate::upstream::{Batch, End, Fault, Finish};

/// How far an answer has come.
#[derive(Debug, Default)]
pub struct Dialect {
    content: Pieces,
    reasoning: Pieces,
    pub(super) template: Template,
    finish: Option<Finish>,
    done: bool,
    spoken: bool,
}

/// What an upstream said went wrong: a fault, and its own words for the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What it is to us.
    pub fault: Fault,
    /// What it said; never relayed.
    pub said: String,
}

impl Complaint {
    fn new(fault: Fault, said: &[u8]) -> Self {
        Self { fault, said: String::from_utf8_lossy(said).into_owned() }
    }
}

impl Dialect {
    /// The end mark, once it has come.
    pub fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }

    /// Whether `[DONE]` has come.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Whether the first token has come.
    pub fn spoken(&self) -> bool {
        self.spoken
    }

    /// Reads an event. Once the end mark has come nothing can spoil the answer any more.
    pub fn read(&mut self, event: Event<'_>, batch: &mut Batch) -> Result<(), Complaint> {
        let data = event.data.trim_ascii();
        if self.done || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        if event.name.is_empty()
            && let Some((voice, text)) = self.template.fit(data)
        {
            match voice {
                Voice::Content => batch.delta(self.content.read(text)),
                Voice::Reasoning => batch.reasoning(self.reasoning.read(text)),
            }
            self.spoken = true;
            return Ok(());
        }
        let read = read_chunk(event.name, data).and_then(|chunk| {
            self.template.learn(data, &chunk);
            self.take(&chunk, batch)
        });
        match read {
            Err(_) if self.finish.is_some() => Ok(()),
            taken => taken,
        }
    }

    /// Reads what the stream ended in the middle of. Only a whole chunk with the end mark in it, or after it, counts.
    pub fn read_tail(&mut self, event: Event<'_>, batch: &mut Batch) -> Result<(), Complaint> {
        let Some(chunk) = Chunk::read(event.data) else { return Ok(()) };
        if chunk.error().is_some() || chunk.finish_reason().is_some() || self.finish.is_some() {
            return self.read(event, batch);
        }
        Ok(())
    }

    /// Reads a whole completion that did not come as a stream.
    pub fn read_whole(&mut self, json: &[u8], batch: &mut Batch) -> Result<(), Complaint> {
        self.take(&read_chunk(b"", json)?, batch)?;
        if self.finish.is_none() { Err(Complaint::new(Fault::Protocol, json)) } else { Ok(()) }
    }

    /// Adds what was still waiting for more.
    pub fn close(&mut self, batch: &mut Batch) {
        batch.reasoning(self.reasoning.finish());
        batch.delta(self.content.finish());
    }

    fn take(&mut self, chunk: &Chunk<'_>, batch: &mut Batch) -> Result<(), Complaint> {
        if let Some(error) = chunk.error() {
            return Err(Complaint::new(Fault::Error, error.as_bytes()));
        }
        if !batch.is_named()
            && let Some(model) = chunk.model()
        {
            batch.name(&model);
        }
        if let Some(said) = chunk.said() {
            self.say(said, batch)?;
        }
        if let Some(usage) = chunk.usage() {
            batch.report(usage);
        }
        if let Some(reason) = chunk.finish_reason() {
            // OpenRouter ends so when the provider behind it failed.
            if reason == "error" {
                return Err(Complaint::new(Fault::Error, b"finish_reason: error"));
            }
            let end = end_of(&reason);
            self.finish.get_or_insert(Finish { reason, end });
        }
        Ok(())
    }

    fn say(&mut self, said: Said<'_>, batch: &mut Batch) -> Result<(), Complaint> {
        if let Some(text) = string(said.reasoning())? {
            batch.reasoning(self.reasoning.read(text));
            self.spoken = true;
        }
        for text in [said.content, said.refusal] {
            if let Some(text) = string(text)? {
                batch.delta(self.content.read(text));
                self.spoken = true;
            }
        }
        Ok(())
    }
}

fn read_chunk<'a>(name: &[u8], data: &'a [u8]) -> Result<Chunk<'a>, Complaint> {
    if name == b"error" {
        return Err(Complaint::new(Fault::Error, data));
    }
    Chunk::read(data).ok_or_else(|| Complaint::new(Fault::Protocol, data))
}

/// The JSON string, if there is anything in it.
fn string(text: Option<&RawValue>) -> Result<Option<&str>, Complaint> {
    match text.map(RawValue::get) {
        None | Some("\"\"") => Ok(None),
        Some(json) if json.starts_with('"') => Ok(Some(json)),
        Some(json) => Err(Complaint::new(Fault::Protocol, json.as_bytes())),
    }
}

/// What a `finish_reason` means (platform.openai.com/docs/api-reference/chat/object).
fn end_of(reason: &str) -> End {
    match reason {
        "length" | "max_tokens" => End::Length,
        "content_filter" => End::Filtered,
        _ => End::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Part;

    fn event(data: &str) -> Event<'_> {
        Event { name: b"", data: data.as_bytes() }
    }

    fn delta(text: &str) -> String {
        format!(r#"{{"choices":[{{"delta":{{"content":{text}}}}}]}}"#)
    }

    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn one_chunk_is_one_delta() {
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        for text in [r#""Hel""#, r#""""#, r#""lo\ud83d""#, r#""\ude00""#, "null"] {
            dialect.read(event(&delta(text)), &mut batch).unwrap();
        }
        let parts: Vec<_> = batch.parts().collect();
        assert_eq!(parts, [Part::Delta("Hel"), Part::Delta("lo"), Part::Delta("😀")]);
    }

    #[test]
    fn a_half_that_waits_in_vain_is_not_lost() {
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        dialect.read(event(&delta(r#""a\ud83d""#)), &mut batch).unwrap();
        dialect.close(&mut batch);
        let parts: Vec<_> = batch.parts().collect();
        assert_eq!(parts, [Part::Delta("a"), Part::Delta("\u{fffd}")]);
    }

    #[test]
    fn nothing_after_the_end_mark_spoils_the_answer() {
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        for data in [STOP, "nonsense", r#"{"error":"late"}"#, "", "[DONE]", "more nonsense"] {
            dialect.read(event(data), &mut batch).unwrap();
        }
        assert_eq!(dialect.finish().unwrap().reason, "stop");
        assert!(dialect.done());
    }

    #[test]
    fn a_tail_counts_with_its_end_mark_only() {
        let (mut dialect, mut batch) = (Dialect::default(), Batch::default());
        dialect.read_tail(event(&delta("\"a\"")), &mut batch).unwrap();
        dialect.read_tail(event("{\"choi"), &mut batch).unwrap();
        assert!(batch.is_empty() && dialect.finish().is_none());
        dialect.read_tail(event(STOP), &mut batch).unwrap();
        assert!(dialect.finish().is_some());
    }

    #[test]
    fn errors_and_nonsense_are_told_apart() {
        let fault = |event| Dialect::default().read(event, &mut Batch::default()).unwrap_err().fault;
        assert_eq!(fault(event(r#"{"error":{}}"#)), Fault::Error);
        assert_eq!(fault(Event { name: b"error", data: b"oops" }), Fault::Error);
        assert_eq!(fault(event(r#"{"choices":[{"finish_reason":"error"}]}"#)), Fault::Error);
        assert_eq!(fault(event("oops")), Fault::Protocol);
        assert_eq!(fault(event(&delta("5"))), Fault::Protocol);
    }
}
