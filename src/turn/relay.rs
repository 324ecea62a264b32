//! The relay: passes what live turns say on to other replicas, of many turns at once.
//!
//! It reads every log that lives here and leaves none. What Redis does not take is left out, for the record has it too, and whoever
//! follows sees the gap. So nothing waits for it, and nothing is kept for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::Turns;
use super::live::Live;
use super::log::Passing;
use crate::cluster::Cluster;
use crate::cluster::news::News;
use crate::cluster::piece::{Parcel, Passed, Piece, Then};
use crate::domain::event::{Finished, Unnumbered};
use crate::domain::ids::TurnId;

/// How long events are gathered.
const GATHER: Duration = Duration::from_millis(10);
/// About so many bytes go at once; turns that have more to say wait for the next time.
const MOST: usize = 4 << 20;
/// How long nothing is passed on after Redis did not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a live turn's stream is kept after it was said last.
const KEPT: Duration = Duration::from_secs(600);
/// How long that of a turn that has ended is: whoever follows it has seen the end by then.
const KEPT_ENDED: Duration = Duration::from_secs(60);

/// What is to be passed on. Where there is no Redis, nothing ever is.
#[derive(Debug, Default)]
pub struct Relay {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Turns with something new, mostly once each.
    turns: Vec<Arc<Live>>,
    /// What comes from nobody's log here.
    parcels: Vec<Parcel>,
}

impl Turns {
    /// Notes that a turn has something to pass on.
    pub(super) fn pass_on(&self, live: &Arc<Live>) {
        if self.cluster.is_some() {
            self.relay.waiting.lock().turns.push(live.clone());
            self.relay.wake.notify_one();
        }
    }

    /// Passes on the end of a turn that was ended for a replica that is gone.
    pub(super) fn pass_end_on(&self, turn: &TurnId, piece: Piece) {
        if self.cluster.is_some() {
            let parcel = Parcel { turn: turn.clone(), piece, keep: Some(KEPT_ENDED) };
            self.relay.waiting.lock().parcels.push(parcel);
            self.relay.wake.notify_one();
        }
    }

    /// Passes on that a turn has ended and that cannot be saved for now.
    pub(super) fn pass_unsaved_on(&self, live: &Live, finished: &Finished) {
        // What readers may see: in `strict` that may not be all there is.
        let last = live.log.visible();
        let lines = serde_json::to_vec(&Unnumbered::Unsaved(finished)).unwrap_or_default();
        let (epoch, first, then) = (live.lease.epoch, last + 1, Then::Unsaved);
        self.pass_end_on(&live.lease.turn_id, Piece { epoch, first, last, lines: lines.into(), then });
    }
}

/// The task. It ends when the process signs off: every turn has ended by then, and what they said last goes first.
pub async fn run(turns: Turns, cluster: Cluster) {
    let over = turns.signed_off.clone();
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = turns.relay.wake.notified() => {}
            () = turns.registry.has_changes() => {}
            () = over.cancelled() => return,
        }
        if !over.is_cancelled() {
            tokio::time::sleep(GATHER).await;
        }
        let (parcels, changed) = (gather(&turns.relay), turns.registry.changes());
        if parcels.is_empty() && changed.is_empty() {
            continue;
        }
        let passed = cluster.pass_on(&parcels, &changed).await;
        let failure = match &passed {
            Ok(passed) => passed.iter().find_map(|passed| match passed {
                Passed::Refused(error) => Some(error.clone()),
                Passed::On | Passed::Late => None,
            }),
            Err(error) => Some(error.clone()),
        };
        match &failure {
            Some(error) if !failing => tracing::warn!(%error, "live turns are not passed on to other replicas"),
            None if failing => tracing::info!("live turns are passed on to other replicas again"),
            Some(_) | None => {}
        }
        failing = failure.is_some();
        let unanswered = passed.is_err();
        if passed.is_ok_and(|passed| passed.iter().any(|passed| matches!(passed, Passed::Late))) {
            // Whoever wrote further did so under a later lease than ours.
            turns.doubt.notify_one();
        }
        if unanswered {
            let unsure = parcels.iter().filter(|parcel| parcel.keep.is_some());
            unsure.filter_map(|parcel| turns.registry.any(&parcel.turn)).for_each(|live| live.log.keep_anew());
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = over.cancelled() => return,
            }
        }
    }
}

/// Has the feeds here look at what other replicas have changed.
pub async fn hear(turns: Turns, mut news: mpsc::Receiver<News>) {
    while let Some(news) = news.recv().await {
        match news {
            News::Changed(conversation) => turns.registry.changed_elsewhere(&conversation),
            News::Missed => turns.registry.may_have_changed(),
        }
    }
}

fn gather(relay: &Relay) -> Vec<Parcel> {
    let Waiting { turns, parcels: last } = std::mem::take(&mut *relay.waiting.lock());
    let (mut parcels, mut bytes) = (Vec::new(), 0);
    let mut turns = turns.into_iter();
    for live in turns.by_ref() {
        let Some(Passing { rows, ended, anew }) = live.log.pass_on() else { continue };
        let count = rows.len();
        for (at, (first, last, lines)) in rows.into_iter().enumerate() {
            bytes += lines.len();
            let is_last = at + 1 == count;
            let then = if ended && is_last { Then::Ended } else { Then::More };
            let keep = match then {
                Then::Ended => Some(KEPT_ENDED),
                Then::More | Then::Unsaved => (anew && is_last).then_some(KEPT),
            };
            let piece = Piece { epoch: live.lease.epoch, first, last, lines, then };
            parcels.push(Parcel { turn: live.lease.turn_id.clone(), piece, keep });
        }
        if bytes >= MOST {
            break;
        }
    }
    if turns.len() == 0 {
        // These come after what their turns' logs had.
        parcels.extend(last);
        return parcels;
    }
    let mut waiting = relay.waiting.lock();
    let new = std::mem::take(&mut *waiting);
    waiting.turns.extend(turns.chain(new.turns));
    waiting.parcels.extend(last.into_iter().chain(new.parcels));
    relay.wake.notify_one();
    parcels
}
