//! The message a turn's events make, wherever they are: in memory, or in the journal.

use super::Turns;
use super::live::Live;
use crate::domain::draft::Draft;
use crate::domain::event::read_line;
use crate::domain::ids::TurnId;
use crate::domain::message::Message;
use crate::domain::owner::Owner;
use crate::store::journal::{Batch, Saved};
use crate::store::{Error, Result};

/// Folds lines into a draft; the first is the event after `seq`.
fn apply(draft: &mut Draft, seq: u64, lines: &[u8]) {
    let mut seq = seq;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        seq += 1;
        match read_line(line) {
            Some(event) => draft.apply(seq, event),
            // A newer program on the same database may write what this one does not know.
            None => {
                tracing::error!(seq, "an event in the journal says nothing to this program");
                draft.skip(seq);
            }
        }
    }
}

/// Folds rows of the journal into a draft that ends where the first begins, up to and with the event `until`. A row
/// may reach beyond: what is live grows while it is read.
fn apply_rows(draft: &mut Draft, rows: &[Saved], until: u64) {
    for row in rows.iter().take_while(|row| row.first_seq <= until) {
        let mut lines = &row.lines[..];
        if row.last_seq > until {
            let keep = usize::try_from(until + 1 - row.first_seq).unwrap_or(usize::MAX);
            let end = memchr::memchr_iter(b'\n', lines).nth(keep - 1).map_or(lines.len(), |at| at + 1);
            lines = &lines[..end];
        }
        apply(draft, row.first_seq - 1, lines);
    }
}

/// The fold of a turn's journal, up to and with the event `until`; of one that lacks events, up to the first gap.
pub async fn saved(turns: &Turns, owner: &Owner, turn: &TurnId, until: u64) -> Result<Draft> {
    let (mut draft, mut batch) = (Draft::default(), Batch::default());
    while draft.seq() < until {
        let rows = turns.store.journal(owner, turn, draft.seq(), batch.rows()).await?;
        batch.came(&rows);
        if rows.is_empty() {
            tracing::error!(turn_id = %turn, seq = draft.seq(), "the record of a turn lacks events");
            break;
        }
        apply_rows(&mut draft, &rows, until);
    }
    Ok(draft)
}

/// The fold of a live turn, as far as its readers may see.
pub async fn live(turns: &Turns, live: &Live) -> Result<Draft> {
    let visible = live.log.visible();
    up_to(turns, live, visible).await
}

/// The fold of a live turn, as far as it has come.
pub async fn whole(turns: &Turns, live: &Live) -> Result<Draft> {
    let appended = live.log.appended().seq;
    up_to(turns, live, appended).await
}

async fn up_to(turns: &Turns, live: &Live, until: u64) -> Result<Draft> {
    if let Some(draft) = live.log.draft().filter(|draft| draft.seq() == until) {
        return Ok(draft);
    }
    let (mut draft, mut batch) = (Draft::default(), Batch::default());
    loop {
        if let Some(lines) = live.log.lines(draft.seq(), until) {
            let seq = draft.seq();
            apply(&mut draft, seq, &lines);
            return Ok(draft);
        }
        let seq = draft.seq();
        let rows = turns.store.journal(&live.lease.owner, &live.lease.turn_id, seq, batch.rows()).await?;
        batch.came(&rows);
        apply_rows(&mut draft, &rows, until);
        if draft.seq() == until {
            return Ok(draft);
        }
        if draft.seq() == seq {
            return Err(Error::Corrupt("journal.lines"));
        }
    }
}

/// The message of a live turn now.
pub async fn message(turns: &Turns, live_turn: &Live) -> Result<Message> {
    if let Some(message) = live_turn.unsaved() {
        return Ok((*message).clone());
    }
    Ok(live(turns, live_turn).await?.into_message(live_turn.stub.clone()))
}
