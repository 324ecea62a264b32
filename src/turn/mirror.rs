//! Mirrors: turns that run on other replicas, as their readers here see them.
//!
//! A mirror is a copy of the log's newest part, made of what the other replica passes on; readers read it as they read a log. What came
//! before is in the record, and so is whatever is missing: a mirror that has lost touch is torn, and its readers go back to the
//! record and from there to a new one. So nothing hangs on Redis but how soon they see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Turns;
use super::log::Log;
use super::prompt::Request;
use crate::cluster::follow::Heard;
use crate::cluster::piece::{Piece, Then};
use crate::cluster::{self, Cluster};
use crate::domain::event::{Event, read_line};
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::owner::Owner;
use crate::store;
use crate::store::turns::Standing;

/// After so long without news the record is looked at: whoever ran the turn may be gone, or cut off from Redis.
const QUIET: Duration = Duration::from_millis(750);
/// How often it is looked whether there were any.
const LOOK: Duration = Duration::from_millis(250);
/// How soon the record is looked at where something is withheld; after twice the time again, and so on up to `QUIET`.
const SOON: Duration = Duration::from_millis(40);
/// How long there is no new mirror of a turn after one lost touch: readers come from the record meanwhile.
const REST: Duration = Duration::from_millis(300);
/// How long a mirror that nobody reads is kept for whoever comes back.
const KEPT: Duration = Duration::from_secs(2);
/// So many are made at once.
const MAKING: usize = 16;

/// A turn that runs elsewhere.
#[derive(Debug)]
pub struct Mirror {
    turn: TurnId,
    owner: Owner,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// See [`Request::can_be_held`].
    pub can_be_held: bool,
    /// What it has said lately.
    pub log: Log,
    /// Cancelled when nothing more comes.
    pub over: CancellationToken,
    /// The lease that counts, as far as is known here.
    epoch: AtomicU64,
    guests: AtomicUsize,
    /// Told when one has come from whom something is withheld, and when the last has left.
    changed: Notify,
}

impl Mirror {
    /// Whether there has been news of late. Otherwise its owner may be gone.
    fn is_fresh(&self) -> bool {
        self.log.was_heard_within(QUIET)
    }

    /// Whether the turn has been taken from whoever wrote it.
    fn is_taken(&self, standing: &Standing) -> bool {
        self.epoch.load(Ordering::Acquire) < standing.epoch
    }
}

/// A reader of a mirror, which is there as long as it has any.
#[derive(Debug)]
pub struct Guest(Arc<Mirror>);

impl std::ops::Deref for Guest {
    type Target = Mirror;

    fn deref(&self) -> &Mirror {
        &self.0
    }
}

impl Guest {
    fn new(mirror: &Arc<Mirror>) -> Self {
        mirror.guests.fetch_add(1, Ordering::AcqRel);
        Self(mirror.clone())
    }

    /// A place in the log for the guest.
    pub fn join(&self) -> usize {
        let place = self.log.join();
        if self.log.withholds() {
            self.changed.notify_one();
        }
        place
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.guests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_one();
        }
    }
}

/// The mirrors there are: no more than turns that are read here.
#[derive(Debug)]
pub struct Mirrors {
    open: Mutex<HashMap<TurnId, Arc<Mirror>>>,
    /// Turns whose mirror lost touch a moment ago.
    torn: Mutex<HashMap<TurnId, Instant>>,
    making: Semaphore,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self { open: Mutex::default(), torn: Mutex::default(), making: Semaphore::new(MAKING) }
    }
}

impl Mirrors {
    /// A guest of the owner's turn, where there is a mirror of it.
    pub fn guest(&self, owner: &Owner, turn: &TurnId) -> Option<Guest> {
        let open = self.open.lock();
        let mirror = open.get(turn).filter(|mirror| mirror.owner == *owner && !mirror.over.is_cancelled())?;
        Some(Guest::new(mirror))
    }

    /// Enters a mirror, and its first guest; where there is one of the turn already, a guest of that.
    fn enter(&self, mirror: &Arc<Mirror>) -> Result<Guest, Guest> {
        let mut open = self.open.lock();
        if let Some(other) = open.get(&mirror.turn).filter(|other| !other.over.is_cancelled()) {
            return Err(Guest::new(other));
        }
        open.insert(mirror.turn.clone(), mirror.clone());
        Ok(Guest::new(mirror))
    }

    /// Notes that a mirror lost touch.
    fn tore(&self, turn: &TurnId) {
        let mut torn = self.torn.lock();
        torn.retain(|_, at| at.elapsed() < REST);
        torn.insert(turn.clone(), Instant::now());
    }

