//! Checkpoints: what SQLite's log holds is moved into the database, off the path of those who write.
//!
//! Left to itself SQLite does it within the commit that makes the log long, with two fsyncs, and somebody's first delta
//! waits for it. Where there are fewer cores than work, the thread that does it here is the one to wait.

use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio_util::sync::CancellationToken;

use super::Store;
use super::pool::Pool;
use super::thread::{self, Share};
use super::writer::Writer;

/// How often the log is looked at.
pub const EVERY: Duration = Duration::from_secs(1);
/// So many pages are worth the fsyncs.
const WORTH: i64 = 250;
/// Of a log of so many, any are: it starts over once all of it is moved (sqlite.org/wal.html, section 2.3).
const LONG: i64 = 1000;
/// What comes in during one pass is moved by the next. What is left after so many is moved by a later round, or by the
/// writer's own limit.
const PASSES: u32 = 4;
/// So many free pages are overwritten by one commit: 16 MiB.
const OVERWRITTEN: i64 = 4096;
/// What the thread is called that empties the log.
const TRACES: &str = "sqlite-traces";
/// How often that is tried…
const TRIES: u32 = 40;
/// …and after which pause.
const AGAIN: Duration = Duration::from_millis(100);
/// What the connection's thread is called, in at most 15 bytes.
const THREAD: &str = "sqlite-log";
/// How nice that is to the others: a tenth of their share while they want it.
const NICE: i32 = 10;

/// The task: keeps the log short until `end`, looking every `every`. PostgreSQL does so by itself.
pub async fn run(store: Store, every: Duration, end: CancellationToken) {
    let Pool::Sqlite { write, .. } = &store.pool else { return };
    let mut connection = None;
    let mut failing = false;
    loop {
        let round = async {
            tokio::time::sleep(every).await;
            tidy(write, &mut connection).await
        };
        let done = tokio::select! {
            () = end.cancelled() => break,
            done = round => done,
        };
        if let Err(error) = &done {
            if !failing {
                tracing::warn!(%error, "the log of SQLite is not moved into the database; it is tried again");
            }
            connection = None;
        }
        failing = done.is_err();
    }
    // Whoever closes last empties the log: that is to be the store.
    if let Some(connection) = connection {
        let _it_is_gone_either_way = connection.close().await;
    }
}

impl Store {
    /// Overwrites SQLite's free pages and empties its log, in which what was erased may still stand as it was. Whoever reads for
    /// long keeps the log from that: then it is left to the task above, which starts it over sooner or later.
    pub async fn forget_traces(&self) {
        let Pool::Sqlite { write, .. } = &self.pool else { return };
        let emptied = async {
            let mut connection = write.another(TRACES).await?;
            overwrite_free(&mut connection).await?;
            // Writers wait as long as this does.
            sqlx::query("pragma busy_timeout = 50").execute(&mut connection).await?;
            let mut left = TRIES;
            let emptied = loop {
                let (busy, ..): (i64, i64, i64) =
                    sqlx::query_as("pragma wal_checkpoint(truncate)").fetch_one(&mut connection).await?;
                left -= 1;
                if busy == 0 || left == 0 {
                    break busy == 0;
                }
                tokio::time::sleep(AGAIN).await;
            };
            connection.close().await?;
            Ok::<bool, sqlx::Error>(emptied)
        };
        match emptied.await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("what was erased stands in the log of SQLite until that starts over"),
            Err(error) => tracing::warn!(%error, "the log of SQLite could not be emptied"),
        }
    }
}

/// Overwrites the pages that are free: rows that are nothing but zeros take them, [`OVERWRITTEN`] each so that writers wait for
/// none long, and go again. Below all numbers of the tail they are nobody's, and it drops what a crash leaves of them.
async fn overwrite_free(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::query("pragma secure_delete = on").execute(&mut *connection).await?;
    let free: i64 = sqlx::query_scalar("pragma freelist_count").fetch_one(&mut *connection).await?;
    let size: i64 = sqlx::query_scalar("pragma page_size").fetch_one(&mut *connection).await?;
    let rows = free / OVERWRITTEN + 1;
    for row in 1..=rows {
        sqlx::query("insert or ignore into tail (number, heads, lines) values (-$1, x'', zeroblob($2))")
            .bind(row)
            .bind(free.min(OVERWRITTEN) * size)
            .execute(&mut *connection)
            .await?;
    }
    for row in 1..=rows {
        sqlx::query("delete from tail where number = -$1").bind(row).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn tidy(writer: &Writer, connection: &mut Option<SqliteConnection>) -> sqlx::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let mut opened = writer.another(THREAD).await?;
            thread::set_share(&mut opened, Share::Nice(NICE)).await?;
            connection.insert(opened)
        }
    };
    let mut seen = Log::ask(connection, "pragma wal_checkpoint(noop)").await?;
    let left = seen.pages - seen.moved;
    if left == 0 || (left < WORTH && seen.pages < LONG) {
        return Ok(());
    }
    for _ in 0..PASSES {
        let log = Log::ask(connection, "pragma wal_checkpoint(passive)").await?;
        if log.pages == seen.pages && log.moved == seen.moved {
            break;
        }
        seen = log;
    }
    Ok(())
}

/// How long the log is, and how much of it is in the database.
struct Log {
    pages: i64,
    moved: i64,
}

impl Log {
    /// Whether the checkpoint was kept from its work does not matter: then another one was at it.
    async fn ask(connection: &mut SqliteConnection, pragma: &'static str) -> sqlx::Result<Self> {
        let (_busy, pages, moved): (i64, i64, i64) = sqlx::query_as(pragma).fetch_one(connection).await?;
        Ok(Self { pages, moved })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    #[tokio::test]
    async fn its_thread_is_nice_and_no_other() {
        let home = tempfile::tempdir().unwrap();
        let file = SqliteConnectOptions::new().filename(home.path().join("t.db")).create_if_missing(true);
        let writer = Writer::open(file).await.unwrap();
        let mut connection = None;
        tidy(&writer, &mut connection).await.unwrap();
        let mut nice = Vec::new();
        for task in fs::read_dir("/proc/self/task").unwrap() {
            // Linux proc_pid_stat(5): the name in parentheses, then fields 3 and on; the 19th is the nice value.
            let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
            let (name, fields) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
            if fields.split_whitespace().nth(16).unwrap() == NICE.to_string() {
                nice.push(name.to_owned());
            }
        }
        assert!(!nice.is_empty() && nice.iter().all(|name| name == THREAD), "{nice:?}");
    }
}
