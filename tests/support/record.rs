//! A turn as the record has it, and what that owes to a reader at any cursor: the contract's table, written out.

use serde_json::Value;

use super::fold::CRASH_GAP;
use super::{Client, Encoding, Fold, Frame};

/// A turn that has ended, as the record tells it.
pub struct Record {
    /// The turn.
    pub turn: String,
    /// All its events.
    pub frames: Vec<Frame>,
    /// Its answer.
    pub message: Value,
    /// S and R: the last seq that was saved before a crash, and the first one after it.
    pub crash: Option<(u64, u64)>,
}

impl Record {
    /// Reads a turn from its first event to its end. Fails unless its events are numbered without a gap but that of
    /// one crash, the last and no other is the end, and they fold into the saved answer.
    pub async fn read(client: &Client, turn: &str) -> Self {
        let frames = client.events(Encoding::Ndjson, turn, 0).await.rest().await;
        let whole = client.turn(turn).await;
        let message = whole["message"].clone();
        assert_eq!((&whole["status"], &whole["seq"]), (&message["status"], &message["seq"]), "{whole}");
        Fold::of(&frames).assert_same_as(&message);
        let seqs: Vec<_> = frames.iter().map(|frame| frame.seq().unwrap()).collect();
        assert_eq!((seqs.first(), frames[0].kind()), (Some(&1), "turn.started"), "{}", frames[0].json);
        let last = frames.last().unwrap();
        assert!(last.is_end() && last.json["saved"] == true, "the last event is no saved end: {}", last.json);
        let mut gaps = seqs.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| (pair[0], pair[1]));
        let crash = gaps.next();
        assert_eq!((gaps.next(), crash.map(|(saved, resumed)| resumed - saved)), (None, crash.map(|_| CRASH_GAP)));
        Self { turn: turn.to_owned(), frames, message, crash }
    }

    /// L: the last seq.
    pub fn last(&self) -> u64 {
        self.frames.last().unwrap().seq().unwrap()
    }

    /// How it ended.
    pub fn status(&self) -> &str {
        self.message["status"].as_str().unwrap()
    }

    /// The event of that number.
    pub fn event(&self, seq: u64) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.seq() == Some(seq))
    }

    /// Fails unless `frames` are what a reader at `cursor` is owed.
    #[track_caller]
    pub fn assert_owed(&self, cursor: u64, frames: &[Frame]) {
        let last = self.last();
        let snapshot = match self.crash {
            _ if cursor > last => Some(last - 1),
            Some((saved, resumed)) if saved < cursor && cursor < resumed - 1 => Some(resumed - 1),
            _ => None,
        };
        let (from, mut rest) = (snapshot.unwrap_or(cursor), frames);
        if let Some(seq) = snapshot {
            let first = frames.first().unwrap_or_else(|| panic!("{} after {cursor}: no snapshot", self.turn));
            assert_eq!((first.kind(), first.seq()), ("snapshot", Some(seq)), "after {cursor}: {}", first.json);
            rest = &frames[1..];
        }
        let due: Vec<_> = self.frames.iter().filter(|frame| frame.seq() > Some(from)).collect();
        for (due, came) in due.iter().zip(rest) {
            assert_eq!(due.json, came.json, "{} after {cursor}: left is due, right came", self.turn);
            assert_eq!(due.bytes, came.bytes);
        }
        assert_eq!(rest.len(), due.len(), "{} after {cursor}: events came, events are due", self.turn);
    }

    /// Reads after `cursor`, and fails unless that gives what is owed; the frames that came.
    pub async fn resume(&self, client: &Client, encoding: Encoding, cursor: u64) -> Vec<Frame> {
        let mut stream = client.events(encoding, &self.turn, cursor).await;
        if stream.status() == 204 {
            assert_eq!((encoding, cursor), (Encoding::Sse, self.last()), "204 is for who has seen the end");
            return Vec::new();
        }
        let frames = stream.rest().await;
        self.assert_owed(cursor, &frames);
        assert!(encoding == Encoding::Ndjson || cursor != self.last(), "SSE after the end is 204");
        frames
    }
}
