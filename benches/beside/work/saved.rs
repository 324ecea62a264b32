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

/// Looks at what is newly saved of these turns until told to stop; for each turn what was seen, in order of time.
pub fn watch(url: &str, turns: &[String], stop: &AtomicBool) -> Result<Vec<Seen>, Void> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options: SqliteConnectOptions = url.parse()?;
        let mut record = options.read_only(true).connect().await?;
        let mut watcher = Watcher { turns, journal: query(turns.len()), row: 0, seen: vec![Seen::new(); turns.len()] };
        // Once more after the end: the last of it counts, too.
        let mut ending = false;
        while !ending {
            ending = stop.load(Ordering::Relaxed);
            watcher.look(&mut record).await?;
            std::thread::sleep(EVERY);
        }
        record.close().await?;
        Ok(watcher.seen)
    })
}

struct Watcher<'a> {
    turns: &'a [String],
    /// The newest rows of the journal, where a turn's end is.
    journal: String,
    /// The last row of the tail that was seen.
    row: i64,
    seen: Vec<Seen>,
}

impl Watcher<'_> {
    async fn look(&mut self, record: &mut SqliteConnection) -> Result<(), Void> {
        let tail = sqlx::query("select number, heads, lines from tail where number > $1 order by number")
            .bind(self.row)
            .fetch_all(&mut *record)
            .await?;
        let mut journal = sqlx::query(AssertSqlSafe(self.journal.as_str()));
        for turn in self.turns {
            journal = journal.bind(turn);
        }
        let journal = journal.fetch_one(record).await?;
        let now = clock::now();
        for row in tail {
            self.row = row.try_get("number")?;
            let (heads, mut lines): (&str, &[u8]) =
                (std::str::from_utf8(row.try_get("heads")?)?, row.try_get("lines")?);
            // Each head: the turn, its first seq, its last, its bytes.
            for head in heads.lines() {
                let mut words = head.split(' ');
                let turn = words.next().unwrap_or_default();
                let bytes: usize = words.nth(2).unwrap_or_default().parse()?;
                let (mine, rest) =
                    lines.split_at_checked(bytes).ok_or_else(|| Void::new("a row of the tail is cut short"))?;
                lines = rest;
                if let Some(at) = self.turns.iter().position(|watched| watched == turn) {
                    self.note(at, now, mine)?;
                }
            }
        }
        for at in 0..self.turns.len() {
            let lines: Option<&[u8]> = journal.try_get(at)?;
            self.note(at, now, lines.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Notes the last delta that is saved with these lines.
    fn note(&mut self, at: usize, now: u64, lines: &[u8]) -> Result<(), Void> {
        // The end is saved together with all before it.
        let mut last = memmem::find(lines, b"turn.finished").map(|_| u64::MAX);
        Scanner::default().scan(lines, |stamp| {
            last = Some(stamp.number + 1);
            Ok::<(), Void>(())
        })?;
        let seen = &mut self.seen[at];
        if let Some(count) = last
            && seen.last().is_none_or(|(_, before)| count > *before)
        {
            seen.push((now, count));
        }
        Ok(())
    }
}

/// The newest rows of so many turns, as one row.
fn query(turns: usize) -> String {
    let newest = |turn| format!("(select lines from journal where turn_id = ${turn} order by first_seq desc limit 1)");
    format!("select {}", (1..=turns).map(newest).collect::<Vec<_>>().join(", "))
}
