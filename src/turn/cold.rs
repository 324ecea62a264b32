//! Reading a turn from the record: what is no longer in memory, what has ended, what runs on another replica.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;

use super::Turns;
use super::fold;
use super::live::Live;
use super::mirror::Guest;
use crate::domain::cursor::Owed;
use crate::domain::event::{Closed, Event, write_line};
use crate::domain::ids::TurnId;
use crate::domain::message::Message;
use crate::domain::owner::Owner;
use crate::store::journal::Batch;
use crate::store::turns::{Record, Standing};

/// How often a turn of another replica is looked at.
const POLL: Duration = Duration::from_millis(300);
/// How long to look away from a record that is changing.
const BLINK: Duration = Duration::from_millis(10);
/// How long a record may be changing: one that still lacks lines then has lost them.
const CHANGING: Duration = Duration::from_secs(5);
/// How soon the record mostly has what is between it and a mirror.
const APART: Duration = Duration::from_millis(100);

/// What comes out of the record.
pub enum Passage {
    /// Lines, the first of which is the event after `seq`.
    Lines {
        /// The seq before the first.
        seq: u64,
        /// Whole lines.
        lines: Vec<u8>,
    },
    /// Stands for everything up to its seq.
    Snapshot(Box<Message>),
    /// From here on it is in memory.
    Hot(Arc<Live>),
    /// From here on it is in memory as another replica tells it.
    Mirrored(Guest),
    /// It is all told.
    End,
    /// The turn is gone.
    Gone,
    /// The record cannot be read on.
    Closed(Closed),
}

