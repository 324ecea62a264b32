//! What a dead process left: each of its running turns gets its one end, and its queued turns go on here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, TryStreamExt};

use super::Turns;
use super::ask::estimate;
use super::calls;
use super::fold;
use super::live::{Cut, Live, Parts};
use super::prompt::{Request, prompt};
use super::run;
use super::window::{Fitted, fit};
use crate::cluster::piece::{Piece, Then};
use crate::domain::cursor::Crash;
use crate::domain::draft::Draft;
use crate::domain::event::{Event, Finished, write_line};
use crate::domain::ids::StepId;
use crate::domain::message::StepStatus;
use crate::domain::turn::{Ending, Status};
use crate::domain::usage::Usage;
use crate::store::Result;
use crate::store::ending::{self, Outcome};
use crate::store::indexing::Item;
use crate::store::journal::Chunk;
use crate::store::turns::Record;

/// How many turns are ended at once: a dead process leaves thousands, and all are to end within a second. More than there are
/// connections to the database, so that none waits for work.
const AT_ONCE: usize = 24;

/// Picks up an open turn that is this replica's and does not live here. False when it does so under an older lease,
/// which has to go first.
///
/// # Errors
/// The store's; asking again is safe.
pub async fn recover(turns: &Turns, record: Record) -> Result<bool> {
    if let Some(live) = turns.registry.any(&record.id) {
        let is_older = live.lease.epoch < record.epoch;
        if is_older {
            live.cut(Cut::Lost);
        }
        return Ok(!is_older);
    }
    if record.status == Status::Queued {
        adopt(turns, record);
    } else {
        interrupt(turns, record).await?;
    }
    Ok(true)
}

fn revive(turns: &Turns, record: &Record) -> Live {
    Live::new(Parts {
        lease: record.lease(),
        number: record.number,
        stub: record.stub(),
        user_message_id: record.user_message_id.clone(),
        request: Request::from_text(&record.request),
        nearing: Vec::new(),
        log: turns.new_log(),
        permit: None,
    })
}

/// Runs a turn that this replica admitted without being sure of it, and of which somebody was told meanwhile. No model was asked.
pub fn take_up(turns: &Turns, record: &Record) {
    let ours = record.replica_id == turns.replica() && record.epoch == 1 && !record.status.is_end();
    if !ours || turns.registry.any(&record.id).is_some() {
        // Another replica has it, or is about to; or it has ended.
        return;
    }
    tracing::info!(turn_id = %record.id, "a turn that was not sure to be admitted is run");
    let (live, queued) = (Arc::new(revive(turns, record)), record.status == Status::Queued);
    if !queued {
        live.log.append_saved(|append| append.event(run::started_event(&live)));
        turns.pass_on(&live);
    }
    turns.run(live, queued, None);
}

/// Runs a queued turn here. Its readers are gone, so it goes on without one until one has come.
fn adopt(turns: &Turns, record: Record) {
    tracing::info!(turn_id = %record.id, "a queued turn goes on here");
    turns.run(Arc::new(revive(turns, &record)), true, None);
}

