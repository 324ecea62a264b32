//! The tail: the newest events of live turns, before they are rows of the journal.
//!
//! A row of the journal lies where its turn's rows lie, so that a commit of five hundred turns touches five hundred pages
//! of the database. The tail grows at its end only: one row a commit, whatever the number of turns. What it holds is read
//! once, by the process that comes after a crash.

use std::collections::HashMap;
use std::io::Write;

use bytes::Bytes;

use super::journal::{Chunk, Insert, ROW_BYTES};
use super::pool::{Done, write};
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::ids::TurnId;
use crate::domain::owner::Owner;

/// So many rows are recalled in one transaction: a crash may leave the traffic of ten seconds.
const RECALLED: i64 = 32;

/// Room for one turn's head…
const HEAD: usize = 56;
/// …and for the lines that come of it between two commits, at the pace of a model.
const LINES: usize = 192;

/// The new events of many turns, as one commit saves them.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    pub(super) number: u64,
    pub(super) forget: u64,
    heads: Vec<u8>,
    lines: Vec<u8>,
}

impl Tail {
    /// An empty row with room for so many turns. `number` rises from commit to commit; rows before `forget` are of no
    /// use any more, and go with the commit.
    pub fn new(number: u64, forget: u64, turns: usize) -> Self {
        let (heads, lines) = (Vec::with_capacity(turns * HEAD), Vec::with_capacity(turns * LINES));
        Self { number, forget, heads, lines }
    }

    /// Where a turn's lines go, whole and without a gap; then [`Tail::head`] says what they are.
    pub fn lines(&mut self) -> &mut Vec<u8> {
        &mut self.lines
    }

    /// Names the last `bytes` of the lines: events `first` to `last` of `turn`.
    pub fn head(&mut self, turn: &TurnId, first: u64, last: u64, bytes: usize) {
        let _infallible = writeln!(self.heads, "{turn} {first} {last} {bytes}");
    }

    /// Whether there is nothing in it to save.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Whether rows go with its commit.
    pub fn forgets(&self) -> bool {
        self.forget > 0
    }

    pub(super) fn columns(&self) -> (&[u8], &[u8]) {
        (&self.heads, &self.lines)
    }
}

/// The statement that saves a row of the tail. Saving one again changes nothing.
macro_rules! insert_tail {
    ($conn:expr, $tail:expr) => {{
        let (heads, lines) = $tail.columns();
        $conn
            .query("insert into tail (number, heads, lines) values ($1, $2, $3) on conflict (number) do nothing")
            .bind($tail.number.cast_signed())
            .bind(heads)
            .bind(lines)
    }};
}

/// Takes what a turn has in the tail out of it, on a connection inside a transaction. The turn has ended: its lines are in the
/// journal, or erased there too.
macro_rules! clear_tail {
    ($conn:expr, $turn:expr) => {{
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = $conn
            .query("select number, heads, lines from tail where instr(heads, cast($1 as blob)) > 0")
            .bind($turn.as_str())
            .rows()
            .await?;
        for (number, heads, lines) in rows {
            let (heads, lines) = $crate::store::tail::without($turn, &heads, &lines)?;
            $conn
                .query("update tail set heads = $1, lines = $2 where number = $3")
                .bind(heads)
                .bind(lines)
                .bind(number)
                .later()
                .await?;
        }
    }};
}

pub(super) use {clear_tail, insert_tail};

/// A row's heads and lines but for those of a turn.
pub(super) fn without(turn: &str, heads: &[u8], lines: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut rest = Tail::default();
    let pieces = pieces(heads, lines).ok_or(Error::Corrupt("tail.heads"))?;
    for piece in pieces.into_iter().filter(|piece| piece.turn != turn) {
        rest.lines.extend_from_slice(piece.lines);
        rest.head(&piece.turn.into(), piece.first, piece.last, piece.lines.len());
    }
    Ok((rest.heads, rest.lines))
}

/// One piece of a row: a turn's events `first` to `last`.
struct Piece<'a> {
    turn: &'a str,
    first: u64,
    last: u64,
    lines: &'a [u8],
}

/// The pieces of one row.
fn pieces<'a>(heads: &'a [u8], mut lines: &'a [u8]) -> Option<Vec<Piece<'a>>> {
    let heads = std::str::from_utf8(heads).ok()?;
    let mut pieces = Vec::new();
    for head in heads.lines() {
        let mut words = head.split(' ');
        let turn = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (first, last, bytes) = (number()?, number()?, usize::try_from(number()?).ok()?);
        let (mine, rest) = lines.split_at_checked(bytes)?;
        pieces.push(Piece { turn, first, last, lines: mine });
        lines = rest;
    }
    Some(pieces)
}

/// An open turn whose events may lie in the tail.
struct Open {
    owner: Owner,
    epoch: u64,
    /// The last of its events that is in the journal.
    last: u64,
    /// What is to go there.
    chunks: Vec<(u64, u64, Vec<u8>)>,
}

