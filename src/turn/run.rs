//! The one task of a turn: it waits its turn, asks, logs, and ends.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::Turns;
use super::ask::{Talk, millis};
use super::ends;
use super::finish::{Times, finish};
use super::live::{Cut, Live};
use super::prompt::{self, Prompt};
use super::segments::Mark;
use super::summary;
use super::window::{Fitted, LeftOut, fit};
use crate::domain::event::{self, Closed, Event};
use crate::domain::message::Content;
use crate::domain::turn::{Ending, Status, StoppedBy};
use crate::seldom::Seldom;
use crate::store::ending::{Lease, Start};
use crate::store::journal::Chunk;
use crate::upstream::Line;

/// Runs a turn from its admission to its end. `first` is the question of a conversation's first turn, which has no
/// history to read. A panic inside ends it as `failed`.
pub async fn run(turns: Turns, live: Arc<Live>, queued: bool, first: Option<Content>) {
    if queued {
        match Box::pin(wait(&turns, &live)).await {
            Ok(()) => {}
            Err(None) => return drop_lost(&turns, &live),
            Err(Some(ending)) => {
                append_started(&turns, &live);
                return Box::pin(finish(&turns, &live, ending, Times::default())).await;
            }
        }
    }
    let begun = Instant::now();
    let mut talk = Talk::new(&turns, &live, begun);
    let ended = AssertUnwindSafe(converse(&turns, &live, first, &mut talk)).catch_unwind().await;
    let Some(ending) = ended.unwrap_or_else(|_| {
        tracing::error!(turn_id = %live.lease.turn_id, "the turn's task panicked");
        Some(ends::mistake())
    }) else {
        return drop_lost(&turns, &live);
    };
    let duration = begun.elapsed();
    Box::pin(talk.close(&ending)).await;
    let (first_token, made) = (talk.first_token, std::mem::take(&mut talk.made));
    let times = Times { duration_ms: Some(millis(duration)), first_token_ms: first_token.map(millis), made };
    drop(talk);
    // Boxed, as the wait before: a turn that streams carries no room for its begin and its end.
    Box::pin(finish(&turns, &live, ending, times)).await;
}

