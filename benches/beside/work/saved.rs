//! The record as it is seen from outside: a reader of its own on the SQLite file, while the gateway writes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memchr::memmem;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::clock;
use crate::drive::Void;
use crate::drive::stamp::Scanner;

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(3);

/// What the record held of one turn: from then on, so many deltas.
pub type Seen = Vec<(u64, u64)>;

/// Looks at the last saved rows of these turns until told to stop; for each turn what was seen, in order of time.
pub fn watch(url: &str, turns: &[String], stop: &AtomicBool) -> Result<Vec<Seen>, Void> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options: SqliteConnectOptions = url.parse()?;
        let mut record = options.read_only(true).connect().await?;
        let query = query(turns.len());
        let mut seen = vec![Seen::new(); turns.len()];
        // Once more after the end: the last of it counts, too.
        let mut ending = false;
        while !ending {
            ending = stop.load(Ordering::Relaxed);
            look(&mut record, &query, turns, &mut seen).await?;
            std::thread::sleep(EVERY);
        }
        record.close().await?;
        Ok(seen)
    })
}

async fn look(record: &mut SqliteConnection, sql: &str, turns: &[String], seen: &mut [Seen]) -> Result<(), Void> {
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for turn in turns {
        query = query.bind(turn);
    }
    let row = query.fetch_one(record).await?;
    let now = clock::now();
    for (column, seen) in seen.iter_mut().enumerate() {
        let lines: Option<&[u8]> = row.try_get(column)?;
        let lines = lines.unwrap_or_default();
        // The end is saved together with all before it.
        let mut last = memmem::find(lines, b"turn.finished").map(|_| u64::MAX);
        Scanner::default().scan(lines, |stamp| {
            last = Some(stamp.number + 1);
            Ok::<(), Void>(())
        })?;
        if let Some(count) = last
            && seen.last().is_none_or(|(_, before)| count > *before)
        {
            seen.push((now, count));
        }
    }
    Ok(())
}

/// The newest rows of so many turns, as one row.
fn query(turns: usize) -> String {
    let newest = |turn| format!("(select lines from journal where turn_id = ${turn} order by first_seq desc limit 1)");
    format!("select {}", (1..=turns).map(newest).collect::<Vec<_>>().join(", "))
}