    fn is_resting(&self, turn: &TurnId) -> bool {
        self.torn.lock().get(turn).is_some_and(|at| at.elapsed() < REST)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Mirror>> {
        self.open.lock().values().cloned().collect()
    }

    /// Takes a mirror away: for good, or only where nobody reads it.
    fn close(&self, mirror: &Arc<Mirror>, for_good: bool) -> bool {
        let mut open = self.open.lock();
        if !for_good && mirror.guests.load(Ordering::Acquire) > 0 {
            return false;
        }
        if open.get(&mirror.turn).is_some_and(|kept| Arc::ptr_eq(kept, mirror)) {
            open.remove(&mirror.turn);
        }
        mirror.over.cancel();
        true
    }
}

impl Turns {
    /// The mirror of an owner's turn that is open, as `standing` tells of it, and does not run here; `None` where there is no Redis,
    /// or it does not answer.
    pub(super) async fn mirror(&self, owner: &Owner, turn: &TurnId, standing: &Standing) -> Option<Guest> {
        let cluster = self.cluster.as_ref().filter(|cluster| cluster.is_up())?;
        if let Some(guest) = self.mirrors.guest(owner, turn) {
            return self.welcome(guest, standing).await;
        }
        if self.mirrors.is_resting(turn) {
            return None;
        }
        let _one = self.mirrors.making.acquire().await.ok()?;
        if let Some(guest) = self.mirrors.guest(owner, turn) {
            return self.welcome(guest, standing).await;
        }
        match self.make(cluster, owner, turn, standing).await {
            Ok(guest) => (!guest.is_taken(standing)).then_some(guest),
            Err(error) => {
                tracing::debug!(%error, turn_id = %turn, "a turn of another replica is read from the record");
                None
            }
        }
    }

    /// A guest who comes to a mirror that was there, as `standing` tells of its turn: what is saved by now is shown at once.
    async fn welcome(&self, guest: Guest, standing: &Standing) -> Option<Guest> {
        if guest.is_taken(standing) {
            return None;
        }
        if guest.log.shows_all() {
            return Some(guest);
        }
        match reached(self, &guest).await {
            Ok(saved) => {
                guest.log.copy_saved(saved?);
                Some(guest)
            }
            Err(error) => {
                tracing::debug!(%error, turn_id = %guest.turn, "a mirror cannot be held against the record");
                None
            }
        }
    }

