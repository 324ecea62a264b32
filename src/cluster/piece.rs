//! A turn's events as replicas pass them on: a stream of Redis for each live turn.
//!
//! An entry's id is `SEQ-0`, with the last event in it (`SEQ-1` for an end that could not be saved): Redis takes none that is not
//! above the last, so whoever comes too late with a turn that others have ended is refused. A stream holds the last entries only,
//! and goes by itself; what came before is in the record.

use std::time::Duration;

use bytes::Bytes;
use redis::streams::{StreamId, StreamMaxlen, StreamRangeReply};
use redis::{FromRedisValue, Pipeline, RedisResult, Value};

use super::{Cluster, Error, Result, news};
use crate::domain::ids::{ConversationId, TurnId};

/// About so many entries of a stream are kept. Redis cuts whole nodes of it, so that there may be some more.
const ENTRIES: usize = 128;

/// How long who wrote a piece counts as alive after it: a crash may take so much of what was shown.
pub const LAST_WORD: Duration = Duration::from_millis(100);

/// A run of events of one turn, without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The lease it was written under.
    pub epoch: u64,
    /// The first event.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Their lines, line ends included.
    pub lines: Bytes,
    /// What comes after them.
    pub then: Then,
}

/// What comes after a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Others.
    More,
    /// Nothing: its last event is the turn's end, and saved.
    Ended,
    /// Nothing for now. It holds no event: `first` is the one after `last`, and its line is the end that could not be saved,
    /// without a seq.
    Unsaved,
}

/// A piece on its way.
#[derive(Debug)]
pub struct Parcel {
    /// The turn.
    pub turn: TurnId,
    /// The piece.
    pub piece: Piece,
    /// How long the stream is to be there from now on, where that is to be said anew.
    pub keep: Option<Duration>,
}

/// What became of a piece.
#[derive(Clone, Debug)]
pub enum Passed {
    /// Others can read it.
    On,
    /// The stream is further already: somebody else writes this turn.
    Late,
    /// Redis does not take it.
    Refused(Error),
}

/// The id of an entry.
pub(super) type Id = (u64, u64);

/// The key of a turn's stream.
pub(super) fn key(turn: &TurnId) -> String {
    format!("tidegate:turn:{turn}")
}

impl Piece {
    /// The id of its entry.
    pub(super) fn id(&self) -> Id {
        (self.last, u64::from(self.then == Then::Unsaved))
    }

    pub(super) fn from_entry(entry: &StreamId) -> Option<Self> {
        let number = |name: &str| entry.get::<u64>(name);
        let Value::BulkString(lines) = entry.map.get("lines")? else { return None };
        let lines = Bytes::copy_from_slice(lines);
        let (last, after) = entry.id.split_once('-')?;
        let then = match (number("ended"), after) {
            (Some(1), _) => Then::Ended,
            (_, "0") => Then::More,
            (_, _) => Then::Unsaved,
        };
        Some(Self { epoch: number("epoch")?, first: number("first")?, last: last.parse().ok()?, lines, then })
    }
}

fn requests(parcels: &[Parcel]) -> Pipeline {
    let mut requests = Pipeline::with_capacity(2 * parcels.len());
    for Parcel { turn, piece, keep } in parcels {
        let key = key(turn);
        let (last, after) = piece.id();
        let add = requests.cmd("XADD").arg(&key).arg(StreamMaxlen::Approx(ENTRIES)).arg(format!("{last}-{after}"));
        add.arg("epoch").arg(piece.epoch).arg("first").arg(piece.first).arg("lines").arg(&*piece.lines);
        if piece.then == Then::Ended {
            add.arg("ended").arg(1);
        }
        if let Some(keep) = keep {
            requests.cmd("EXPIRE").arg(&key).arg(keep.as_secs()).ignore();
        }
    }
    requests
}

