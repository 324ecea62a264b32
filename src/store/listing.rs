//! The list of an owner's conversations, whole and by title.

use sqlx::Row;

use super::conversations::{COLUMNS, conversation_row, title};
use super::pool::read;
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::conversation::{Conversation, Silence};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;

/// A place in the list of an owner's conversations: after the one that was last active then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its `last_message_at`.
    pub at: Timestamp,
    /// Its id, which tells apart those of one microsecond.
    pub id: ConversationId,
}

impl Place {
    /// Before the first.
    fn start() -> Self {
        Self { at: Timestamp::from_micros(i64::MAX), id: String::new().into() }
    }
}

/// Some of an owner's conversations.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Last active first.
    pub conversations: Vec<Conversation>,
    /// Where it goes on, if there may be more.
    pub next: Option<Place>,
}

/// So many titles are read at once…
const STRIDE: usize = 500;
/// …and about so many looked through for one answer.
const SEARCHED: usize = 10_000;

/// The query of columns of the owner's conversations after a place, last active first.
macro_rules! after {
    ($columns:expr, $owner:expr, $from:expr, $most:expr) => {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "select {} from conversations c where application_id = $1 and owner_id = $2 \
             and (last_message_at, id) < ($3, $4) order by last_message_at desc, id desc limit $5",
            $columns
        )))
        .bind(&*$owner.application_id)
        .bind(&*$owner.owner_id)
        .bind($from.at.as_micros())
        .bind($from.id.as_str())
        .bind(i64::try_from($most).unwrap_or(i64::MAX))
    };
}

impl Store {
    /// The owner's conversations after `from`, last active first, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn conversations(
        &self,
        owner: &Owner,
        from: Option<Place>,
        limit: usize,
        silence: Silence,
    ) -> Result<Listed> {
        let from = from.unwrap_or_else(Place::start);
        let mut conversations: Vec<Conversation> = read!(self, conn => {
            let rows = after!(COLUMNS, owner, &from, limit + 1);
            rows.fetch_all(conn).await?.into_iter().map(|row| Ok(conversation_row!(row, silence))).collect()
        })?;
        let goes_on = conversations.len() > limit;
        conversations.truncate(limit);
        let last = conversations.last().filter(|_| goes_on);
        let next = last.map(|last| Place { at: last.last_message_at, id: last.id.clone() });
        Ok(Listed { conversations, next })
    }

    /// The owner's conversations after `from` whose title has `part` in it, in upper or lower case, last active first, at
    /// most `limit`. Some ten thousand titles are looked through at most: fewer may come, even none, though the list goes
    /// on.
    ///
    /// # Errors
    /// When the database does not answer, or too many search.
    pub async fn search_conversations(
        &self,
        owner: &Owner,
        part: &str,
        from: Option<Place>,
        limit: usize,
        silence: Silence,
    ) -> Result<Listed> {
        let place = tokio::time::timeout(self.patience, self.searches.acquire()).await;
        let _place = place.map_err(|_| Error::Crowded)?;
        let search = self.search(owner, part.to_lowercase(), from, limit, silence);
        tokio::time::timeout(self.patience, search).await.unwrap_or(Err(Error::Slow(self.patience)))
    }

    async fn search(
        &self,
        owner: &Owner,
        part: String,
        from: Option<Place>,
        limit: usize,
        silence: Silence,
    ) -> Result<Listed> {
        let (mut matches, mut next) = (Vec::new(), from);
        'looking: for _ in 0..SEARCHED.div_ceil(STRIDE) {
            let titles = self.titles_after(owner, &next.take().unwrap_or_else(Place::start)).await?;
            let may_go_on = titles.len() == STRIDE;
            for (place, title) in titles {
                if matches.len() == limit {
                    break 'looking;
                }
                if title.to_lowercase().contains(&part) {
                    matches.push(place.id.clone());
                }
                next = Some(place);
            }
            if !may_go_on {
                next = None;
                break;
            }
        }
        let mut conversations = Vec::with_capacity(matches.len());
        for id in matches {
            conversations.extend(self.conversation(owner, &id, silence).await?);
        }
        Ok(Listed { conversations, next })
    }

    /// The titles of the next stride, without anything else of their conversations.
    async fn titles_after(&self, owner: &Owner, from: &Place) -> Result<Vec<(Place, String)>> {
        read!(self, conn => {
            let rows = after!("id, title, last_message_at", owner, from, STRIDE).fetch_all(conn).await?;
            rows.into_iter()
                .map(|row| {
                    let at = Timestamp::from_micros(row.try_get("last_message_at")?);
                    Ok((Place { at, id: row.try_get::<String, _>("id")?.into() }, title(row.try_get("title")?)?))
                })
                .collect()
        })
    }
}
