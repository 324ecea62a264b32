//! The task that brings what is said into the index of words, a moment after it is saved: neither an admission nor an end waits
//! for it. Turns that come and go note what is new. What was not noted, or lost with a process, is found by looking: through
//! everything once at the start, then now and again through what is recent. Several replicas may do all of it at once.

use std::time::{Duration, Instant};

use super::Turns;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, MessageId};
use crate::store::indexing::{AT_ONCE, Entry, Item};
use crate::store::{Error, Result};

/// How often news is taken…
const PAUSE: Duration = Duration::from_millis(500);
/// …and how often what is recent is looked through.
const ROUND: Duration = Duration::from_secs(60);
/// After how many times the index is tidied: once a day.
const TIDY: u32 = 172_800;
/// What is recent, in microseconds before the last look began: what was said then may have ended since.
const RECENT: i64 = 300_000_000;
/// How much is looked through in one query.
const STRIDE: u32 = 500;
/// One transaction brings about so many bytes of words: on SQLite others wait for it, a millisecond or less.
const WRITTEN: usize = 8 << 10;
/// After each the database is left to others for so many times as long as it took: where many wait for it that is long.
const LEFT: u32 = 2;

/// The task. It ends with the lifecycle's soft token; what is not in the index by then is found at the next start.
pub async fn run(turns: Turns) {
    let soft = turns.lifecycle.soft().clone();
    let mut look = Look { messages: Some(String::new()), titles: Some(String::new()), begun: turns.now() };
    let (mut round, mut pause, mut tidying) = (0u32, PAUSE, Some(true));
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            () = soft.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        round += 1;
        let work = async {
            bring(&turns, &turns.registry.noted()).await?;
            if look.go_on(&turns).await? {
                return Ok(true);
            }
            if let Some(begin) = tidying {
                tidying = turns.store.tidy_index(begin).await?.then_some(false);
            }
            Ok::<bool, Error>(false)
        };
        // What is left undone in the middle of it is found at the next start.
        let done = tokio::select! {
            () = soft.cancelled() => return,
            done = work => done,
        };
        pause = match done {
            Ok(true) => Duration::ZERO,
            Ok(false) => PAUSE,
            Err(error) => {
                tracing::warn!(%error, "the index of words waits for the database");
                look.begin(turns.now());
                PAUSE
            }
        };
        if round.is_multiple_of(TIDY) {
            tidying = Some(true);
        }
        if looked.elapsed() >= ROUND {
            looked = Instant::now();
            look.begin(turns.now());
        }
    }
}

/// A look through the record for what is not in the index.
#[derive(Debug)]
struct Look {
    /// Where it is among the messages; `None` = at the end.
    messages: Option<String>,
    /// The same among the conversations.
    titles: Option<String>,
    /// When the last look began: what came since may not have been noted.
    begun: Timestamp,
}

impl Look {
    /// Looks through what is recent, if it is not looking already. Ids say when they were made.
    fn begin(&mut self, now: Timestamp) {
        if self.messages.is_none() && self.titles.is_none() {
            let since = Timestamp::from_micros(self.begun.as_micros() - RECENT);
            self.begun = now;
            self.messages = Some(MessageId::new(since).as_str().to_owned());
            self.titles = Some(ConversationId::new(since).as_str().to_owned());
        }
    }

    /// Looks a little further; says whether something was missing, so that there may be more.
    async fn go_on(&mut self, turns: &Turns) -> Result<bool> {
        let found = if let Some(after) = &self.messages {
            let found = turns.store.unindexed_messages(after, STRIDE).await?;
            self.messages = found.next;
            found.items
        } else if let Some(after) = &self.titles {
            let found = turns.store.unindexed_titles(after, STRIDE).await?;
            self.titles = found.next;
            found.items
        } else {
            return Ok(false);
        };
        bring(turns, &found).await?;
        Ok(!found.is_empty())
    }
}

/// Brings these into the index, as far as they are not there.
async fn bring(turns: &Turns, items: &[Item]) -> Result<()> {
    for items in items.chunks(AT_ONCE) {
        let entries = turns.store.entries(items).await?;
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let mut weight = 0;
            let fits = |entry: &&Entry| {
                weight += entry.weight();
                weight <= WRITTEN
            };
            let some = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(some);
            let begun = Instant::now();
            turns.store.index(now).await?;
            rest = later;
            tokio::time::sleep(begun.elapsed() * LEFT).await;
        }
    }
    Ok(())
}
