//! The journal's task: saves the events of all turns, many turns in one commit.
//!
//! A turn makes itself known once per commit; the task copies what is new. A batch that may or may not have been
//! saved is saved again as it was, which changes nothing if it had been.
//!
//! Where one process has the database for itself, what is new goes to the tail, and becomes rows of the journal once
//! there is enough of it; where other replicas read along, it goes to the journal at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Turns;
use super::live::{Cut, Live};
use super::log::{Filing, Place, Taken};
use super::segments::Mark;
use crate::domain::ids::{ReplicaId, TurnId};
use crate::domain::stream::Durability;
use crate::store::journal::Chunk;
use crate::store::tail::Tail;

/// How long events are gathered for one commit in `relaxed`.
const GATHER: Duration = Duration::from_millis(25);
/// So many turns are filed by one commit: each costs a page of the database, and what was shown meanwhile waits.
const FILED: usize = 64;
/// A commit has room for so many turns from the start, and grows for more: what it takes is bounded in bytes.
const ROOM: usize = 1024;
/// How often it is looked whether what lies in the tail is due to be filed, and what may be forgotten.
const TIDY: Duration = Duration::from_secs(1);
/// How often a commit that does not come is looked after.
const WATCH: Duration = Duration::from_millis(250);

/// The turns that have something to save.
#[derive(Debug, Default)]
pub struct Journal {
    /// Each turn once for what it has appended; whoever is due to be filed may stand here a second time, and has nothing
    /// new to give then.
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

    /// These come before all others with the next commit.
    fn put_back(&self, mut first: Vec<Arc<Live>>) {
        let mut dirty = self.dirty.lock();
        first.append(&mut dirty);
        *dirty = first;
        self.wake.notify_one();
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

impl Turns {
    /// When what is saved becomes rows of the journal.
    pub(super) fn filing(&self) -> Filing {
        if self.store.is_shared() { Filing::AT_ONCE } else { Filing::LATER }
    }
}

struct Batch {
    /// Under whose lease it is saved; this process may go on under another name meanwhile.
    replica: ReplicaId,
    tail: Tail,
    chunks: Vec<Chunk>,
    turns: Vec<(Arc<Live>, Mark, Place)>,
    /// Others have waited for it as long, and are next.
    full: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.turns.is_empty() && !self.tail.forgets()
    }
}

/// What the task knows of the tail.
struct Tidy {
    /// The number of the last row.
    number: u64,
    /// Rows before this one are forgotten.
    forgotten: u64,
    at: Instant,
}

impl Tidy {
    fn is_due(&self) -> bool {
        self.forgotten <= self.number && self.at.elapsed() >= TIDY
    }

