//! A gateway with all it needs, and a turn told from beginning to end.

use serde_json::Value;

use super::{Client, Database, Fold, Frame, Gateway, Setup, Stream, Upstream};

/// A gateway on a fresh database with one fake upstream.
pub struct Scene {
    /// The gateway.
    pub gateway: Gateway,
    /// A client of it.
    pub client: Client,
    /// Its upstream.
    pub upstream: Upstream,
    /// Its database.
    pub database: Database,
}

impl Scene {
    /// With the settings as they are.
    pub async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    /// With other settings.
    pub async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (database, upstream) = (Database::fresh().await, Upstream::start().await);
        let gateway = change(Gateway::on(&database).upstream(&upstream)).start().await;
        Self { client: gateway.client(), gateway, upstream, database }
    }

    /// Asks in a new conversation and hears it out.
    pub async fn told(&self, content: &str) -> Told {
        let conversation = self.client.conversation().await;
        let stream = self.client.ask(&conversation, content).await;
        Told::hear(&self.client, &conversation, stream).await
    }
}

/// A turn as its first reader saw it, from the first event to the end.
pub struct Told {
    /// The conversation.
    pub conversation: String,
    /// The turn.
    pub turn: String,
    /// Every event.
    pub frames: Vec<Frame>,
    /// The saved message.
    pub message: Value,
}

impl Told {
    /// Reads on to the end of a stream that is at its beginning. Fails unless the events, one after another from 1
    /// and with exactly one end, fold into the saved message.
    pub async fn hear(client: &Client, conversation: &str, mut stream: Stream) -> Self {
        let frames = stream.rest().await;
        let message = client.answer(conversation).await;
        let told = Self { conversation: conversation.to_owned(), turn: stream.turn(), frames, message };
        for (at, frame) in told.frames.iter().enumerate() {
            assert_eq!(frame.seq(), Some(at as u64 + 1), "{}", frame.json);
        }
        assert_eq!(told.frames[0].kind(), "turn.started");
        assert!(told.end()["saved"] == true, "{}", told.end());
        Fold::of(&told.frames).assert_same_as(&told.message);
        told
    }

    /// The last event.
    pub fn end(&self) -> &Value {
        let last = self.frames.last().expect("events");
        assert!(last.is_end(), "the stream closed before the end, after {}", last.json);
        &last.json
    }

    /// L: the last seq.
    pub fn last(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The answer's text.
    pub fn content(&self) -> &str {
        self.message["content"].as_str().unwrap()
    }

    /// The texts of its events of one type.
    pub fn texts(&self, kind: &str) -> Vec<&str> {
        self.frames.iter().filter(|frame| frame.kind() == kind).map(Frame::text).collect()
    }

    /// Fails unless `frames` are this turn's events after `cursor`, byte for byte.
    #[track_caller]
    pub fn assert_after(&self, cursor: u64, frames: &[Frame]) {
        let due = &self.frames[usize::try_from(cursor).unwrap().min(self.frames.len())..];
        for (due, frame) in due.iter().zip(frames) {
            let same = due.bytes == frame.bytes;
            assert!(same, "after {cursor}: {} is due, and {} came", due.json, String::from_utf8_lossy(&frame.bytes));
        }
        assert_eq!(due.len(), frames.len(), "after {cursor}: events are due, and events came");
    }
}
