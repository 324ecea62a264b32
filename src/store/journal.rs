//! The journal: the events of turns, as the lines their readers were given.

use bytes::Bytes;
use sqlx::AssertSqlSafe;

use super::pool::{Done, read, write};
use super::tail::{Tail, insert_tail};
use super::transaction::{OrUnchanged, PostgresTransaction, Transaction};
use super::writer::SqliteTransaction;
use super::{Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::cursor::Crash;
use crate::domain::ids::{ReplicaId, TurnId};
use crate::domain::owner::Owner;

/// The most rows one insert of SQLite carries: 7 values each, and SQLite takes 32,766 in a statement.
const ROWS: usize = 1024;

/// An insert of at most so many rows need not be sent at once: it goes with the next statement.
const FEW: usize = 4;

/// A row of the journal holds about so much, in bytes.
pub const ROW_BYTES: usize = 64 << 10;

/// Events of one turn that follow each other without a gap.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The turn.
    pub turn_id: TurnId,
    /// Whose it is.
    pub owner: Owner,
    /// How often it has changed hands.
    pub epoch: u64,
    /// The seq of the first.
    pub first_seq: u64,
    /// The seq of the last.
    pub last_seq: u64,
    /// A JSON line each, line ends included.
    pub lines: Bytes,
}

/// Events as they are read back.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The seq of the first.
    pub first_seq: u64,
    /// The seq of the last.
    pub last_seq: u64,
    /// A JSON line each, line ends included.
    pub lines: Vec<u8>,
}

/// How many rows of a turn's journal are read at once: as many as make about [`ROW_BYTES`], by those that came before. On SQLite one row may
/// hold so much, on PostgreSQL what a model says in the time of one commit.
#[derive(Clone, Copy, Debug)]
pub struct Batch(u32);

impl Batch {
    const LEAST: u32 = 2;
    const MOST: u32 = 64;

    /// For [`Store::journal`].
    pub fn rows(self) -> u32 {
        self.0
    }

    /// Notes what came.
    pub fn came(&mut self, rows: &[Saved]) {
        let bytes: usize = rows.iter().map(|row| row.lines.len()).sum();
        if bytes < ROW_BYTES / 2 {
            self.0 = (self.0 * 2).min(Self::MOST);
        } else if bytes > ROW_BYTES {
            self.0 = (self.0 / 2).max(Self::LEAST);
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self(Self::LEAST)
    }
}

/// The name of a lock: on PostgreSQL the journal's commits share it; whoever erases turns has it alone for a moment, so that
/// nothing of a turn that is gone is saved after it. Of what these commits may wait for nothing is touched before it is
/// taken: they insert rows of the journal of turns that run or have just ended. SQLite has but one writer.
pub(super) const ERASING: i64 = 0x7469_6465;

/// A transaction that saves chunks, but for those of turns that are gone. Saving one again changes nothing.
pub(super) trait Insert {
    /// Saves them, before the commit at the latest.
    async fn insert_chunks(&mut self, chunks: &[Chunk]) -> Result<()>;
}

impl Insert for PostgresTransaction {
    /// In one round trip, however many there are: every one that a commit needs is time in which what was shown
    /// can be lost.
    async fn insert_chunks(&mut self, chunks: &[Chunk]) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let number = |of: fn(&Chunk) -> u64| chunks.iter().map(|chunk| of(chunk).cast_signed()).collect::<Vec<_>>();
        let text = |of: fn(&Chunk) -> &str| chunks.iter().map(of).collect::<Vec<_>>();
        self.query(
            "insert into journal (turn_id, first_seq, last_seq, application_id, owner_id, epoch, lines) \
             select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], \
             $7::bytea[]) as v (turn) where exists (select 1 from turns t where t.id = v.turn) \
             on conflict (turn_id, first_seq) do nothing",
        )
        .bind(text(|chunk| chunk.turn_id.as_str()))
        .bind(number(|chunk| chunk.first_seq))
        .bind(number(|chunk| chunk.last_seq))
        .bind(text(|chunk| &chunk.owner.application_id))
        .bind(text(|chunk| &chunk.owner.owner_id))
        .bind(number(|chunk| chunk.epoch))
        .bind(chunks.iter().map(|chunk| &chunk.lines[..]).collect::<Vec<_>>())
        .later()
        .await
    }
}

impl Insert for SqliteTransaction<'_> {
    /// In groups. A small one at the end may wait for the commit; if all did, so many rows would be so many texts to
    /// prepare.
    async fn insert_chunks(&mut self, chunks: &[Chunk]) -> Result<()> {
        let mut left = chunks;
        while !left.is_empty() {
            let (now, later) = left.split_at(group(left.len()));
            let mut query = self.query(insert(now.len()));
            for chunk in now {
                query = query
                    .bind(chunk.turn_id.as_str())
                    .bind(chunk.first_seq.cast_signed())
                    .bind(chunk.last_seq.cast_signed())
                    .bind(&*chunk.owner.application_id)
                    .bind(&*chunk.owner.owner_id)
                    .bind(chunk.epoch.cast_signed())
                    .bind(&chunk.lines[..]);
            }
            if later.is_empty() && now.len() <= FEW {
                query.later().await?;
            } else {
                query.changes().await?;
            }
            left = later;
        }
        Ok(())
    }
}

