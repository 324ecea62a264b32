//! SQLite's one writing connection, and a transaction on it that costs few messages to the thread that runs it.
//!
//! A message there and back takes longer than what most statements do. `begin` goes with the first statement, what may
//! wait goes with the next that may not, and the last takes the commit along: several statements, one message.

use futures::FutureExt;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteQueryResult, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Executor, SqlStr};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::thread::{self, Share};
use super::transaction::{Transaction, answer};
use super::{Error, Result};

/// Fails if the statement before it changed nothing: no turn is without an id.
const UNLESS_CHANGED: &str = "insert into turns (id) select null where changes() = 0";
const NOT_CHANGED: &str = "NOT NULL constraint failed: turns.id";

/// The connection, for one at a time, in the order in which they asked.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    seat: Mutex<Seat>,
}

enum Seat {
    Open(Line),
    /// To be opened by whoever comes next.
    Empty,
    Closed,
}

impl Seat {
    fn line(&mut self) -> Option<&mut Line> {
        match self {
            Self::Open(line) => Some(line),
            Self::Empty | Self::Closed => None,
        }
    }
}

struct Line {
    connection: SqliteConnection,
    /// A transaction was begun of which no end is known.
    begun: bool,
}

impl Writer {
    pub(super) async fn open(options: SqliteConnectOptions) -> sqlx::Result<Self> {
        let line = Line::open(&options).await?;
        Ok(Self { options, seat: Mutex::new(Seat::Open(line)) })
    }

    /// A connection beside it, set up alike, whose thread has this name.
    pub(super) async fn another(&self, thread: &'static str) -> sqlx::Result<SqliteConnection> {
        self.options.clone().thread_name(move |_| thread.to_owned()).connect().await
    }

    /// The connection, with no transaction open on it.
    async fn line(&self) -> sqlx::Result<MappedMutexGuard<'_, Line>> {
        let mut seat = self.seat.lock().await;
        if let Seat::Open(line) = &mut *seat
            && line.begun
            && line.clear().await.is_err()
            && let Seat::Open(line) = std::mem::replace(&mut *seat, Seat::Empty)
        {
            let _nothing_of_it_matters = line.connection.close().await;
        }
        if let Seat::Empty = *seat {
            *seat = Seat::Open(Line::open(&self.options).await?);
        }
        MutexGuard::try_map(seat, Seat::line).map_err(|_closed| sqlx::Error::PoolClosed)
    }

    /// Brings the database up to these migrations.
    pub(super) async fn migrate(&self, migrator: &Migrator) -> std::result::Result<(), MigrateError> {
        migrator.run(&mut self.line().await?.connection).await
    }

    /// A transaction; nothing is sent before its first statement.
    pub(super) async fn begin(&self) -> sqlx::Result<SqliteTransaction<'_>> {
        Ok(SqliteTransaction {
            line: self.line().await?,
            sql: String::new(),
            arguments: SqliteArguments::default(),
            over: false,
        })
    }

    /// Closes the connection once all who asked before have had it.
    pub(super) async fn close(&self) {
        if let Seat::Open(line) = std::mem::replace(&mut *self.seat.lock().await, Seat::Closed) {
            let _it_is_gone_either_way = line.connection.close().await;
        }
    }
}

impl Line {
    async fn open(options: &SqliteConnectOptions) -> sqlx::Result<Self> {
        let mut connection = options.connect().await?;
        thread::set_share(&mut connection, Share::Batch).await?;
        Ok(Self { connection, begun: false })
    }

    /// Undoes what was left open: by a statement that failed, by a future that was dropped. A full disk ends a
    /// transaction by itself (sqlite.org/lang_transaction.html, section 3), and then there is nothing to roll back;
    /// that none is open is told by one that can be begun.
    async fn clear(&mut self) -> sqlx::Result<()> {
        let _there_may_be_none = self.connection.execute("rollback").await;
        self.connection.execute("begin; rollback").await?;
        self.begun = false;
        Ok(())
    }
}

/// A transaction on the writing connection.
pub(super) struct SqliteTransaction<'w> {
    line: MappedMutexGuard<'w, Line>,
    /// What waits to be sent, with its arguments.
    sql: String,
    arguments: SqliteArguments,
    /// The last statement has been sent, and the commit with it.
    over: bool,
}

