//! The journal's task: saves the events of all turns, many turns in one commit.
//!
//! A turn makes itself known once per commit; the task copies what is new. A batch that may or may not have been
//! saved is saved again as it was, which changes nothing if it had been.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Turns;
use super::live::{Cut, Live};
use super::segments::Mark;
use crate::domain::ids::{ReplicaId, TurnId};
use crate::domain::stream::Durability;
use crate::store::journal::Chunk;

/// How long events are gathered for one commit in `relaxed`.
const GATHER: Duration = Duration::from_millis(25);
/// How often a commit that does not come is looked after.
const WATCH: Duration = Duration::from_millis(250);

/// The turns that have something to save.
#[derive(Debug, Default)]
pub struct Journal {
    /// Each turn at most once.
    dirty: Mutex<Vec<Arc<Live>>>,
    wake: Notify,
    /// Below zero for a moment when bytes are saved before they are noted.
    unsaved: AtomicI64,
}

impl Journal {
    /// Notes that a turn has something to save; `bytes` were appended.
    pub fn note(&self, live: &Arc<Live>, bytes: usize, tell: bool) {
        self.unsaved.fetch_add(bytes as i64, Ordering::Relaxed);
        if tell {
            self.dirty.lock().push(live.clone());
            self.wake.notify_one();
        }
    }

    /// Notes that so many bytes are saved, or will never be.
    pub fn settle(&self, bytes: u64) {
        self.unsaved.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
    }

    /// Bytes of the whole process that are not saved.
    pub fn unsaved(&self) -> u64 {
        u64::try_from(self.unsaved.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

struct Batch {
    /// Under whose lease it is saved; this process may go on under another name meanwhile.
    replica: ReplicaId,
    chunks: Vec<Chunk>,
    turns: Vec<(Arc<Live>, Mark)>,
}

/// The task. It ends with the lifecycle's hard token.
pub async fn run(turns: Turns) {
    let hard = turns.lifecycle.hard().clone();
    loop {
        tokio::select! {
            biased;
            () = hard.cancelled() => return,
            () = turns.journal.wake.notified() => {}
        }
        if turns.settings.stream.durability == Durability::Relaxed {
            tokio::time::sleep(GATHER).await;
        }
        let Some(batch) = gather(&turns) else { continue };
        tokio::select! {
            biased;
            () = hard.cancelled() => return,
            () = save(&turns, batch) => {}
        }
    }
}

fn gather(turns: &Turns) -> Option<Batch> {
    let dirty = std::mem::take(&mut *turns.journal.dirty.lock());
    let (chunks, kept) = (Vec::with_capacity(dirty.len()), Vec::with_capacity(dirty.len()));
    let mut batch = Batch { replica: turns.replica(), chunks, turns: kept };
    for live in dirty {
        // What was begun under a name that is fenced is another replica's now.
        if live.lease.replica_id != batch.replica {
            live.cut(Cut::Lost);
            continue;
        }
        let Some(taken) = live.log.take() else { continue };
        batch.chunks.extend(taken.rows.into_iter().map(|(first_seq, last_seq, lines)| Chunk {
            turn_id: live.lease.turn_id.clone(),
            owner: live.lease.owner.clone(),
            epoch: live.lease.epoch,
            first_seq,
            last_seq,
            lines,
        }));
        batch.turns.push((live, taken.to));
    }
    (!batch.chunks.is_empty()).then_some(batch)
}

/// Saves a batch, however long it takes, as long as the turns are ours and still want it.
async fn save(turns: &Turns, mut batch: Batch) {
    let mut pause = Duration::from_millis(50);
    loop {
        let begun = Instant::now();
        let saved = watched(turns, turns.store.append_journal(&batch.replica, &batch.chunks)).await;
        match saved {
            Ok(true) => {
                for (live, to) in &batch.turns {
                    turns.journal.settle(live.log.saved(*to));
                    live.progress.notify_one();
                }
                turns.meter.journal_commit(begun.elapsed(), batch.chunks.len());
                return;
            }
            Ok(false) => {
                super::lease::fenced(turns, &batch.replica).await;
                return;
            }
            Err(error) => {
                tracing::warn!(%error, chunks = batch.chunks.len(), "events wait for the database");
                turns.meter.journal_failure();
                starve(turns);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
                starve(turns);
            }
        }
        // What has ended by now was saved with its end, or belongs to another replica.
        batch.turns.retain(|(live, _)| !live.settled.is_cancelled());
        let wanted: HashSet<&TurnId> = batch.turns.iter().map(|(live, _)| &live.lease.turn_id).collect();
        batch.chunks.retain(|chunk| wanted.contains(&chunk.turn_id));
        if batch.chunks.is_empty() {
            return;
        }
    }
}

/// Waits for a commit, and looks after the turns while it does not come.
async fn watched<T>(turns: &Turns, saving: impl Future<Output = T>) -> T {
    tokio::pin!(saving);
    loop {
        tokio::select! {
            biased;
            saved = &mut saving => return saved,
            () = tokio::time::sleep(WATCH) => starve(turns),
        }
    }
}

/// Tells turns whose events have waited too long, or all of them when too much waits, that they cannot go on.
fn starve(turns: &Turns) {
    let limits = &turns.settings.limits;
    let full = turns.journal.unsaved() > limits.unsaved_bytes as u64;
    for live in turns.registry.all() {
        let late = live.log.oldest_unsaved().is_some_and(|since| since.elapsed() >= limits.unsaved());
        if late || (full && live.log.unsaved() > 0) {
            live.cut(Cut::Starved);
        }
    }
}
