//! Forgetting a person: their conversations are erased one by one, then the rest of what is theirs, and last the mark that
//! says so. What is left undone is found by the mark, here or on another replica.

use std::time::Duration;

use super::Turns;
use super::stop::Erasing;
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
/// For so long, in microseconds, requests may be under way that were let in before the mark was seen by every replica.
const SETTLED: i64 = 1_500_000;
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

impl Turns {
    /// Forgets a person who is marked, to the end; comes back early when the process is told to stop: whoever finds the mark
    /// goes on. Seen through even if nobody waits.
    ///
    /// # Errors
    /// The store's; the sweep goes on.
    pub async fn forget(&self, owner: &Owner) -> Result<()> {
        let (turns, owner) = (self.clone(), owner.clone());
        let whole = async move {
            let Some(who) = turns.store.forgetting(Some(&owner), 1).await?.pop() else { return Ok(()) };
            while !turns.lifecycle.soft().is_cancelled() {
                match turns.forget_some(&who).await? {
                    Step::Done => return Ok(()),
                    Step::More => {}
                    Step::Later => tokio::time::sleep(PAUSE).await,
                }
            }
            Ok(())
        };
        self.lifecycle.whole(whole).await
    }

    /// Goes on with those who are being forgotten, a little for each.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn forget_on(&self) -> Result<()> {
        for who in self.store.forgetting(None, PEOPLE).await? {
            for _ in 0..STRIDES {
                if self.forget_some(&who).await? != Step::More {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn forget_some(&self, who: &Forgetting) -> Result<Step> {
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
        if self.now().as_micros() - who.since.as_micros() < SETTLED {
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