/// A turn's events after `cursor`, by the table of cursors; with `follow`, until the turn's end.
pub fn read(
    turns: Turns,
    owner: Owner,
    turn: TurnId,
    cursor: u64,
    follow: bool,
) -> impl Stream<Item = Passage> + Send + 'static {
    async_stream::stream! {
        let mut cursor = cursor;
        // A snapshot stands once: what follows it are events.
        let mut shown = false;
        let (mut missing, mut batch) = (Missing::default(), Batch::default());
        // Since when it has waited for what is between the record and a mirror.
        let mut apart: Option<tokio::time::Instant> = None;
        loop {
            if let Some(live) = turns.registry.get(&owner, &turn) {
                if live.log.locate(cursor).is_some() {
                    yield Passage::Hot(live);
                    return;
                }
                // It lags behind what memory holds; all of that is saved.
                match turns.store.journal(&owner, &turn, cursor, batch.rows()).await {
                    Ok(rows) if rows.is_empty() => {
                        if missing.for_good(&turn, cursor) {
                            yield Passage::Closed(Closed::Unavailable);
                            return;
                        }
                        tokio::time::sleep(BLINK).await;
                    }
                    Ok(rows) => {
                        batch.came(&rows);
                        missing = Missing::default();
                        for row in rows {
                            let (seq, lines) = after(cursor, row.first_seq, row.lines);
                            yield Passage::Lines { seq, lines };
                            cursor = row.last_seq;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, turn_id = %turn, "a reader that lags cannot read the journal");
                        yield Passage::Closed(Closed::Unavailable);
                        return;
                    }
                }
                continue;
            }
            let step = match look(&turns, &owner, &turn, cursor, shown, &mut batch).await {
                Ok(Some(step)) => step,
                Ok(None) => {
                    yield Passage::Gone;
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, turn_id = %turn, "a reader cannot read the record");
                    yield Passage::Closed(Closed::Unavailable);
                    return;
                }
            };
            match step {
                Step::Nothing => {
                    yield Passage::End;
                    return;
                }
                Step::Snapshot(message) => {
                    cursor = message.seq;
                    shown = true;
                    yield Passage::Snapshot(message);
                }
                Step::Last { seq, line } => {
                    yield Passage::Lines { seq, lines: line };
                    yield Passage::End;
                    return;
                }
                // The record is changing under the reader's eyes: the next look sees more.
                Step::Rows(rows) if rows.is_empty() => {
                    if missing.for_good(&turn, cursor) {
                        yield Passage::Closed(Closed::Unavailable);
                        return;
                    }
                    tokio::time::sleep(BLINK).await;
                }
                Step::Rows(rows) => {
                    (missing, apart) = (Missing::default(), None);
                    for (seq, last, lines) in rows {
                        yield Passage::Lines { seq, lines };
                        cursor = last;
                    }
                }
                Step::Wait(standing) => {
                    missing = Missing::default();
                    if !follow {
                        yield Passage::End;
                        return;
                    }
                    match turns.mirror(&owner, &turn, &standing).await {
                        Some(guest) if guest.log.locate(cursor).is_some() => {
                            yield Passage::Mirrored(guest);
                            return;
                        }
                        // What is between is saved in a moment, or once the database answers its owner again.
                        Some(_) if apart.get_or_insert_with(tokio::time::Instant::now).elapsed() < APART => {
                            tokio::time::sleep(BLINK).await;
                            continue;
                        }
                        Some(_) | None => {}
                    }
                    tokio::select! {
                        () = tokio::time::sleep(POLL) => {}
                        () = turns.lifecycle.curfew().cancelled() => {
                            yield Passage::Closed(Closed::Draining);
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// Since when a record has not had what its reader is owed.
#[derive(Default)]
struct Missing(Option<tokio::time::Instant>);

impl Missing {
    /// Whether that is too long for a record that is only changing.
    fn for_good(&mut self, turn: &TurnId, cursor: u64) -> bool {
        let lost = self.0.get_or_insert_with(tokio::time::Instant::now).elapsed() >= CHANGING;
        if lost {
            tracing::error!(turn_id = %turn, cursor, "the record of a turn lacks events");
        }
        lost
    }
}

enum Step {
    Nothing,
    Snapshot(Box<Message>),
    Rows(Vec<(u64, u64, Vec<u8>)>),
    /// The end event of a turn whose events are dropped.
    Last {
        seq: u64,
        line: Vec<u8>,
    },
    Wait(Box<Standing>),
}

/// What a reader at `cursor` is owed by the record now; `None` when there is no such turn.
async fn look(
    turns: &Turns,
    owner: &Owner,
    turn: &TurnId,
    cursor: u64,
    shown: bool,
    batch: &mut Batch,
) -> crate::store::Result<Option<Step>> {
    let Some(standing) = turns.store.standing(owner, turn).await? else { return Ok(None) };
    let step = match standing.extent().owed(cursor) {
        Owed::Nothing => Step::Nothing,
        Owed::Snapshot(seq) => {
            let Some(record) = turns.store.turn(owner, turn).await? else { return Ok(None) };
            if shown && cursor == seq {
                last_line(record)
            } else {
                Step::Snapshot(Box::new(snapshot(turns, record, seq).await?))
            }
        }
        Owed::Events(cursor) => {
            let rows = turns.store.journal(owner, turn, cursor, batch.rows()).await?;
            batch.came(&rows);
            if rows.is_empty() && standing.status.is_end() {
                // Dropped since the turn was looked at: the next look sees it.
                return Ok(Some(Step::Rows(Vec::new())));
            }
            if standing.crash.is_none() && rows.first().is_some_and(|row| row.first_seq > cursor + 1) {
                // Recovered since the turn was looked at: the next look sees the gap, and what it owes.
                return Ok(Some(Step::Rows(Vec::new())));
            }
            if rows.is_empty() {
                return Ok(Some(Step::Wait(Box::new(standing))));
            }
            let rows = rows.into_iter().map(|row| {
                let (seq, lines) = after(cursor, row.first_seq, row.lines);
                (seq, row.last_seq, lines)
            });
            Step::Rows(rows.collect())
        }
    };
    Ok(Some(step))
}

/// The fold up to `seq`, `running` as it was then.
async fn snapshot(turns: &Turns, record: Record, seq: u64) -> crate::store::Result<Message> {
    match record.crash {
        Some(crash) if !record.dropped && seq + 1 == crash.resumed => {
            let draft = fold::saved(turns, &record.owner, &record.id, crash.saved).await?;
            let mut message = draft.into_message(record.stub());
            message.seq = seq;
            Ok(message)
        }
        Some(_) | None => Ok(record.message.before_end(seq)),
    }
}

fn last_line(record: Record) -> Step {
    let mut line = Vec::new();
    if let Some(finished) = record.finished {
        write_line(&mut line, record.seq, &Event::TurnFinished(finished));
    }
    Step::Last { seq: record.seq.saturating_sub(1), line }
}

/// The lines of a row after the event `cursor`, and the seq before them.
fn after(cursor: u64, first_seq: u64, mut lines: Vec<u8>) -> (u64, Vec<u8>) {
    let Some(skip) = (cursor + 1).checked_sub(first_seq).filter(|skip| *skip > 0) else {
        return (first_seq - 1, lines);
    };
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let end = memchr::memchr_iter(b'\n', &lines).nth(skip - 1).map_or(lines.len(), |at| at + 1);
    lines.drain(..end);
    (cursor, lines)
}