impl Open {
    /// Takes what follows; what the journal has already is left out. Both are cut at the ends of commits, so that no
    /// piece is in the journal by half.
    fn take(&mut self, piece: &Piece<'_>) -> Result<()> {
        if piece.last <= self.last {
            return Ok(());
        }
        if piece.first <= self.last {
            return Err(Error::Corrupt("tail.heads"));
        }
        self.last = piece.last;
        match self.chunks.last_mut() {
            Some((_, last, lines)) if *last + 1 == piece.first && lines.len() + piece.lines.len() <= ROW_BYTES => {
                *last = piece.last;
                lines.extend_from_slice(piece.lines);
            }
            _ => self.chunks.push((piece.first, piece.last, piece.lines.to_vec())),
        }
        Ok(())
    }
}

impl Store {
    /// Moves what the tail has of open turns into the journal, and empties it. For a process that has the database for
    /// itself and runs no turn: whoever left these is dead. Done in steps; what is left after one that failed is moved
    /// the next time.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn recall(&self) -> Result<()> {
        while self.recall_some().await? {}
        Ok(())
    }

    /// The oldest rows; says whether there may be more.
    async fn recall_some(&self) -> Result<bool> {
        write!(self, conn => {
            let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
                conn.query("select number, heads, lines from tail order by number limit $1")
                    .bind(RECALLED)
                    .rows()
                    .await?;
            let Some((newest, ..)) = rows.last() else { return Ok(Done::Rollback(false)) };
            let open: Vec<(String, String, String, i64, i64)> = conn.query(
                "select t.id, t.application_id, t.owner_id, t.epoch, \
                 coalesce((select max(j.last_seq) from journal j where j.turn_id = t.id), 0) \
                 from turns t where t.finished_at is null",
            )
            .rows()
            .await?;
            let open = open.into_iter().map(|(id, application, owner, epoch, last)| {
                let owner = Owner { application_id: application.into(), owner_id: owner.into() };
                (id, Open { owner, epoch: epoch.unsigned_abs(), last: last.unsigned_abs(), chunks: Vec::new() })
            });
            let mut open: HashMap<String, Open> = open.collect();
            for (_, heads, lines) in &rows {
                for piece in pieces(heads, lines).ok_or(Error::Corrupt("tail.heads"))? {
                    if let Some(turn) = open.get_mut(piece.turn) {
                        turn.take(&piece)?;
                    }
                }
            }
            let mut chunks = Vec::new();
            for (id, Open { owner, epoch, chunks: mine, .. }) in open {
                chunks.extend(mine.into_iter().map(|(first_seq, last_seq, lines)| Chunk {
                    turn_id: id.as_str().into(),
                    owner: owner.clone(),
                    epoch,
                    first_seq,
                    last_seq,
                    lines: Bytes::from(lines),
                }));
            }
            conn.insert_chunks(&chunks).await?;
            conn.query("delete from tail where number <= $1").bind(*newest).later().await?;
            Ok(Done::Commit(true))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_again() {
        let mut tail = Tail::default();
        assert!(tail.is_empty());
        for (turn, first, lines) in [("turn_a", 2, "{1}\n{2}\n"), ("turn_b", 9, "\u{0}é\n{2}\n")] {
            tail.lines().extend_from_slice(lines.as_bytes());
            tail.head(&turn.into(), first, first + 1, lines.len());
        }
        let (heads, lines) = tail.columns();
        let found = pieces(heads, lines).unwrap();
        let found: Vec<_> = found.iter().map(|piece| (piece.turn, piece.first, piece.last, piece.lines)).collect();
        assert_eq!(found, [("turn_a", 2, 3, &b"{1}\n{2}\n"[..]), ("turn_b", 9, 10, "\u{0}é\n{2}\n".as_bytes())]);
        assert!(pieces(heads, &lines[1..]).is_none(), "half a row is none");
        let (heads, lines) = without("turn_a", heads, lines).unwrap();
        let found = pieces(&heads, &lines).unwrap();
        let found: Vec<_> = found.iter().map(|piece| (piece.turn, piece.first, piece.last, piece.lines)).collect();
        assert_eq!(found, [("turn_b", 9, 10, "\u{0}é\n{2}\n".as_bytes())]);
        assert_eq!(without("turn_b", &heads, &lines).unwrap(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_the_journal_has_is_not_taken_twice() {
        let owner = Owner::local();
        let mut open = Open { owner, epoch: 1, last: 4, chunks: Vec::new() };
        for (first, last) in [(2, 4), (5, 6), (5, 6), (7, 7), (9, 9)] {
            open.take(&Piece { turn: "t", first, last, lines: b"x\n" }).unwrap();
        }
        let taken: Vec<_> = open.chunks.iter().map(|(first, last, lines)| (*first, *last, lines.len())).collect();
        assert_eq!(taken, [(5, 7, 4), (9, 9, 2)]);
        assert!(open.take(&Piece { turn: "t", first: 9, last: 11, lines: b"x\n" }).is_err(), "half of it is there");
    }
}
