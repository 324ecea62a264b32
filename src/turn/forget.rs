//! Forgetting a person: their conversations are erased one by one, then the rest of what is theirs, and last the mark that
//! says so. What is left undone is found by the mark, here or on another replica.
//!
//! A request that was let in before the mark may write after it, so the end is waited for.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Turns;
use super::stop::Erasing;
use crate::domain::ids::GoneId;
use crate::domain::owner::Owner;
use crate::store::Result;
use crate::store::forgetting::{Forgetting, Left};

/// So many conversations are looked up at once…
const STRIDE: u32 = 50;
/// …and so many other rows change in one transaction.
const ROWS: u32 = 500;
/// So often, in one round of the sweep, for one person.
const STRIDES: u32 = 4;
/// So many people in one round.
const PEOPLE: u32 = 10;
/// So many are forgotten at once besides, each in one go; beyond, it is left to the sweep.
const AT_ONCE: usize = 32;
/// For so long a request may be on its way to the database that was let in before the mark was seen.
const COMING: Duration = Duration::from_secs(1);
/// How long it is waited where something is in the way.
const PAUSE: Duration = Duration::from_millis(500);

/// How a forgetting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing of them is left, or somebody else has seen to that.
    Done,
    /// There is more to do.
    More,
    /// There is more to do, and something is in the way: a turn that has not ended, or the time.
    Later,
}

/// Who is being forgotten in one go here, and what is cancelled when that is over.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<HashMap<Owner, CancellationToken>>);

/// What whoever asks for a forgetting is to do about it.
enum Part {
    /// All of it.
    Whole(Place),
    /// Wait for whoever does.
    Wait(CancellationToken),
    /// Nothing: enough are at it.
    None,
}

/// A place among those who are being forgotten. Dropped, it is free, and those who wait are told.
struct Place {
    turns: Turns,
    owner: Owner,
    _over: DropGuard,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.leaving.0.lock().remove(&self.owner);
    }
}

impl Turns {
    /// Forgets a person who is marked, to the end; comes back early when the process is told to stop, or has enough to
    /// forget: whoever finds the mark goes on. Seen through even if nobody waits, once however many ask.
    ///
    /// # Errors
    /// The store's; the sweep goes on.
    pub async fn forget(&self, owner: &Owner) -> Result<()> {
        while !self.lifecycle.soft().is_cancelled() {
            let Some(who) = self.store.forgetting(Some(owner), 1).await?.pop() else { return Ok(()) };
            let place = match self.part_in(owner) {
                Part::Whole(place) => place,
                Part::Wait(over) => {
                    over.cancelled().await;
                    continue;
                }
                Part::None => return Ok(()),
            };
            return self
                .lifecycle
                .whole(async move {
                    let place = place;
                    place.turns.forget_whole(&who).await
                })
                .await;
        }
        Ok(())
    }

    fn part_in(&self, owner: &Owner) -> Part {
        let mut leaving = self.leaving.0.lock();
        if let Some(over) = leaving.get(owner) {
            return Part::Wait(over.clone());
        }
        if leaving.len() >= AT_ONCE {
            return Part::None;
        }
        let over = CancellationToken::new();
        leaving.insert(owner.clone(), over.clone());
        Part::Whole(Place { turns: self.clone(), owner: owner.clone(), _over: over.drop_guard() })
    }

    async fn forget_whole(&self, who: &Forgetting) -> Result<()> {
        let seen = Instant::now();
        while !self.lifecycle.soft().is_cancelled() {
            match self.forget_some(who, seen).await? {
                Step::Done => return Ok(()),
                Step::More => {}
                Step::Later => tokio::time::sleep(PAUSE).await,
            }
        }
        Ok(())
    }

    /// For so long after a replica has seen a mark, requests may write that were let in before it.
    ///
    /// SQLite has one writer, for which all queue: who has come before the last step writes before it. On PostgreSQL each
    /// connection writes for itself, and gives up after `limits.database_s`; who stands in line before that finds the mark.
    fn settled(&self) -> Duration {
        if self.store.is_shared() { COMING + Duration::from_secs(self.settings.limits.database_s) } else { COMING }
    }

    async fn forget_some(&self, who: &Forgetting, seen: Instant) -> Result<Step> {
        // Looked at before anything else: what is done from here on is done to all there will be.
        let settled = seen.elapsed() >= self.settled();
        let conversations = self.store.conversations_of(who, STRIDE).await?;
        for conversation in &conversations {
            // What happened to each is told by what happened to the person.
            if !self.erase(&who.owner, conversation, Erasing::default()).await? {
                return Ok(Step::Later);
            }
        }
        if !conversations.is_empty() {
            return Ok(Step::More);
        }
        match self.store.forget_rest(who, ROWS).await? {
            Left::Nothing => {}
            Left::More => return Ok(Step::More),
            Left::Unmarked => return Ok(Step::Done),
        }
        if !settled {
            return Ok(Step::Later);
        }
        self.store.forget_words().await?;
        match self.store.end_forgetting(who).await? {
            Left::Nothing => {}
            // Whoever is marked is refused: it is not of after the mark.
            Left::More => return Ok(Step::More),
            Left::Unmarked => return Ok(Step::Done),
        }
        self.store.forget_traces().await;
        tracing::info!(pseudonym = %who.pseudonym, "a person has been forgotten");
        Ok(Step::Done)
    }
}

/// Looks for those who are being forgotten, and knows since when it has seen each.
#[derive(Debug, Default)]
pub struct Look {
    seen: HashMap<GoneId, Instant>,
}

impl Look {
    /// Goes on with them, a little for each. What goes wrong with one keeps nobody else waiting.
    ///
    /// # Errors
    /// The store's, where it is not even known who they are.
    pub async fn go_on(&mut self, turns: &Turns) -> Result<()> {
        let marked = turns.store.forgetting(None, PEOPLE).await?;
        self.seen.retain(|pseudonym, _| marked.iter().any(|who| who.pseudonym == *pseudonym));
        for who in &marked {
            let seen = *self.seen.entry(who.pseudonym.clone()).or_insert_with(Instant::now);
            if let Err(error) = go_on_with(turns, who, seen).await {
                tracing::warn!(%error, pseudonym = %who.pseudonym, "the sweep forgets somebody later");
            }
        }
        Ok(())
    }
}

async fn go_on_with(turns: &Turns, who: &Forgetting, seen: Instant) -> Result<()> {
    for _ in 0..STRIDES {
        if turns.lifecycle.soft().is_cancelled() || turns.forget_some(who, seen).await? != Step::More {
            break;
        }
    }
    Ok(())
}
