//! The body of a stream: frames as they come, and a sign of life when none does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http_body::{Body as HttpBody, Frame};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::app::App;
use super::asker::Who;
use crate::access::revoked::Watch;
use crate::access::streams::Place;
use crate::domain::event::{Closed, Unnumbered};
use crate::domain::ids::{ConversationId, TurnId};
use crate::meter::Counted;
use crate::seldom::Seldom;
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

/// What a stream is counted by, and against what bounds its reader.
type Held = (Counted, Option<Place>);

/// Frames as they come, and a sign of life when none does.
pub struct Frames {
    source: Source,
    wire: Wire,
    /// What lets the reader in, and the word that it does so no more.
    revoked: Option<(Watch, Seldom<BoxFuture<'static, ()>>)>,
    opened: bool,
    heartbeat: Duration,
    next: Pin<Box<Sleep>>,
    _counted: Held,
}

impl Frames {
    fn new(source: Source, wire: Wire, heartbeat: Duration, watch: Option<Watch>, counted: Held) -> Self {
        let next = Box::pin(tokio::time::sleep(heartbeat));
        let revoked = watch.map(|watch| {
            let revoked = Seldom::new(watch.revoked().boxed());
            (watch, revoked)
        });
        Self { source, wire, revoked, opened: false, heartbeat, next, _counted: counted }
    }

    /// Appends the next frames to `out`; nothing when all is told, and nothing while it is pending.
    pub fn poll(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<()> {
        let first = !std::mem::replace(&mut self.opened, true);
        if first {
            self.wire.open(out);
        }
        if let Some((_, revoked)) = &mut self.revoked
            && Pin::new(revoked).poll(cx).is_ready()
        {
            self.revoked = None;
            // The reader goes with it; whoever asks again is refused.
            self.source = Source::Empty;
            self.wire.unnumbered(out, &Unnumbered::Closed { code: Closed::Revoked, retry_after_ms: None }, None);
            return Poll::Ready(());
        }
        match self.source.poll(cx, out) {
            Poll::Ready(Step::Frames | Step::Over(_)) => {}
            // Something from the first moment on, so that whatever stands between lets the answer's head through.
            Poll::Pending if first => self.wire.ping(out),
            Poll::Pending => {
                if self.next.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.next.as_mut().reset(Instant::now() + self.heartbeat);
                // Arms the timer again; the reader's waker is in place already.
                let _armed = self.next.as_mut().poll(cx);
                self.wire.ping(out);
            }
        }
        Poll::Ready(())
    }
}

/// A way for a stream's frames to leave its body: whoever serves the connection may go on with them by itself.
#[derive(Clone, Default)]
pub struct Handover(Arc<Mutex<Hand>>);

#[derive(Default)]
enum Hand {
    /// The body keeps them.
    #[default]
    Closed,
    /// They are wanted once the body has given its first frame.
    Open,
    /// Here they are.
    Full(Box<Frames>),
}

impl Handover {
    /// Asks for the frames after the first.
    pub fn want(&self) {
        *self.0.lock() = Hand::Open;
    }

    /// The frames, once the body has given them.
    pub fn take(&self) -> Option<Box<Frames>> {
        let mut hand = self.0.lock();
        match std::mem::take(&mut *hand) {
            Hand::Full(frames) => Some(frames),
            other @ (Hand::Closed | Hand::Open) => {
                *hand = other;
                None
            }
        }
    }

    /// Takes the frames out of a body, if they are wanted. Says whether they are gone.
    fn offer(&self, frames: &mut Option<Box<Frames>>) -> bool {
        let mut hand = self.0.lock();
        match (&*hand, frames.take()) {
            (Hand::Open, Some(given)) => *hand = Hand::Full(given),
            (_, kept) => *frames = kept,
        }
        frames.is_none()
    }
}

/// The frames as a body. What it gives after they were handed over is nothing, for ever.
struct Stream {
    frames: Option<Box<Frames>>,
    /// Where frames are written: the room of one that has left is used for the next.
    room: BytesMut,
    begun: bool,
    handover: Handover,
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if std::mem::replace(&mut this.begun, true) && this.handover.offer(&mut this.frames) {
            return Poll::Pending;
        }
        let Some(frames) = &mut this.frames else { return Poll::Pending };
        if this.room.capacity() > ROOM {
            this.room = BytesMut::new();
        }
        ready!(frames.poll(cx, &mut this.room));
        let out = this.room.split().freeze();
        Poll::Ready((!out.is_empty()).then(|| Ok(Frame::data(out))))
    }
}

/// The answer that streams `source`.
pub fn respond(
    app: &App,
    who: &Who,
    source: Source,
    wire: Wire,
    content_type: &'static str,
    (turn, conversation): (Option<&TurnId>, &ConversationId),
    place: Option<Place>,
) -> Response {
    let (heartbeat, counted) = (app.turns.settings.stream.heartbeat(), app.turns.meter.reader());
    let frames = Frames::new(source, wire, heartbeat, who.watch(), (counted, place));
    let (frames, handover) = (Some(Box::new(frames)), Handover::default());
    let stream = Stream { frames, room: BytesMut::new(), begun: false, handover: handover.clone() };
    let mut response = Body::new(stream).into_response();
    response.extensions_mut().insert(handover);
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
