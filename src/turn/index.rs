//! The task that brings what is said into the index of words, a moment after it is saved: neither an admission nor an end waits
//! for it. Turns that come and go note what is new. What was not noted, or lost with a process, is found by looking: through
//! everything once at the start, then now and again through what is recent. Several replicas may do all of it at once.

use std::time::Duration;

use super::Turns;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, MessageId};
use crate::store::indexing::{AT_ONCE, Entry, Item};
use crate::store::{Error, Result};

/// How often news is taken…
const PAUSE: Duration = Duration::from_millis(500);
/// …and after how many times what is recent is looked through.
const ROUND: u32 = 120;
/// After how many times the index is tidied: once a day.
const TIDY: u32 = 172_800;
/// What is recent, in microseconds.
const RECENT: i64 = 300_000_000;
/// How much is looked through in one query.
const STRIDE: u32 = 500;
/// One transaction brings about so many bytes of words: on SQLite others wait for it, a millisecond or less.
const WRITTEN: usize = 8 << 10;

/// The task. It ends with the lifecycle's soft token; what is not in the index by then is found at the next start.
pub async fn run(turns: Turns) {
    let soft = turns.lifecycle.soft().clone();
    let mut look = Look { messages: Some(String::new()), titles: Some(String::new()) };
    let (mut round, mut pause, mut tidying) = (0u32, PAUSE, Some(true));
    loop {
        tokio::select! {
            () = soft.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        round += 1;
        let work = async {
            bring(&turns, &turns.registry.news()).await?;
            if look.go_on(&turns).await? {
                return Ok(true);
            }
            if let Some(begin) = tidying {
                tidying = turns.store.tidy_index(begin).await?.then_some(false);
            }
            Ok::<bool, Error>(false)
        };
        pause = match work.await {
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
        if round.is_multiple_of(ROUND) {
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
}

impl Look {
    /// Looks through what is recent, if it is not looking already. Ids say when they were made.
    fn begin(&mut self, now: Timestamp) {
        let since = Timestamp::from_micros(now.as_micros() - RECENT);
        if self.messages.is_none() && self.titles.is_none() {
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
            turns.store.index(now).await?;
            rest = later;
        }
    }
    Ok(())
}