    /// A mirror of what the record has and of what was passed on. What is in the latter alone is withheld until the turn's owner is
    /// heard of: it may have died since, and never saved it. So an end that it could not save is left out.
    async fn make(
        &self,
        cluster: &Cluster,
        owner: &Owner,
        turn: &TurnId,
        standing: &Standing,
    ) -> Result<Guest, Unmade> {
        let asked = Instant::now();
        let mut pieces = cluster.pieces(turn).await?;
        // Asked after them: what they have and it lacks was not saved then.
        let saved = self.store.journal_end(owner, turn).await?;
        let last = pieces.last().cloned();
        pieces.retain(|piece| piece.epoch >= standing.epoch && piece.then != Then::Unsaved);
        // The newest that follow each other: before them something was not passed on, and is in the record.
        let gap = (1..pieces.len()).rev().find(|at| pieces[*at].first > pieces[at - 1].last + 1);
        pieces.drain(..gap.unwrap_or(0));
        if pieces.last().is_some_and(|last| last.then != Then::Ended && last.last < saved) {
            // Between them and what is saved a crash may lie.
            pieces.clear();
        }
        let begin = pieces.first().map_or(saved, |first| first.first.saturating_sub(1));
        let mirror = Arc::new(Mirror {
            turn: turn.clone(),
            owner: owner.clone(),
            conversation_id: standing.conversation_id.clone(),
            can_be_held: Request::from_text(&standing.request).can_be_held(),
            log: Log::copy(begin, self.settings.limits.turn_memory_bytes),
            over: CancellationToken::new(),
            epoch: AtomicU64::new(standing.epoch),
            guests: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let is_open = pieces.into_iter().all(|piece| take(&mirror, piece));
        mirror.log.copy_saved(saved);
        // Only one follows a turn: whoever comes second would take its news from the first.
        let guest = match self.mirrors.enter(&mirror) {
            Ok(guest) => guest,
            Err(other) => return Ok(other),
        };
        // At once: a reader may leave at any moment, and nobody is to find a mirror without its task.
        let since = is_open.then_some(Since { last, asked });
        self.lifecycle.spawn("mirror", run(self.clone(), cluster.clone(), mirror, since));
        Ok(guest)
    }
}

/// Why there is no mirror.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    #[error("Redis: {0}")]
    Cluster(#[from] cluster::Error),
    #[error("the database: {0}")]
    Store(#[from] store::Error),
}

/// From where a turn is followed.
struct Since {
    /// The last piece there was…
    last: Option<Piece>,
    /// …when that was asked.
    asked: Instant,
}

/// Follows a turn until it ends, touch is lost, or nobody reads it here any more; not at all where nothing can come after what there
/// is.
async fn run(turns: Turns, cluster: Cluster, mirror: Arc<Mirror>, since: Option<Since>) {
    if let Some(Since { last, asked }) = since
        && let Ok(mut follow) = cluster.follow(&mirror.turn, last.as_ref(), asked).await
    {
        tokio::select! {
            () = turns.lifecycle.hard().cancelled() => {}
            () = attend(&turns, &mirror) => {}
            () = async {
                while let Some(heard) = follow.next().await {
                    if !hear(&mirror, heard) {
                        return;
                    }
                }
            } => {}
        }
    }
    // Where it has ended, that stays so; and one that nobody read has lost nothing.
    let was_read = !mirror.over.is_cancelled();
    if mirror.log.tear() && was_read {
        turns.mirrors.tore(&mirror.turn);
    }
    turns.mirrors.close(&mirror, true);
}

/// Takes a piece that has just come. False when nothing can come after it here.
fn hear(mirror: &Mirror, Heard { piece, is_recent }: Heard) -> bool {
    let epoch = mirror.epoch.load(Ordering::Acquire);
    if piece.epoch < epoch {
        // Its writer does not know yet that the turn is another's.
        return true;
    }
    if piece.epoch > epoch && !mirror.log.is_saved() {
        // The rest was written by somebody else, who is not heard of any more.
        return false;
    }
    if is_recent {
        mirror.log.hear();
    } else if piece.then == Then::Unsaved {
        // Whoever could not save it may be dead.
        return false;
    }
    take(mirror, piece)
}

/// Adds a piece. False when nothing can come after it here.
fn take(mirror: &Mirror, piece: Piece) -> bool {
    let Piece { epoch, first, last, lines, then } = piece;
    mirror.epoch.fetch_max(epoch, Ordering::AcqRel);
    match then {
        Then::More => mirror.log.copy_in(first, last, &lines),
        Then::Ended => {
            let line = lines.strip_suffix(b"\n").unwrap_or(&lines);
            let line = memchr::memrchr(b'\n', line).map_or(line, |at| &line[at + 1..]);
            if matches!(read_line(line), Some(Event::TurnFinished(_))) && mirror.log.copy_in(first, last, &lines) {
                mirror.log.copy_ended();
            }
            false
        }
        Then::Unsaved => {
            // It comes after all that was told, or something is missing.
            if mirror.log.appended().seq == last
                && let Some(Event::TurnFinished(finished)) = read_line(&lines)
            {
                mirror.log.copy_unsaved(finished);
            }
            false
        }
    }
}

/// Looks at the record where there has been no news for a while, or something is withheld. Comes back when the mirror is of no use any
/// more.
async fn attend(turns: &Turns, mirror: &Arc<Mirror>) {
    let mut watch = Watch { looked: Instant::now(), empty: None, pause: None };
    while !watch.closes(turns, mirror) {
        tokio::select! {
            () = tokio::time::sleep(watch.rest()) => {}
            () = mirror.changed.notified() => watch.pause = watch.pause.map(|_| SOON),
        }
        if !watch.is_to_look(mirror) {
            continue;
        }
        match reached(turns, mirror).await {
            Ok(Some(seq)) => mirror.log.copy_saved(seq),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, turn_id = %mirror.turn, "a mirror cannot be held against the record");
            }
        }
    }
}

/// What whoever attends a mirror has done last, and since when it is as it is.
struct Watch {
    looked: Instant,
    empty: Option<Instant>,
    /// How long it is until the next look, where something is withheld.
    pause: Option<Duration>,
}

impl Watch {
    /// Closes the mirror where nobody reads it, nor is likely to come back to it.
    fn closes(&mut self, turns: &Turns, mirror: &Arc<Mirror>) -> bool {
        if mirror.guests.load(Ordering::Acquire) > 0 {
            self.empty = None;
            return false;
        }
        self.empty.get_or_insert_with(Instant::now).elapsed() >= KEPT && turns.mirrors.close(mirror, false)
    }

    /// How long nothing is to be done.
    fn rest(&self) -> Duration {
        self.pause.map_or(LOOK, |pause| pause.saturating_sub(self.looked.elapsed()).min(LOOK))
    }

    /// Whether the record is to be looked at now: what is withheld is saved in a moment, or lost.
    fn is_to_look(&mut self, mirror: &Mirror) -> bool {
        let due = match (mirror.log.withholds(), self.pause) {
            (true, None) => {
                self.pause = Some(SOON);
                self.looked = Instant::now();
                return false;
            }
            (true, Some(pause)) => Some(pause),
            (false, _) => {
                self.pause = None;
                (self.empty.is_none() && !mirror.is_fresh()).then_some(QUIET)
            }
        };
        if due.is_none_or(|pause| self.looked.elapsed() < pause) {
            return false;
        }
        self.pause = self.pause.map(|pause| (pause * 2).min(QUIET));
        self.looked = Instant::now();
        true
    }
}

/// How far the record has the turn, to its end where it has ended; `None` where the mirror is of no use: the turn was taken, or the
/// record is further and there has been no news of late.
async fn reached(turns: &Turns, mirror: &Mirror) -> store::Result<Option<u64>> {
    let journalled = turns.store.journal_end(&mirror.owner, &mirror.turn).await?;
    // Asked after it: what was journalled before the turn was taken is this lease's.
    let standing = turns.store.standing(&mirror.owner, &mirror.turn).await?;
    let Some(standing) = standing.filter(|standing| !mirror.is_taken(standing)) else { return Ok(None) };
    let saved = if standing.status.is_end() { standing.seq } else { journalled };
    // What is said is on its way for some milliseconds.
    Ok((mirror.is_fresh() || saved <= mirror.log.appended().seq).then_some(saved))
}