/// The insert of so many rows. Only powers of two are asked for, so that few statements stay prepared.
fn insert(rows: usize) -> AssertSqlSafe<String> {
    let mut sql = String::from(
        "insert into journal (turn_id, first_seq, last_seq, application_id, owner_id, epoch, lines) select * from (values ",
    );
    for row in 0..rows {
        let at = row * 7;
        let comma = if row == 0 { "" } else { ", " };
        sql.push_str(comma);
        sql.push('(');
        for column in 1..=7 {
            let comma = if column == 1 { "$" } else { ", $" };
            sql.push_str(comma);
            sql.push_str(&(at + column).to_string());
        }
        sql.push(')');
    }
    sql.push_str(
        ") v where exists (select 1 from turns t where t.id = v.column1) on conflict (turn_id, first_seq) do nothing",
    );
    AssertSqlSafe(sql)
}

/// The largest power of two that is at most `left` and [`ROWS`].
fn group(left: usize) -> usize {
    1 << left.clamp(1, ROWS).ilog2()
}

impl Store {
    /// Saves the events of many turns in one transaction: those in the `tail` there, and `chunks` as rows of the journal.
    /// It renews the replica's lease as well, and is false, with nothing saved, when that is lost: another replica has
    /// these turns now. In SQLite's file, which no other process serves, what only adds to the tail does without a lease.
    /// Saving the same again changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn append_journal(&self, replica: &ReplicaId, tail: &Tail, chunks: &[Chunk]) -> Result<bool> {
        let alone = !self.is_shared() && chunks.is_empty() && !tail.is_empty() && !tail.forgets();
        let saved = write!(self, first, conn => {
            if self.is_shared() && !chunks.is_empty() {
                // The next statement sees what there is once nobody erases. A beat alone waits for no erasure.
                let erased = "select pg_advisory_xact_lock_shared($1) is not null";
                let _sure: Vec<(bool,)> = conn.query(erased).bind(ERASING).rows().await?;
            }
            conn.insert_chunks(chunks).await?;
            if !tail.is_empty() {
                insert_tail!(conn, tail).later().await?;
            }
            if tail.forget > 0 {
                conn.query("delete from tail where number < $1")
                    .bind(tail.forget.cast_signed())
                    .later()
                    .await?;
            }
            if !alone {
                // The last, though nothing stands without it: rows of the journal may wait for an end that has the same ones in hand, and
                // whoever renews the lease alone is not to wait for that.
                conn.query("update replicas set beat = beat + 1 where id = $1 and fenced_at is null")
                    .bind(replica.as_str())
                    .must_change()
                    .await?;
            }
            Ok(Done::Commit(true))
        });
        saved.or_unchanged(false)
    }

    /// The first saved chunks of a turn that hold events after `after`, at most `limit` of them, and none beyond a gap
    /// but that of a crash.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn journal(&self, owner: &Owner, turn: &TurnId, after: u64, limit: u32) -> Result<Vec<Saved>> {
        read!(self, conn => {
            let rows: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(
                "select first_seq, last_seq, lines from journal \
                 where turn_id = $1 and application_id = $2 and owner_id = $3 and last_seq > $4 \
                 order by first_seq limit $5",
            )
            .bind(turn.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(after.cast_signed())
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            let mut last = after;
            let saved = rows.into_iter().map(|(first, last, lines)| Saved {
                first_seq: first.unsigned_abs(),
                last_seq: last.unsigned_abs(),
                lines,
            });
            let saved = saved.take_while(|row| {
                let follows = row.first_seq <= last + 1 || row.first_seq == Crash::after(last).resumed;
                last = row.last_seq;
                follows
            });
            Ok(saved.collect())
        })
    }

    /// The last saved seq of a turn; 0 for none.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn journal_end(&self, owner: &Owner, turn: &TurnId) -> Result<u64> {
        read!(self, conn => {
            let last: Option<i64> = sqlx::query_scalar(
                "select max(last_seq) from journal where turn_id = $1 and application_id = $2 and owner_id = $3",
            )
            .bind(turn.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .fetch_one(conn)
            .await?;
            Ok(last.unwrap_or(0).unsigned_abs())
        })
    }

    /// Drops the events of up to `limit` turns that ended before `before`, each turn's whole; says of how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drop_journals(&self, before: Timestamp, now: Timestamp, limit: u32) -> Result<u64> {
        // Somebody else may drop or erase some at this moment.
        let free = self.unless_locked();
        write!(self, conn => {
            let turns: Vec<(String,)> = conn.query(AssertSqlSafe(format!(
                "update turns set dropped_at = $1 where id in (select id from turns \
                 where finished_at <= $2 and finished_at is not null and dropped_at is null limit $3 {free}) returning id"
            )))
            .bind(now.as_micros())
            .bind(before.as_micros())
            .bind(i64::from(limit))
            .rows()
            .await?;
            for (turn,) in &turns {
                conn.query("delete from journal where turn_id = $1").bind(turn.as_str()).changes().await?;
            }
            Ok(Done::Commit(turns.len() as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_rows_are_read_many_at_once_and_large_ones_few() {
        let mut batch = Batch::default();
        let came = |rows: u32, bytes: usize| {
            let row = Saved { first_seq: 1, last_seq: 1, lines: vec![b'x'; bytes] };
            vec![row; rows as usize]
        };
        let sizes = |batch: &mut Batch, bytes: usize, looks: usize| {
            let mut sizes = Vec::new();
            for _ in 0..looks {
                batch.came(&came(batch.rows(), bytes));
                sizes.push(batch.rows());
            }
            sizes
        };
        assert_eq!(sizes(&mut batch, 100, 7), [4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(sizes(&mut batch, 4 << 10, 4), [32, 16, 16, 16]);
        assert_eq!(sizes(&mut batch, ROW_BYTES, 5), [8, 4, 2, 2, 2]);
    }
}
