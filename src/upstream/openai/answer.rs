//! A chat completion on its way.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use tokio::time::Instant;

use super::dialect::{Complaint, Dialect};
use crate::domain::ids::TurnId;
use crate::upstream::decoder::Decoder;
use crate::upstream::patience::Patience;
use crate::upstream::transport::{Body, Reply, Transport};
use crate::upstream::{Answer, Batch, Fault, Progress};

/// After the end mark the usage, `[DONE]` and the body's end are waited for so long.
const AFTER_FINISH: Duration = Duration::from_secs(1);
/// After `[DONE]` only the body's end is to come; a connection read to the end can be used again.
const AFTER_DONE: Duration = Duration::from_millis(10);

/// When to lose patience.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The first token must have come by then.
    pub first_token: Instant,
    /// After that no silence may last longer.
    pub idle: Duration,
}

/// What becomes of the bytes.
#[derive(Debug)]
enum Reading {
    Stream(Decoder),
    /// No stream but one JSON value, and its bound.
    Whole(Vec<u8>, usize),
}

type End = Result<Progress, Fault>;

/// A chat completion on its way.
#[derive(Debug)]
pub struct OpenaiAnswer {
    body: Body,
    listener: Listener,
    /// Told once what came before it has been handed on.
    end: Option<End>,
}

/// What makes sense of the bytes, and watches the time.
#[derive(Debug)]
struct Listener {
    name: Arc<str>,
    turn_id: TurnId,
    transport: Arc<Transport>,
    reading: Reading,
    /// The head promised something else; it may be what we read all the same.
    foreign: bool,
    dialect: Dialect,
    patience: Patience,
    idle: Duration,
    /// Deadlines move with what comes only between the first token and the end mark.
    started: bool,
    /// Silence is counted from when more is asked for: a caller that takes its time is not the upstream's fault.
    renew: bool,
    finishing: bool,
}

impl OpenaiAnswer {
    /// The answer whose head has come. No event of it, and not the whole if it is no stream, may be longer than
    /// `limit` bytes.
    pub fn new(
        name: &Arc<str>,
        turn_id: &TurnId,
        transport: &Arc<Transport>,
        reply: Reply,
        timing: Timing,
        limit: usize,
    ) -> Self {
        let kind = reply.headers.get(CONTENT_TYPE).map(|kind| essence(kind.as_bytes()));
        let is_json = kind.as_deref().is_some_and(is_json);
        let is_stream = kind.as_deref().is_none_or(|kind| kind == b"text/event-stream");
        let is_coded = reply.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        let reading = if is_json { Reading::Whole(Vec::new(), limit) } else { Reading::Stream(Decoder::new(limit)) };
        let listener = Listener {
            name: name.clone(),
            turn_id: turn_id.clone(),
            foreign: is_coded || !(is_json || is_stream),
            transport: transport.clone(),
            reading,
            dialect: Dialect::default(),
            patience: Patience::until(timing.first_token),
            idle: timing.idle,
            started: false,
            renew: false,
            finishing: false,
        };
        Self { body: reply.body, listener, end: None }
    }
}

impl Listener {
    /// Reads bytes; says whether that was the end.
    fn take(&mut self, bytes: &[u8], batch: &mut Batch) -> Option<End> {
        match &mut self.reading {
            Reading::Whole(whole, limit) => {
                if whole.len() + bytes.len() > *limit {
                    return Some(self.fault(Fault::Protocol, "an answer beyond upstream_event_bytes"));
                }
                whole.extend_from_slice(bytes);
                self.started = true;
            }
            Reading::Stream(decoder) => {
                let mut events = decoder.read(bytes);
                while let Some(event) = events.next() {
                    let read = match event {
                        Ok(event) => self.dialect.read(event, batch),
                        Err(_) => {
                            return Some(self.finished_or(Fault::Protocol, "an event beyond upstream_event_bytes"));
                        }
                    };
                    if let Err(complaint) = read {
                        return Some(self.complain(&complaint));
                    }
                }
            }
        }
        if self.dialect.done() && self.dialect.finish().is_none() {
            // Nothing more will come, even from a server that keeps the connection open.
            return Some(self.fault(Fault::Truncated, "[DONE] without a finish_reason"));
        }
        self.settle();
        None
    }