/// Asks and logs until the answer ends, or is ended; `None` when the turn is another replica's.
async fn converse(turns: &Turns, live: &Arc<Live>, first: Option<Content>, talk: &mut Talk) -> Option<Ending> {
    let request = &live.request;
    let most = turns.settings.limits.max_turn_s;
    let most = Duration::from_secs(request.timeout_seconds.map_or(most, |seconds| seconds.min(most)));
    let begun = Instant::now();
    let work = async {
        live.nearing.iter().for_each(|bound| talk.warn(bound));
        let prompt = loop {
            match prompt::prompt(turns, live, request, first.as_ref()).await {
                Ok(prompt) => break prompt,
                Err(error) => {
                    tracing::warn!(%error, turn_id = %live.lease.turn_id, "the history waits for the database");
                    if begun.elapsed() >= turns.settings.limits.unsaved() {
                        live.cut(Cut::Starved);
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        };
        drop(first);
        let (from, summary) = match fit(turns, &prompt.material, prompt.room).await {
            Fitted::From(from, None) => (from, None),
            Fitted::From(from, Some(left_out)) => Box::pin(leave_out(turns, live, talk, &prompt, from, left_out)).await,
            Fitted::TooLong if prompt.room == 0 => return ends::no_room(),
            Fitted::TooLong => return ends::too_long(),
            Fitted::Uncounted => return ends::mistake(),
        };
        talk.go(prompt.into_call(from, summary)).await
    };
    // Lent: an argument that a future keeps has room in it twice.
    until_cut(turns, live, most, pin!(work)).await
}

/// Logs what is not sent; from where on the rest is, and what stands for it.
async fn leave_out(
    turns: &Turns,
    live: &Live,
    talk: &mut Talk,
    prompt: &Prompt,
    from: usize,
    left_out: LeftOut,
) -> (usize, Option<Line>) {
    match summary::of(turns, live, talk, &prompt.material, prompt.room).await {
        Some(summary::Standing { from, left_out, line }) => {
            talk.leave_out(left_out, true);
            (from, Some(line))
        }
        None => {
            talk.leave_out(left_out, false);
            (from, None)
        }
    }
}

/// Waits until the turn is ended from outside.
async fn ended(turns: &Turns, live: &Live) -> Cut {
    tokio::select! {
        biased;
        why = live.cut_for() => why,
        () = turns.lifecycle.curfew().cancelled() => Cut::Curfew,
    }
}

/// Drives `work` until it is done, the turn is ended from outside, its readers are gone for good, or `most` is over.
async fn until_cut<W>(turns: &Turns, live: &Live, most: Duration, work: Pin<&mut W>) -> Option<Ending>
where
    W: Future<Output = Ending>,
{
    let outside = Seldom::new(async {
        tokio::select! {
            biased;
            why = ended(turns, live) => ends::of_cut(why),
            () = live.deserted(&turns.hearing) => Some(Ending::stopped(StoppedBy::Disconnect)),
            () = tokio::time::sleep(most) => {
                Some(Ending::problem(Status::Timeout, "timeout", "The answer took longer than a turn may."))
            }
        }
    });
    tokio::select! {
        biased;
        ending = outside => ending,
        ending = work => Some(ending),
    }
}

/// Waits until a queued turn's time has come, and starts it. `Err` when it ends before.
async fn wait(turns: &Turns, live: &Arc<Live>) -> Result<(), Option<Ending>> {
    tokio::select! {
        biased;
        why = ended(turns, live) => return Err(ends::of_cut(why)),
        () = live.deserted(&turns.hearing) => return Err(Some(Ending::stopped(StoppedBy::Disconnect))),
        () = live.due.cancelled() => {}
        () = due_already(turns, live) => {}
    }
    let chunk = started(live);
    loop {
        match turns.store.start_queued(&live.lease, &chunk, turns.now()).await {
            Ok(Start::Started) => break,
            // Asked for before this replica had it, say.
            Ok(Start::Stopped(by)) => return Err(Some(Ending::stopped(by))),
            Ok(Start::Lost) => return Err(None),
            Err(error) => tracing::warn!(%error, turn_id = %live.lease.turn_id, "the start waits for the database"),
        }
        tokio::select! {
            biased;
            why = ended(turns, live) => return Err(ends::of_cut(why)),
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
        }
    }
    live.log.append_saved(|append| append.event(started_event(live)));
    turns.pass_on(live);
    Ok(())
}

/// Waits for ever, unless no open turn is before this one any more: the last may have ended before this one was there
/// to be told. One that is not open itself was stopped before it was here, and is let go of.
async fn due_already(turns: &Turns, live: &Live) {
    let lease = &live.lease;
    loop {
        match turns.store.open_turns(&lease.owner, &lease.conversation_id).await {
            Ok(open) if open.first().is_some_and(|(first, _)| *first == lease.turn_id) => return,
            Ok(open) => {
                if open.iter().all(|(turn, _)| *turn != lease.turn_id) {
                    live.cut(Cut::Lost);
                }
                return std::future::pending().await;
            }
            Err(error) => tracing::warn!(%error, turn_id = %lease.turn_id, "a queued turn waits for the database"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// A queued turn that is ended before its time logs its start just before its end.
fn append_started(turns: &Turns, live: &Arc<Live>) {
    if live.log.appended() == Mark::default() {
        let appended = live.log.append(|append| append.event(started_event(live)));
        turns.note(live, appended);
    }
}

/// The `turn.started` of a turn.
pub fn started_event(live: &Live) -> Event {
    let Lease { turn_id, conversation_id, .. } = &live.lease;
    Event::started(turn_id, conversation_id, &live.user_message_id, &live.stub.id, &live.stub.model)
}

fn started(live: &Live) -> Chunk {
    let Lease { turn_id, owner, epoch, .. } = live.lease.clone();
    let lines = event::line(1, &started_event(live)).into();
    Chunk { turn_id, owner, epoch, first_seq: 1, last_seq: 1, lines }
}

/// Lets go of a turn that another replica has.
fn drop_lost(turns: &Turns, live: &Live) {
    turns.journal.settle(live.log.close(Closed::LostLease));
    turns.registry.leave(&live.lease.turn_id);
    live.settle();
}