impl SqliteTransaction<'_> {
    async fn send(&mut self) -> Result<(Vec<SqliteRow>, u64)> {
        let sql = AssertSqlSafe(std::mem::take(&mut self.sql));
        let query = sqlx::query_with(sql, std::mem::take(&mut self.arguments));
        self.line.begun = true;
        let answered = answer(self.line.connection.fetch_many(query), SqliteQueryResult::rows_affected).await;
        answered.map_err(|error| match error.as_database_error() {
            Some(refusal) if refusal.message() == NOT_CHANGED => Error::Unchanged,
            _ => error.into(),
        })
    }

    /// What waits goes with it. Nothing is left to do after a last statement, or when nothing was said.
    pub(super) async fn commit(mut self) -> Result<()> {
        if self.line.begun || !self.sql.is_empty() {
            self.send_last().await?;
        }
        Ok(())
    }

    async fn send_last(&mut self) -> Result<Vec<SqliteRow>> {
        self.join("commit");
        self.over = true;
        let (rows, _) = self.send().await?;
        self.line.begun = false;
        Ok(rows)
    }

    pub(super) async fn rollback(mut self) -> Result<()> {
        debug_assert!(!self.over, "a rollback after the last statement, which took the commit along");
        if self.line.begun {
            (self.sql, self.arguments) = (String::from("rollback"), SqliteArguments::default());
            self.send().await?;
            self.line.begun = false;
        }
        Ok(())
    }

    /// Adds a statement to what waits. All share one list of arguments, so each counts on from those before it.
    fn join(&mut self, sql: &str) {
        debug_assert!(!self.over, "a statement after the last: {sql}");
        if self.sql.is_empty() {
            self.sql.push_str(if self.line.begun { "" } else { "begin immediate; " });
        } else {
            self.sql.push_str("; ");
        }
        renumber(&mut self.sql, sql, self.arguments.len());
    }
}

impl Drop for SqliteTransaction<'_> {
    /// What was not ended is rolled back at once; the next to come makes sure of it.
    fn drop(&mut self) {
        if self.line.begun {
            let _sent = self.line.connection.execute("rollback").now_or_never();
        }
    }
}

impl Transaction for SqliteTransaction<'_> {
    type Database = Sqlite;

    fn say(&mut self, sql: SqlStr) {
        self.join(sql.as_str());
    }

    fn arguments(&mut self) -> &mut SqliteArguments {
        &mut self.arguments
    }

    async fn later(&mut self) -> Result<()> {
        Ok(())
    }

    async fn must_change(&mut self) -> Result<()> {
        self.join(UNLESS_CHANGED);
        Ok(())
    }

    async fn run(&mut self) -> Result<(Vec<SqliteRow>, u64)> {
        self.send().await
    }

    async fn run_last(&mut self) -> Result<Vec<SqliteRow>> {
        self.send_last().await
    }
}

