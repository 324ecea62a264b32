//! Wires: how events are framed for a reader. The JSON of an event is the same bytes on each.
//!
//! To add an encoding: 1. a file here with the functions the others have; 2. a variant of [`Wire`]; 3. its media
//! type in `http/accept.rs`.

pub mod ndjson;
pub mod sse;

use bytes::{BufMut, BytesMut};

use crate::domain::cursor::FeedCursor;
use crate::domain::event::Unnumbered;

/// An encoding, with what its reader asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A JSON object on each line.
    Ndjson,
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse(sse::Options),
}

/// What a feed adds to each event: whose it is, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Tag<'a> {
    /// The turn.
    pub turn_id: &'a str,
    /// The turn's number in its conversation.
    pub number: u64,
}

impl Wire {
    /// What a stream opens with.
    pub fn open(self, out: &mut BytesMut) {
        match self {
            Self::Ndjson => {}
            Self::Sse(_) => sse::open(out),
        }
    }

    /// Frames whole lines, the first of which is the event after `seq`.
    pub fn lines(self, out: &mut BytesMut, seq: u64, lines: &[u8], tag: Option<Tag<'_>>) {
        match (self, tag) {
            (Self::Ndjson, None) => out.extend_from_slice(lines),
            (Self::Ndjson, Some(tag)) => each(seq, lines, |seq, line| {
                tagged(out, Some(seq), line, tag);
                out.put_u8(b'\n');
            }),
            (Self::Sse(options), tag) => each(seq, lines, |seq, line| sse::event(out, options, seq, line, tag)),
        }
    }

    /// Frames something that has no number of its own; a snapshot has its `seq`.
    pub fn unnumbered(self, out: &mut BytesMut, frame: &Unnumbered<'_>, tag: Option<Tag<'_>>) {
        let seq = match frame {
            Unnumbered::Snapshot { seq, .. } => Some(*seq),
            Unnumbered::Ping
            | Unnumbered::Closed { .. }
            | Unnumbered::Unsaved(_)
            | Unnumbered::Updated { .. }
            | Unnumbered::Deleted { .. } => None,
        };
        let mut line = BytesMut::from(&*crate::domain::json::to_vec(frame));
        if let Some(tag) = tag {
            let mut spliced = BytesMut::with_capacity(line.len() + 80);
            tagged(&mut spliced, seq, &line, tag);
            line = spliced;
        }
        match self {
            Self::Ndjson => {
                out.extend_from_slice(&line);
                out.put_u8(b'\n');
            }
            Self::Sse(options) => sse::unnumbered(out, options, seq, &line, tag),
        }
    }

    /// Another time to wait before coming back, in milliseconds, where the encoding has a word for it.
    pub fn retry(self, out: &mut BytesMut, retry_ms: u64) {
        match self {
            Self::Ndjson => {}
            Self::Sse(_) => sse::retry(out, retry_ms),
        }
    }

    /// A sign of life.
    pub fn ping(self, out: &mut BytesMut) {
        match self {
            Self::Ndjson => ndjson::ping(out),
            Self::Sse(options) => sse::ping(out, options),
        }
    }
}

fn each(seq: u64, lines: &[u8], mut give: impl FnMut(u64, &[u8])) {
    let (mut seq, mut from) = (seq, 0);
    for end in memchr::memchr_iter(b'\n', lines) {
        seq += 1;
        give(seq, &lines[from..end]);
        from = end + 1;
    }
}

/// An event with a feed's two fields: right behind the brace, where they hide nothing.
fn tagged(out: &mut BytesMut, seq: Option<u64>, line: &[u8], tag: Tag<'_>) {
    out.put_u8(b'{');
    if let Some(seq) = seq {
        out.extend_from_slice(b"\"cursor\":\"");
        cursor(out, seq, tag);
        out.extend_from_slice(b"\",");
    }
    // `turn.started` names its turn itself.
    if memchr::memmem::find(&line[..line.len().min(64)], b"\"type\":\"turn.started\"").is_none() {
        out.extend_from_slice(b"\"turn_id\":\"");
        out.extend_from_slice(tag.turn_id.as_bytes());
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(&line[1..]);
}

fn cursor(out: &mut BytesMut, seq: u64, tag: Tag<'_>) {
    use std::fmt::Write;
    let cursor = FeedCursor { number: tag.number, seq };
    let _infallible = write!(out, "{cursor}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"{\"seq\":1,\"type\":\"turn.started\",\"turn_id\":\"turn_1\"}\n{\"seq\":2,\"type\":\"delta\",\"text\":\"a\"}\n";

    fn framed(wire: Wire, tag: Option<Tag<'_>>) -> String {
        let mut out = BytesMut::new();
        wire.lines(&mut out, 0, LINES, tag);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn ndjson_is_the_lines_themselves() {
        assert_eq!(framed(Wire::Ndjson, None).as_bytes(), LINES);
    }

    #[test]
    fn sse_carries_the_seq_as_id_and_the_same_json() {
        let plain = Wire::Sse(sse::Options::default());
        assert_eq!(
            framed(plain, None),
            "id: 1\ndata: {\"seq\":1,\"type\":\"turn.started\",\"turn_id\":\"turn_1\"}\n\n\
             id: 2\ndata: {\"seq\":2,\"type\":\"delta\",\"text\":\"a\"}\n\n"
        );
        let named = Wire::Sse(sse::Options { named: true, ..sse::Options::default() });
        assert!(framed(named, None).contains("id: 2\nevent: delta\ndata: {"));
    }

    #[test]
    fn a_feed_adds_the_turn_and_its_cursor() {
        let tag = Tag { turn_id: "turn_1", number: 3 };
        assert_eq!(
            framed(Wire::Ndjson, Some(tag)),
            "{\"cursor\":\"3.1\",\"seq\":1,\"type\":\"turn.started\",\"turn_id\":\"turn_1\"}\n\
             {\"cursor\":\"3.2\",\"turn_id\":\"turn_1\",\"seq\":2,\"type\":\"delta\",\"text\":\"a\"}\n"
        );
        assert!(framed(Wire::Sse(sse::Options::default()), Some(tag)).starts_with("id: 3.1\ndata: {\"cursor\""));
    }
}
