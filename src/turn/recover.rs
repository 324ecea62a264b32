//! What a dead process left: each of its running turns gets its one end, and its queued turns go on here.

use std::sync::Arc;

use futures::stream::{self, TryStreamExt};

use super::Turns;
use super::ask::estimate;
use super::fold;
use super::live::{Live, Parts};
use super::prompt::{self, Request};
use crate::domain::cursor::Crash;
use crate::domain::draft::Draft;
use crate::domain::event::{Event, Finished, write_line};
use crate::domain::ids::StepId;
use crate::domain::message::StepStatus;
use crate::domain::turn::{Ending, Status};
use crate::store::Result;
use crate::store::ending::{self, Outcome};
use crate::store::journal::Chunk;
use crate::store::turns::Record;

/// How many turns are ended at once: a dead process leaves thousands, and all are to end within a second.
const AT_ONCE: usize = 8;

/// Picks up a turn that is this replica's and does not live here.
///
/// # Errors
/// The store's; asking again is safe.
pub async fn recover(turns: &Turns, record: Record) -> Result<()> {
    if turns.registry.any(&record.id).is_some() {
        return Ok(());
    }
    match record.status {
        Status::Queued => adopt(turns, record),
        Status::Running => interrupt(turns, record).await,
        Status::Completed
        | Status::Length
        | Status::Filtered
        | Status::Stopped
        | Status::Failed
        | Status::Truncated
        | Status::Timeout
        | Status::Interrupted => Ok(()),
    }
}

fn revive(turns: &Turns, record: &Record) -> Live {
    Live::new(Parts {
        lease: record.lease(),
        number: record.number,
        stub: record.stub(),
        user_message_id: record.user_message_id.clone(),
        request: Request::from_text(&record.request),
        log: turns.new_log(),
        permit: None,
    })
}

/// Runs a queued turn here. Its readers are gone, so it goes on without one until one has come.
fn adopt(turns: &Turns, record: Record) -> Result<()> {
    tracing::info!(turn_id = %record.id, "a queued turn goes on here");
    turns.run(Arc::new(revive(turns, &record)), true);
    Ok(())
}

/// Ends a turn that was running, in one transaction: the numbering jumps, so that no seq that anybody may have
/// seen gets a second meaning.
async fn interrupt(turns: &Turns, record: Record) -> Result<()> {
    let live = revive(turns, &record);
    let saved = turns.store.journal_end(&record.owner, &record.id).await?;
    let mut draft = fold::saved(turns, &record.owner, &record.id, saved).await?;
    let crash = Crash::after(saved);
    let mut events = Vec::new();
    if let Some(step_id) = open_call(&draft) {
        let call = prompt::call(turns, &live, &live.request).await?;
        let said = draft.clone();
        let usage = turns.lifecycle.blocking(move || estimate(&call, said.content(), said.reasoning())).await;
        let model = record.model.clone();
        events.extend(usage.map(|usage| Event::Usage { step_id, model, usage }));
    }
    let now = turns.now();
    let since = record.started_at.unwrap_or(record.created_at);
    let finished =
        Finished::new(Ending::plain(Status::Interrupted), record.message.id.clone(), now.millis_since(since), None);
    events.push(Event::TurnFinished(finished.clone()));
    let mut lines = Vec::new();
    let mut seq = crash.resumed - 1;
    for event in events {
        seq += 1;
        write_line(&mut lines, seq, &event);
        draft.apply(seq, event);
    }
    let (turn_id, owner, epoch) = (record.id.clone(), record.owner.clone(), record.epoch);
    let tail = Chunk { turn_id, owner, epoch, first_seq: crash.resumed, last_seq: seq, lines: lines.into() };
    let ending = ending::Ending {
        message: Arc::new(draft.into_message(record.stub())),
        finished,
        tail: vec![tail],
        crash: Some(crash),
        now,
        key_expires: turns.kept_until(),
    };
    if let Outcome::Written(Some(next)) = turns.store.end_turn(&record.lease(), &ending).await?
        && let Some(next) = turns.registry.any(&next)
    {
        next.due.cancel();
    }
    turns.meter.turn_finished(Status::Interrupted, now.millis_since(since), None);
    tracing::info!(turn_id = %record.id, last_saved = saved, "a turn was interrupted by a crash");
    Ok(())
}

/// The model call that was under way, if it had begun to answer: it has cost something.
fn open_call(draft: &Draft) -> Option<StepId> {
    let call = draft.steps().iter().rev().find(|step| step.kind == "model" && step.status == StepStatus::Running)?;
    let answered = !draft.content().is_empty() || !draft.reasoning().is_empty();
    answered.then(|| call.step_id.clone())
}

/// Picks up every open turn that was taken over and does not live here yet. One that was admitted here has never
/// changed hands: it is about to live, if it does not.
///
/// # Errors
/// The store's; asking again is safe.
pub async fn all(turns: &Turns) -> Result<()> {
    let mut records = turns.store.turns_of(&turns.replica()).await?;
    records.retain(|record| record.epoch > 1);
    // Queued ones first: each must be here when the end before it makes it due.
    let (queued, running): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.status == Status::Queued);
    for record in queued {
        recover(turns, record).await?;
    }
    let running = stream::iter(running.into_iter().map(Ok));
    running.try_for_each_concurrent(AT_ONCE, |record| recover(turns, record)).await?;
    for request in turns.store.requests(&turns.replica()).await? {
        if let Some(live) = turns.registry.any(&request.turn_id).filter(|_| request.due) {
            live.due.cancel();
        }
    }
    Ok(())
}