/// Writes `sql` behind `all`, its `$1` as the parameter after the first `before`. No statement of ours has a `$` in a
/// literal.
fn renumber(all: &mut String, sql: &str, before: usize) {
    let mut pieces = sql.split('$');
    all.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = piece.split_at(digits);
        let number = number.parse::<usize>().unwrap_or_default() + before;
        all.push('$');
        all.push_str(&number.to_string());
        all.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const INSERT: &str = "insert into t (n) values ($1)";

    fn options(home: &tempfile::TempDir) -> SqliteConnectOptions {
        let patience = Duration::from_millis(50);
        SqliteConnectOptions::new().filename(home.path().join("t.db")).create_if_missing(true).busy_timeout(patience)
    }

    /// A writer on a table of numbers, each of which can be there once.
    async fn writer(home: &tempfile::TempDir) -> Writer {
        let writer = Writer::open(options(home)).await.unwrap();
        let mut held = writer.begin().await.unwrap();
        held.query("create table t (n integer not null unique)").later().await.unwrap();
        held.commit().await.unwrap();
        writer
    }

    async fn numbers(writer: &Writer) -> Vec<i64> {
        let mut held = writer.begin().await.unwrap();
        let rows: Vec<(i64,)> = held.query("select n from t order by n").rows().await.unwrap();
        held.rollback().await.unwrap();
        rows.into_iter().map(|(n,)| n).collect()
    }

    #[test]
    fn parameters_count_on_from_those_before() {
        let mut all = String::from("a $1; ");
        renumber(&mut all, "b $1, $12", 9);
        assert_eq!(all, "a $1; b $10, $21");
        renumber(&mut all, "; c", 9);
        assert_eq!(all, "a $1; b $10, $21; c");
    }

    #[tokio::test]
    async fn what_waits_is_there_for_the_next_and_is_committed_with_the_last() {
        let home = tempfile::tempdir().unwrap();
        let writer = writer(&home).await;
        let mut held = writer.begin().await.unwrap();
        for n in [1, 2] {
            held.query(INSERT).bind(n).later().await.unwrap();
        }
        assert_eq!(held.query("update t set n = n + $2 where n > $1").bind(0).bind(10).changes().await.unwrap(), 2);
        held.query(INSERT).bind(3).later().await.unwrap();
        let last = held.query("update t set n = $2 where n = $1 returning n").bind(3).bind(4).last_row();
        assert_eq!(last.await.unwrap(), Some((4i64,)));
        held.commit().await.unwrap();
        let mut held = writer.begin().await.unwrap();
        assert_eq!(held.query("delete from t where n = $1").bind(12).changes().await.unwrap(), 1);
        held.query(INSERT).bind(5).later().await.unwrap();
        held.rollback().await.unwrap();
        writer.begin().await.unwrap().commit().await.unwrap();
        assert_eq!(numbers(&writer).await, [4, 11, 12]);
        writer.close().await;
        assert!(matches!(writer.begin().await, Err(sqlx::Error::PoolClosed)));
    }

    #[tokio::test]
    async fn nothing_stands_if_a_row_that_had_to_change_did_not() {
        const RAISE: &str = "update t set n = n + 10 where n = $1";
        let home = tempfile::tempdir().unwrap();
        let writer = writer(&home).await;
        let mut held = writer.begin().await.unwrap();
        held.query("create table turns (id text not null)").later().await.unwrap();
        held.query(INSERT).bind(1).later().await.unwrap();
        held.query(RAISE).bind(1).must_change().await.unwrap();
        held.commit().await.unwrap();
        assert_eq!(numbers(&writer).await, [11]);

        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(2).later().await.unwrap();
        held.query(RAISE).bind(3).must_change().await.unwrap();
        held.query(INSERT).bind(4).later().await.unwrap();
        assert!(matches!(held.commit().await, Err(Error::Unchanged)));
        let mut held = writer.begin().await.unwrap();
        held.query(RAISE).bind(3).must_change().await.unwrap();
        let last = held.query("update t set n = 5 returning n").last_row::<(i64,)>();
        assert!(matches!(last.await, Err(Error::Unchanged)));
        drop(held);
        assert_eq!(numbers(&writer).await, [11]);
    }

    #[tokio::test]
    async fn however_a_transaction_breaks_off_the_next_begins_anew() {
        let home = tempfile::tempdir().unwrap();
        let writer = writer(&home).await;
        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(1).later().await.unwrap();
        held.commit().await.unwrap();

        // One that waits fails, alone or before the last.
        let mut held = writer.begin().await.unwrap();
        for n in [2, 1, 3] {
            held.query(INSERT).bind(n).later().await.unwrap();
        }
        assert!(held.commit().await.is_err());
        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(2).changes().await.unwrap();
        held.query(INSERT).bind(1).later().await.unwrap();
        assert!(held.query("update t set n = 9 returning n").last_row::<(i64,)>().await.is_err());
        drop(held);
        assert_eq!(numbers(&writer).await, [1]);

        // Nobody waits for the answer any more.
        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(2).later().await.unwrap();
        let long = "with recursive c (n) as (select 1 union all select n + 1 from c where n < 1000000) \
            select count(*) from c";
        assert!(held.query(long).rows::<(i64,)>().now_or_never().is_none());
        drop(held);
        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(2).later().await.unwrap();
        assert!(Box::pin(held.commit()).now_or_never().is_none());
        assert!(matches!(*numbers(&writer).await, [1] | [1, 2]), "the commit may have been done");

        // It was ended behind our back, as by a full disk.
        let mut held = writer.begin().await.unwrap();
        held.query("rollback").later().await.unwrap();
        assert!(held.commit().await.is_err());
        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(7).later().await.unwrap();
        held.commit().await.unwrap();

        // Somebody else has the file.
        let mut other = options(&home).connect().await.unwrap();
        other.execute("begin immediate").await.unwrap();
        let mut held = writer.begin().await.unwrap();
        assert!(held.query(INSERT).bind(8).changes().await.is_err());
        drop(held);
        other.execute("rollback").await.unwrap();
        let found = numbers(&writer).await;
        assert!(found.contains(&7) && !found.contains(&8), "{found:?}");
        let mut held = writer.begin().await.unwrap();
        held.query(INSERT).bind(8).later().await.unwrap();
        held.commit().await.unwrap();
        other.execute("begin immediate; rollback").await.unwrap();
    }
}