impl Cluster {
    /// Passes pieces on, and tells of conversations that have changed, all at once. What became of each piece, in their order.
    ///
    /// # Errors
    /// Redis does not answer: each may have been passed on or not.
    pub async fn pass_on(&self, parcels: &[Parcel], changed: &[ConversationId]) -> Result<Vec<Passed>> {
        let mut requests = requests(parcels);
        news::tell(&mut requests, self.name(), changed);
        let answers: Vec<RedisResult<Value>> = self.ask(requests.ignore_errors()).await?;
        Ok(answers.into_iter().map(passed).collect())
    }

    /// What Redis has of a turn, from the oldest piece to the newest.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn pieces(&self, turn: &TurnId) -> Result<Vec<Piece>> {
        let mut range = redis::pipe();
        range.cmd("XRANGE").arg(key(turn)).arg("-").arg("+");
        let (found,): (StreamRangeReply,) = self.ask(&range).await?;
        Ok(found.ids.iter().filter_map(Piece::from_entry).collect())
    }
}

fn passed(answer: RedisResult<Value>) -> Passed {
    match answer.and_then(|value| Ok(String::from_redis_value(value)?)) {
        Ok(_) => Passed::On,
        // The one refusal of XADD that speaks of the id (redis.io, XADD).
        Err(error) if error.to_string().contains("equal or smaller") => Passed::Late,
        Err(error) => Passed::Refused(Error::of(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(last: u64, lines: &'static str, then: Then, keep: Option<Duration>) -> Parcel {
        let turn = TurnId::from("turn_1".to_owned());
        Parcel { turn, piece: Piece { epoch: 2, first: 3, last, lines: lines.into(), then }, keep }
    }

    /// What other versions of the program read and write: a change here takes two releases.
    #[test]
    fn the_entries_of_a_turn_are_these() {
        let parcels = [
            parcel(4, "{\"seq\":3}\n{\"seq\":4}\n", Then::More, Some(Duration::from_secs(300))),
            parcel(4, "{\"type\":\"turn.finished\"}\n", Then::Unsaved, None),
            parcel(5, "{\"seq\":5}\n", Then::Ended, None),
        ];
        let text = String::from_utf8(requests(&parcels).get_packed_pipeline()).unwrap();
        let words: Vec<&str> = text.split("\r\n").filter(|word| !word.starts_with(['$', '*'])).collect();
        let golden = "XADD tidegate:turn:turn_1 MAXLEN ~ 128 4-0 epoch 2 first 3 lines {\"seq\":3}\n{\"seq\":4}\n \
                      EXPIRE tidegate:turn:turn_1 300 \
                      XADD tidegate:turn:turn_1 MAXLEN ~ 128 4-1 epoch 2 first 3 lines {\"type\":\"turn.finished\"}\n \
                      XADD tidegate:turn:turn_1 MAXLEN ~ 128 5-0 epoch 2 first 3 lines {\"seq\":5}\n ended 1 ";
        assert_eq!(words.join(" "), golden);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_with_fields_that_are_not_known() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |id: &str, fields: &[(&str, &str)]| StreamId {
            id: id.to_owned(),
            map: fields.iter().map(|(name, value)| ((*name).to_owned(), bulk(value))).collect(),
            ..StreamId::default()
        };
        let fields = [("epoch", "2"), ("first", "3"), ("lines", "a\nb\n"), ("later", "x")];
        let piece = Piece::from_entry(&entry("4-0", &fields)).unwrap();
        assert_eq!(piece, Piece { epoch: 2, first: 3, last: 4, lines: "a\nb\n".into(), then: Then::More });
        assert_eq!(Piece::from_entry(&entry("4-1", &fields)).unwrap().then, Then::Unsaved);
        let ended = [("epoch", "2"), ("first", "3"), ("lines", "a\nb\n"), ("ended", "1")];
        assert_eq!(Piece::from_entry(&entry("4-0", &ended)).unwrap().then, Then::Ended);
        assert_eq!(Piece::from_entry(&entry("4-0", &fields[..2])), None);
    }
}
