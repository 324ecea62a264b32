//! Server-sent events, as an `EventSource` reads them (WHATWG HTML, section 9.2).

use bytes::{BufMut, BytesMut};

use super::{Tag, cursor};
use crate::domain::event::write_decimal;

/// What a reader may ask of the encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// An `event:` line with each event's type.
    pub named: bool,
    /// Signs of life as events instead of comments.
    pub visible_heartbeat: bool,
}

/// How long an `EventSource` waits before it comes back.
pub(super) fn open(out: &mut BytesMut) {
    out.extend_from_slice(b"retry: 1000\n\n");
}

/// One event; `line` is its JSON without a line end.
pub(super) fn event(out: &mut BytesMut, options: Options, seq: u64, line: &[u8], tag: Option<Tag<'_>>) {
    out.extend_from_slice(b"id: ");
    match tag {
        Some(tag) => cursor(out, seq, tag),
        None => write_decimal(out, seq),
    }
    out.put_u8(b'\n');
    name(out, options, line);
    out.extend_from_slice(b"data: ");
    match tag {
        Some(tag) => super::tagged(out, Some(seq), line, tag),
        None => out.extend_from_slice(line),
    }
    out.extend_from_slice(b"\n\n");
}

/// A frame without a number of its own; `line` has a feed's fields already.
pub(super) fn unnumbered(out: &mut BytesMut, options: Options, seq: Option<u64>, line: &[u8], tag: Option<Tag<'_>>) {
    if let Some(seq) = seq {
        out.extend_from_slice(b"id: ");
        match tag {
            Some(tag) => cursor(out, seq, tag),
            None => write_decimal(out, seq),
        }
        out.put_u8(b'\n');
    }
    name(out, options, line);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line);
    out.extend_from_slice(b"\n\n");
}

/// A sign of life: a comment, unless the reader wants to see it.
pub(super) fn ping(out: &mut BytesMut, options: Options) {
    if options.visible_heartbeat {
        name(out, options, b"{\"type\":\"ping\"}");
        out.extend_from_slice(b"data: {\"type\":\"ping\"}\n\n");
    } else {
        out.extend_from_slice(b": ping\n\n");
    }
}

/// Another time to wait before coming back, in milliseconds.
pub(super) fn retry(out: &mut BytesMut, retry_ms: u64) {
    out.extend_from_slice(b"retry: ");
    write_decimal(out, retry_ms);
    out.extend_from_slice(b"\n\n");
}

fn name(out: &mut BytesMut, options: Options, line: &[u8]) {
    if !options.named {
        return;
    }
    let head = &line[..line.len().min(256)];
    let kind = memchr::memmem::find(head, b"\"type\":\"").map(|at| &head[at + 8..]);
    if let Some(kind) = kind.and_then(|kind| memchr::memchr(b'"', kind).map(|end| &kind[..end])) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind);
        out.put_u8(b'\n');
    }
}