    /// Moves the deadline as what has come demands.
    fn settle(&mut self) {
        if self.dialect.done() {
            self.patience.shorten(AFTER_DONE);
        } else if self.dialect.finish().is_some() {
            if !self.finishing {
                self.finishing = true;
                self.patience.renew(self.idle.min(AFTER_FINISH));
            }
        } else if self.started || self.dialect.spoken() {
            self.started = true;
            self.renew = true;
        }
    }

    /// No more bytes will come, because of `cause` if that was not the body's own end.
    fn closed(&mut self, cause: Option<&str>, batch: &mut Batch) -> End {
        let read = match &mut self.reading {
            Reading::Stream(decoder) => match decoder.tail() {
                Some(tail) => self.dialect.read_tail(tail, batch),
                None => Ok(()),
            },
            Reading::Whole(whole, _) if cause.is_none() => self.dialect.read_whole(whole, batch),
            Reading::Whole(..) => Ok(()),
        };
        match read {
            Err(complaint) => self.complain(&complaint),
            Ok(()) if self.foreign => self.finished_or(Fault::Protocol, "a Content-Type or -Encoding that is not ours"),
            Ok(()) => self.finished_or(Fault::Truncated, cause.unwrap_or("no finish_reason before the end")),
        }
    }

    /// Once the end mark has come, nothing that happens to the rest is a fault.
    fn finished_or(&self, fault: Fault, said: &str) -> End {
        match self.dialect.finish() {
            Some(finish) => Ok(Progress::Finished(finish.clone())),
            None => self.fault(fault, said),
        }
    }

    /// Nothing came in time.
    fn silent(&self) -> End {
        self.finished_or(Fault::Silent, "nothing came in time")
    }

    fn is_out_of_patience(&self) -> bool {
        !self.renew && self.patience.is_over()
    }

    fn complain(&self, complaint: &Complaint) -> End {
        self.fault(complaint.fault, &complaint.said)
    }

    fn fault(&self, fault: Fault, said: &str) -> End {
        let said = self.transport.for_log(said);
        tracing::warn!(upstream = %self.name, turn_id = %self.turn_id, ?fault, ?said, "the upstream's answer broke off");
        Err(fault)
    }
}

impl Answer for OpenaiAnswer {
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<End> {
        if let Some(end) = &self.end {
            return Poll::Ready(end.clone());
        }
        let Self { body, listener, .. } = self;
        loop {
            if std::mem::take(&mut listener.renew) {
                listener.patience.renew(listener.idle);
            }
            let end = match body.poll_read(cx, |bytes| listener.take(bytes, batch)) {
                Poll::Ready(Some(Ok(end))) => end,
                Poll::Ready(Some(Err(broken))) => Some(listener.closed(Some(&broken.cause), batch)),
                Poll::Ready(None) => Some(listener.closed(None, batch)),
                Poll::Pending if listener.patience.poll(cx).is_pending() => return Poll::Pending,
                Poll::Pending => Some(listener.silent()),
            };
            // Whoever sends nothing without a pause never lets the timer speak.
            let said_nothing = end.is_none() && batch.is_empty();
            let end = if said_nothing && listener.is_out_of_patience() { Some(listener.silent()) } else { end };
            match end {
                None if batch.is_empty() => {}
                None => return Poll::Ready(Ok(Progress::More)),
                Some(end) => {
                    listener.dialect.close(batch);
                    self.end = Some(end.clone());
                    return Poll::Ready(if batch.is_empty() { end } else { Ok(Progress::More) });
                }
            }
        }
    }
}

/// A media type without its parameters, in lower case.
fn essence(content_type: &[u8]) -> Vec<u8> {
    content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase()
}

/// `application/json`, or anything `+json` (RFC 6839, section 3.1).
fn is_json(essence: &[u8]) -> bool {
    essence == b"application/json" || essence.ends_with(b"+json")
}
