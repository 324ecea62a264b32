//! An answer that is read event by event, and not believed.

use super::frames::{Frame, Frames};
use super::http1::{Closing, Exchange};
use super::within;

/// An answer that is read event by event. Dropped, the connection is closed.
pub struct Stream {
    exchange: Exchange,
    frames: Frames,
    raw: Vec<u8>,
    /// How the body ended, once it has.
    pub closing: Option<Closing>,
    /// The last numbered event, or snapshot, that was read.
    pub seq: u64,
    /// `ping` frames so far; SSE comments are not counted.
    pub pings: usize,
}

impl Stream {
    /// From the head of an answer on; `named`: SSE event names were asked for.
    pub fn new(exchange: Exchange, named: bool) -> Self {
        let sse = exchange.headers.iter().any(|(name, value)| name == "content-type" && value.contains("event-stream"));
        Self { exchange, frames: Frames::new(sse, named), raw: Vec::new(), closing: None, seq: 0, pings: 0 }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.exchange.status
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.exchange.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The turn, from `Turn-Id`.
    #[track_caller]
    pub fn turn(&self) -> String {
        let Some(turn) = self.header("turn-id") else {
            panic!("no Turn-Id: {} {:?}", self.status(), self.exchange.headers)
        };
        turn.to_owned()
    }

    /// SSE comments so far.
    pub fn comments(&self) -> &[String] {
        &self.frames.comments
    }

    /// The last `retry:`, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.frames.retry
    }

    /// The next frame but pings, or `None` at the close.
    pub async fn try_event(&mut self) -> Option<Frame> {
        within("the next event of a stream", async {
            loop {
                while let Some(frame) = self.frames.ready.pop_front() {
                    if frame.kind() != "ping" {
                        self.seq = frame.seq().unwrap_or(self.seq);
                        return Some(frame);
                    }
                    self.pings += 1;
                }
                if !self.read().await {
                    return None;
                }
            }
        })
        .await
    }

    /// The next frame but pings.
    pub async fn event(&mut self) -> Frame {
        match self.try_event().await {
            Some(frame) => frame,
            None => panic!("the stream is over ({:?}): {}", self.closing, self.tail()),
        }
    }

    /// So many frames.
    pub async fn events(&mut self, count: usize) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(count);
        while frames.len() < count {
            frames.push(self.event().await);
        }
        frames
    }

    /// What is left, up to the close, which must be clean and between two events.
    pub async fn rest(&mut self) -> Vec<Frame> {
        assert_eq!(self.status(), 200, "{}", self.text().await);
        let mut frames = Vec::new();
        while let Some(frame) = self.try_event().await {
            frames.push(frame);
        }
        assert_eq!(self.closing, Some(Closing::Clean), "{}", self.tail());
        assert!(self.frames.at_boundary(), "the stream ends inside an event: {}", self.tail());
        frames
    }

    /// What is left, however it ends; for streams that are cut by the test.
    pub async fn leavings(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.try_event().await {
            frames.push(frame);
        }
        frames
    }

    /// The whole body as text; for refusals.
    pub async fn text(&mut self) -> String {
        let reading = async {
            while let Ok(piece) = self.exchange.piece().await {
                self.raw.extend_from_slice(&piece);
            }
        };
        within("a body", reading).await;
        self.tail()
    }

    /// Reads on to the close without looking at what comes, and says how it ended.
    pub async fn read_to_close(&mut self) -> Closing {
        let reading = async {
            loop {
                if let Err(closing) = self.exchange.piece().await {
                    return closing;
                }
            }
        };
        within("a stream to close", reading).await
    }

    /// Reads on until exactly so many bytes have come from the socket, head included, or the close has.
    pub async fn bytes(&mut self, count: usize) {
        self.exchange.limit = count;
        let reading = async { while self.exchange.taken < count && self.read().await {} };
        within("the bytes of a stream", reading).await;
        self.exchange.limit = usize::MAX;
    }

    /// The whole frames that have come and were not taken yet, without reading on.
    pub fn come(&mut self) -> Vec<Frame> {
        let come: Vec<_> = self.frames.ready.drain(..).filter(|frame| frame.kind() != "ping").collect();
        self.seq = come.iter().rev().find_map(Frame::seq).unwrap_or(self.seq);
        come
    }

    /// Bytes read from the socket so far, head included.
    pub fn taken(&self) -> usize {
        self.exchange.taken
    }

    /// Our end's port, by which [`super::Gateway::holds`] knows the connection.
    pub fn port(&self) -> u16 {
        self.exchange.port()
    }

    /// From now on at most so many bytes a second are read; 0 = as they come.
    pub fn pace(&mut self, bytes_per_second: usize) {
        self.exchange.pace = bytes_per_second;
    }

    /// Closes the connection.
    pub fn leave(self) {}

    /// Resets the connection.
    pub fn abort(self) {
        self.exchange.abort();
    }

    async fn read(&mut self) -> bool {
        match self.exchange.piece().await {
            Ok(piece) => {
                self.raw.extend_from_slice(&piece);
                if self.raw.len() > 1 << 16 {
                    self.raw.drain(..self.raw.len() - (1 << 15));
                }
                if self.status() == 200 {
                    self.frames.feed(&piece).unwrap_or_else(|breach| panic!("{breach}\nin …{}", self.tail()));
                }
                true
            }
            Err(closing) => {
                self.closing = Some(closing);
                false
            }
        }
    }

    fn tail(&self) -> String {
        let from = self.raw.len().saturating_sub(2000);
        String::from_utf8_lossy(&self.raw[from..]).into_owned()
    }
}