/// Ends a turn that was running, in one transaction: the numbering jumps, so that no seq that anybody may have
/// seen gets a second meaning.
async fn interrupt(turns: &Turns, record: Record) -> Result<()> {
    let live = revive(turns, &record);
    let saved = turns.store.journal_end(&record.owner, &record.id).await?;
    let mut draft = fold::saved(turns, &record.owner, &record.id, saved).await?;
    let crash = Crash::after(saved);
    let since = record.started_at.unwrap_or(record.created_at);
    let mut events = Vec::new();
    if let Some(step_id) = open_call(&draft) {
        let (said, prompt) = (draft.clone(), prompt(turns, &live, &live.request, None).await?);
        let lines = match fit(turns, &prompt.material, prompt.room).await {
            Fitted::From(from, _) => prompt.into_call(from, None).lines,
            // It was asked all the same: the settings are others now.
            Fitted::TooLong | Fitted::Uncounted => Vec::new(),
        };
        let count = move || estimate(&lines, said.content(), said.reasoning());
        let usage = turns.lifecycle.blocking(count);
        let (usage, model) = (usage.await, record.model.clone());
        // Which upstream was asked is not known: it costs what the model does by our name for it.
        let (prices, at) = (turns.settings.prices.get(), calls::called_at(&step_id, since));
        let cost = |usage: &Usage| prices.of(&[&model], at).map(|price| price.cost(usage));
        let usage = usage.map(|usage| Usage { cost_nano_usd: cost(&usage), ..usage });
        events.extend(usage.map(|usage| Event::Usage { step_id, model: model.clone(), usage }));
    }
    let now = turns.now();
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
    let rest = Chunk { turn_id, owner, epoch, first_seq: crash.resumed, last_seq: seq, lines: lines.into() };
    let calls = calls::records(&draft, &[], since).into();
    let message = Arc::new(draft.into_message(record.stub()));
    let ending = ending::Ending {
        message: message.clone(),
        calls,
        finished,
        rest: vec![rest],
        deed: None,
        crash: Some(crash),
        now,
        key_expires: turns.kept_until(),
    };
    let (epoch, end) = (record.epoch, ending.rest.first().map(|rest| rest.lines.clone()).unwrap_or_default());
    let Outcome::Written(next) = turns.store.end_turn(&record.lease(), &ending).await? else { return Ok(()) };
    let piece = Piece { epoch, first: crash.resumed, last: seq, lines: end, then: Then::Ended };
    turns.pass_end_on(&record.id, piece);
    if let Some(next) = next.and_then(|next| turns.registry.any(&next)) {
        next.due.cancel();
    }
    turns.registry.note(Item::Message(message.id.clone()));
    turns.tracer.turn(live.traced(), &message, now);
    turns.meter.turn_finished(Status::Interrupted, Some(now.millis_since(since)), None);
    tracing::info!(turn_id = %record.id, last_saved = saved, "a turn was interrupted by a crash");
    Ok(())
}

/// The model call that was under way, if it had begun to answer: it has cost something.
fn open_call(draft: &Draft) -> Option<StepId> {
    let call = draft.steps().iter().rev().find(|step| step.kind == "model" && step.status == StepStatus::Running)?;
    let has_steps = draft.steps().last().is_some_and(|last| last.step_id != call.step_id);
    let answered = has_steps || !draft.content().is_empty() || !draft.reasoning().is_empty();
    answered.then(|| call.step_id.clone())
}

/// Picks up every open turn of this replica that does not live here. One that has never changed hands and is young
/// is about to live; an admission that nobody is sure of is another's to undo. False when some have to wait for an older lease to go.
///
/// # Errors
/// The store's; asking again is safe.
pub async fn all(turns: &Turns) -> Result<bool> {
    let _alone = turns.picking_up.lock().await;
    left_over(turns).await
}

async fn left_over(turns: &Turns) -> Result<bool> {
    let mut records = turns.store.turns_of(&turns.replica()).await?;
    let (now, young) = (turns.now(), 3000 * turns.settings.limits.database_s);
    let is_old = |record: &Record| record.epoch > 1 || now.millis_since(record.created_at) > young;
    records.retain(|record| is_old(record) && !turns.suspects.knows(&record.id));
    let whole = AtomicBool::new(true);
    // Queued ones first: each must be here when the end before it makes it due.
    let (queued, running): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.status == Status::Queued);
    let pick_up = async |record| {
        whole.fetch_and(recover(turns, record).await?, Ordering::Relaxed);
        Result::Ok(())
    };
    for record in queued {
        pick_up(record).await?;
    }
    let running = stream::iter(running.into_iter().map(Ok));
    running.try_for_each_concurrent(AT_ONCE, pick_up).await?;
    for request in turns.store.requests(&turns.replica()).await? {
        if let Some(live) = turns.registry.any(&request.turn_id).filter(|_| request.due) {
            live.due.cancel();
        }
    }
    Ok(whole.into_inner())
}

/// Looks for open turns of this replica that nobody runs, and picks them up, unless somebody is about to.
///
/// # Errors
/// The store's.
pub async fn stragglers(turns: &Turns) -> Result<()> {
    let Ok(_alone) = turns.picking_up.try_lock() else { return Ok(()) };
    let open = turns.store.open_turns_of(&turns.replica()).await?;
    if open.iter().any(|turn| turns.registry.any(turn).is_none() && !turns.suspects.knows(turn)) {
        left_over(turns).await?;
    }
    Ok(())
}
