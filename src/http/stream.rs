//! The body of a stream: frames as they come, and a sign of life when none does.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep};

use super::app::App;
use crate::domain::ids::{ConversationId, TurnId};
use crate::meter::Counted;
use crate::turn::feed::Feed;
use crate::turn::reader::{Reader, Step};
use crate::wire::Wire;

/// The turn a stream tells.
pub const TURN_ID: HeaderName = HeaderName::from_static("turn-id");
/// The conversation it is in.
pub const CONVERSATION_ID: HeaderName = HeaderName::from_static("conversation-id");
/// Tells nginx and what learned from it not to hold the stream back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// So much room is kept for the next frame.
const ROOM: usize = 4 << 10;

/// Where frames come from.
pub enum Source {
    /// One turn.
    Turn(Box<Reader>),
    /// A conversation's turns.
    Feed(Box<Feed>),
    /// Nothing at all.
    Empty,
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Step> {
        match self {
            Self::Turn(reader) => reader.poll(cx, out),
            Self::Feed(feed) => feed.poll(cx, out),
            Self::Empty => Poll::Ready(Step::Over(crate::turn::reader::Over::Told)),
        }
    }
}

struct Stream {
    source: Source,
    /// Where frames are written: the room of one that has left is used for the next.
    room: BytesMut,
    wire: Wire,
    opened: bool,
    heartbeat: Duration,
    next: Pin<Box<Sleep>>,
    _counted: Counted,
}

impl Stream {
    fn new(source: Source, wire: Wire, heartbeat: Duration, counted: Counted) -> Self {
        let next = Box::pin(tokio::time::sleep(heartbeat));
        Self { source, room: BytesMut::new(), wire, opened: false, heartbeat, next, _counted: counted }
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.room.capacity() > ROOM {
            this.room = BytesMut::new();
        }
        let out = &mut this.room;
        let first = !std::mem::replace(&mut this.opened, true);
        if first {
            this.wire.open(out);
        }
        match this.source.poll(cx, out) {
            Poll::Ready(Step::Frames) => {}
            Poll::Ready(Step::Over(_)) if out.is_empty() => return Poll::Ready(None),
            Poll::Ready(Step::Over(_)) => {}
            // Something from the first moment on, so that whatever stands between lets the answer's head through.
            Poll::Pending if first => this.wire.ping(out),
            Poll::Pending => {
                if this.next.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                this.next.as_mut().reset(Instant::now() + this.heartbeat);
                // Arms the timer again; the reader's waker is in place already.
                let _armed = this.next.as_mut().poll(cx);
                this.wire.ping(out);
            }
        }
        Poll::Ready(Some(Ok(Frame::data(out.split().freeze()))))
    }
}

/// The answer that streams `source`.
pub fn respond(
    app: &App,
    source: Source,
    wire: Wire,
    content_type: &'static str,
    turn: Option<&TurnId>,
    conversation: &ConversationId,
) -> Response {
    let stream = Stream::new(source, wire, app.turns.settings.stream.heartbeat(), app.turns.meter.reader());
    let mut response = Body::new(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    name(&mut response, turn, conversation);
    response
}

/// Names a turn and its conversation in an answer's head. Ids are our own: they are visible ASCII.
pub fn name(response: &mut Response, turn: Option<&TurnId>, conversation: &ConversationId) {
    let headers = response.headers_mut();
    if let Some(Ok(turn)) = turn.map(|turn| HeaderValue::try_from(turn.as_str())) {
        headers.insert(TURN_ID, turn);
    }
    if let Ok(conversation) = HeaderValue::try_from(conversation.as_str()) {
        headers.insert(CONVERSATION_ID, conversation);
    }
}
