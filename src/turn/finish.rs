//! The end of a turn: saved, then said.
//!
//! One transaction holds the message, its last events, the end event itself and the freeing of the conversation.
//! Only once it is committed do readers see `turn.finished`. If the database stays away they are told so, and the
//! transaction is tried until it succeeds.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Turns;
use super::calls::{self, Made};
use super::fold;
use super::live::Live;
use crate::domain::event::{self, Closed, Event, Finished};
use crate::domain::message::Message;
use crate::domain::turn::Ending;
use crate::domain::usage::Record;
use crate::store::ending::{self, Outcome};
use crate::store::journal::Chunk;
use crate::store::{Error, Result};

/// How long an end may take to be written once nobody waits any more.
const LAST_TRY: Duration = Duration::from_millis(500);

/// What is known of a turn's time, in milliseconds, and of its calls.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// From start to end; `None` for a turn that never started.
    pub duration_ms: Option<u64>,
    /// From start to the first delta or reasoning.
    pub first_token_ms: Option<u64>,
    /// The calls that an upstream took.
    pub made: Vec<Made>,
}

/// Ends a turn, and comes back once nobody here has to care for it any more.
pub async fn finish(turns: &Turns, live: &Arc<Live>, ending: Ending, times: Times) {
    let waited_since = live.log.oldest_unsaved().unwrap_or_else(Instant::now);
    let (rows, to) = live.log.seal();
    let finished = Finished::new(ending, live.stub.id.clone(), times.duration_ms.unwrap_or(0), times.first_token_ms);
    let seq = to.seq + 1;
    let line = bytes::Bytes::from(event::line(seq, &Event::TurnFinished(finished.clone())));
    let chunk = |(first_seq, last_seq, lines)| {
        let (turn_id, owner, epoch) = (live.lease.turn_id.clone(), live.lease.owner.clone(), live.lease.epoch);
        Chunk { turn_id, owner, epoch, first_seq, last_seq, lines }
    };
    let mut end = End {
        turns,
        live,
        finished,
        seq,
        rest: rows.into_iter().chain([(seq, seq, line.clone())]).map(chunk).collect(),
        made: times.made,
        message: None,
    };
    let told_at = if live.is_starved() { Instant::now() } else { waited_since + turns.settings.limits.unsaved() };
    let written = end.until_written(told_at).await;
    // Whoever hears of the end may start the next turn at once.
    turns.registry.leave(&live.lease.turn_id);
    live.give_place();
    match written {
        Some(Outcome::Written(next)) => {
            // Before readers hear of it: one of them may look at once.
            turns.meter.turn_finished(end.finished.status, times.duration_ms, times.first_token_ms);
            turns.journal.settle(live.log.end(&line));
            turns.pass_on(live);
            let next = next.and_then(|next| turns.registry.any(&next));
            if let Some(next) = next {
                next.due.cancel();
            }
            end.log();
            if let Some((message, _)) = &end.message {
                turns.tracer.turn(live.traced(), message, turns.now());
            }
        }
        Some(Outcome::Lost) => {
            turns.journal.settle(live.log.close(Closed::LostLease));
            tracing::warn!(turn_id = %live.lease.turn_id, "the turn is another replica's now");
        }
        None => {
            turns.journal.settle(live.log.close(Closed::Draining));
            tracing::warn!(turn_id = %live.lease.turn_id, "the process ends before the turn's end is saved");
        }
    }
    live.settle();
}

struct End<'a> {
    turns: &'a Turns,
    live: &'a Arc<Live>,
    finished: Finished,
    seq: u64,
    rest: Vec<Chunk>,
    made: Vec<Made>,
    /// The answer as it ended, and the calls that were made for it.
    message: Option<(Arc<Message>, Arc<[Record]>)>,
}

impl End<'_> {
    /// Tries until the end is written, or the lease is lost; `None` when the process has no more time, not even for
    /// a last try. From `told_at` on readers are told that it is not saved.
    async fn until_written(&mut self, told_at: Instant) -> Option<Outcome> {
        let mut pause = Duration::from_millis(50);
        let mut told = false;
        let hard = self.turns.lifecycle.hard().clone();
        let mut late = pin!(async {
            hard.cancelled().await;
            tokio::time::sleep(LAST_TRY).await;
        });
        let live = self.live.clone();
        loop {
            let written = tokio::select! {
                biased;
                written = self.write() => written,
                () = &mut late => return None,
                () = live.lost() => return Some(Outcome::Lost),
                // Readers are told in time, whatever the attempt does; it is made again.
                () = tokio::time::sleep_until(told_at.into()), if !told => Err(Error::Slow(told_at.elapsed())),
            };
            match written {
                Ok(outcome) => return Some(outcome),
                Err(error) => {
                    tracing::warn!(%error, turn_id = %self.live.lease.turn_id, "the end waits for the database")
                }
            }
            if !told && Instant::now() >= told_at {
                told = true;
                self.tell();
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                () = hard.cancelled() => return None,
                () = live.lost() => return Some(Outcome::Lost),
                () = tokio::time::sleep_until(told_at.into()), if !told => {}
            }
        }
    }

    async fn write(&mut self) -> Result<Outcome> {
        let (message, calls) = self.message().await?;
        let ending = ending::Ending {
            message,
            calls,
            finished: self.finished.clone(),
            rest: self.rest.clone(),
            deed: self.live.deed(self.finished.stopped_by),
            crash: None,
            now: self.turns.now(),
            key_expires: self.turns.kept_until(),
        };
        self.turns.store.end_turn(&self.live.lease, &ending).await
    }

    /// The answer as it ended, and its calls: made once.
    async fn message(&mut self) -> Result<(Arc<Message>, Arc<[Record]>)> {
        if let Some(message) = &self.message {
            return Ok(message.clone());
        }
        let mut draft = fold::whole(self.turns, self.live).await?;
        draft.apply(self.seq, Event::TurnFinished(self.finished.clone()));
        let calls = calls::records(&draft, &self.made, self.live.created_at()).into();
        let message = (Arc::new(draft.into_message(self.live.stub.clone())), calls);
        self.message = Some(message.clone());
        Ok(message)
    }

    /// Tells readers that the end is not saved.
    fn tell(&self) {
        if let Some((message, _)) = &self.message {
            self.live.keep_unsaved(message.clone());
        }
        let finished = Finished { saved: false, ..self.finished.clone() };
        self.turns.pass_unsaved_on(self.live, &finished);
        self.live.log.tell(finished);
        self.live.shown.cancel();
    }

    fn log(&self) {
        let message = self.message.as_ref().map(|(message, _)| message);
        let (finished, usage) = (&self.finished, message.and_then(|message| message.usage));
        tracing::info!(
            turn_id = %self.live.lease.turn_id,
            conversation_id = %self.live.lease.conversation_id,
            model = %self.live.stub.model,
            status = finished.status.as_str(),
            code = finished.error.as_ref().map(|problem| problem.code.as_str()),
            events = self.seq,
            answer_bytes = message.map(|message| message.weight()),
            prompt_tokens = usage.map(|usage| usage.prompt_tokens),
            completion_tokens = usage.map(|usage| usage.completion_tokens),
            cost_nano_usd = usage.and_then(|usage| usage.cost_nano_usd),
            duration_ms = finished.duration_ms,
            first_token_ms = finished.first_token_ms,
            "turn finished",
        );
    }
}