    /// Has turns filed whose events have lain in the tail for long, and says which rows nobody needs.
    fn round(&mut self, turns: &Turns) -> u64 {
        self.at = Instant::now();
        let mut needed = self.number + 1;
        for live in turns.registry.all() {
            needed = live.log.tail().map_or(needed, |first| first.min(needed));
            if live.log.is_due() {
                turns.journal.note(&live, 0, true);
            }
        }
        if needed > self.forgotten { needed } else { 0 }
    }
}

/// The task. It ends when the process signs off, or with the lifecycle's hard token.
pub async fn run(turns: Turns) {
    let over = turns.signed_off.clone();
    let mut tidy = Tidy { number: 0, forgotten: 1, at: Instant::now() };
    let mut gathered = false;
    loop {
        tokio::select! {
            biased;
            () = over.cancelled() => return,
            () = turns.journal.wake.notified() => {}
            () = tokio::time::sleep(TIDY), if tidy.forgotten <= tidy.number => {}
        }
        if turns.settings.stream.durability == Durability::Relaxed && !gathered {
            tokio::time::sleep(GATHER).await;
        }
        let forget = if tidy.is_due() { tidy.round(&turns) } else { 0 };
        let batch = gather(&turns, tidy.number + 1, forget);
        gathered = batch.full;
        if batch.is_empty() {
            continue;
        }
        if !batch.tail.is_empty() {
            tidy.number += 1;
        }
        tokio::select! {
            biased;
            () = over.cancelled() => return,
            saved = save(&turns, batch) => if saved {
                tidy.forgotten = tidy.forgotten.max(forget);
            }
        }
    }
}

fn gather(turns: &Turns, number: u64, forget: u64) -> Batch {
    let dirty = std::mem::take(&mut *turns.journal.dirty.lock());
    let room = dirty.len().min(ROOM);
    let tail = Tail::new(number, forget, room);
    let kept = Vec::with_capacity(room);
    let mut batch = Batch { replica: turns.replica(), tail, chunks: Vec::new(), turns: kept, full: false };
    let most = turns.filing().commit;
    let (mut filed, mut bytes) = (0, 0);
    let mut left = Vec::new();
    let mut dirty = dirty.into_iter();
    while let Some(live) = dirty.next() {
        // What was begun under a name that is fenced is another replica's now.
        if live.lease.replica_id != batch.replica {
            live.cut(Cut::Lost);
            continue;
        }
        match live.log.take(batch.tail.lines(), filed < FILED) {
            None if filed == FILED && live.log.is_due() => left.push(live),
            None => {}
            Some(Taken::Tail { after, to, bytes }) => {
                batch.tail.head(&live.lease.turn_id, after + 1, to.seq, bytes);
                batch.turns.push((live, to, Place::Tail(number)));
            }
            Some(Taken::Rows { rows, to }) => {
                filed += 1;
                bytes += rows.iter().map(|(_, _, lines)| lines.len()).sum::<usize>();
                batch.chunks.extend(rows.into_iter().map(|(first_seq, last_seq, lines)| Chunk {
                    turn_id: live.lease.turn_id.clone(),
                    owner: live.lease.owner.clone(),
                    epoch: live.lease.epoch,
                    first_seq,
                    last_seq,
                    lines,
                }));
                batch.turns.push((live, to, Place::Journal));
            }
        }
        if bytes + batch.tail.lines().len() >= most && dirty.len() > 0 {
            left.extend(dirty);
            break;
        }
    }
    batch.full = !left.is_empty();
    if batch.full {
        turns.journal.put_back(left);
    }
    batch
}

/// Saves a batch, however long it takes, as long as the turns are ours and still want it. Says whether it is saved.
async fn save(turns: &Turns, mut batch: Batch) -> bool {
    let mut pause = Duration::from_millis(50);
    loop {
        let begun = Instant::now();
        let saving = turns.store.append_journal(&batch.replica, &batch.tail, &batch.chunks);
        let saved = watched(turns, saving).await;
        match saved {
            Ok(true) => {
                for (live, to, place) in &batch.turns {
                    turns.journal.settle(live.log.saved(*to, *place));
                    live.progress.notify_one();
                    if turns.settings.stream.durability == Durability::Strict {
                        turns.pass_on(live);
                    }
                }
                turns.meter.journal_commit(begun.elapsed(), batch.turns.len());
                return true;
            }
            Ok(false) => {
                super::lease::fenced(turns, &batch.replica).await;
                return false;
            }
            Err(error) => {
                tracing::warn!(%error, turns = batch.turns.len(), "events wait for the database");
                turns.meter.journal_failure();
                starve(turns);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
                starve(turns);
            }
        }
        // What has ended by now was saved with its end, or belongs to another replica.
        batch.turns.retain(|(live, ..)| !live.settled.is_cancelled());
        let wanted: HashSet<&TurnId> = batch.turns.iter().map(|(live, ..)| &live.lease.turn_id).collect();
        batch.chunks.retain(|chunk| wanted.contains(&chunk.turn_id));
        if batch.turns.is_empty() {
            return false;
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
