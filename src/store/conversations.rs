//! Conversations.

use serde_json::Value;
use sqlx::Row;

use super::pool::{self, Done, read, write};
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::conversation::{Config, Conversation, State, UNTITLED};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;

/// A conversation to be made.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// Its id.
    pub id: ConversationId,
    /// The client's own name for it.
    pub session_id: Option<String>,
    /// Its title; made of its first message when absent.
    pub title: Option<String>,
    /// What it asks of its models.
    pub config: Config,
    /// What its prompts may draw on.
    pub context: Value,
    /// What the client keeps with it.
    pub metadata: Value,
    /// When.
    pub now: Timestamp,
}

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

macro_rules! conversation_row {
    ($row:expr) => {{
        let row = $row;
        Conversation {
            id: row.try_get::<String, _>("id")?.into(),
            title: super::conversations::title(row.try_get("title")?)?,
            state: State::parse(row.try_get("state")?).ok_or(Error::Corrupt("conversations.state"))?,
            archived_at: row.try_get::<Option<i64>, _>("archived_at")?.map(Timestamp::from_micros),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            last_message_at: Timestamp::from_micros(row.try_get("last_message_at")?),
            config: json(row.try_get("config")?, "conversations.config")?,
            metadata: json(row.try_get("metadata")?, "conversations.metadata")?,
            live_turn_id: row.try_get::<Option<String>, _>("live_turn_id")?.map(Into::into),
        }
    }};
}

/// The statement that makes a conversation, unless the owner has one of that session id; with its first turn, if that
/// is known to be `$first`.
macro_rules! insert_conversation {
    ($conn:expr, $owner:expr, $new:expr, $title:expr, $first:expr) => {
        $conn
            .query(
                "insert into conversations (id, application_id, owner_id, session_id, title, state, config, context, \
             metadata, turn_count, live_turn_id, created_at, last_message_at) \
             values ($1, $2, $3, $4, $5, 'active', $6, $7, $8, $9, $10, $11, $11) \
             on conflict (application_id, owner_id, session_id) where session_id is not null do nothing",
            )
            .bind($new.id.as_str())
            .bind(&*$owner.application_id)
            .bind(&*$owner.owner_id)
            .bind($new.session_id.as_deref())
            .bind($title.map(str::as_bytes))
            .bind($crate::domain::json::to_string(&$new.config))
            .bind($crate::domain::json::to_string(&$new.context))
            .bind($crate::domain::json::to_string(&$new.metadata))
            .bind(i64::from($first.is_some()))
            .bind($first.map($crate::domain::ids::TurnId::as_str))
            .bind($new.now.as_micros())
    };
}

pub(super) use insert_conversation;

pub(super) fn title(bytes: Option<Vec<u8>>) -> Result<String> {
    let Some(bytes) = bytes else { return Ok(UNTITLED.to_owned()) };
    String::from_utf8(bytes).map_err(|_| Error::Corrupt("conversations.title"))
}

/// Reads a column of JSON text.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str, column: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| Error::Corrupt(column))
}

impl Store {
    /// The conversation, if it is the owner's.
    pub async fn conversation(&self, owner: &Owner, id: &ConversationId) -> Result<Option<Conversation>> {
        read!(self, conn => {
            let row = sqlx::query(
                "select id, title, state, archived_at, created_at, last_message_at, config, metadata, live_turn_id \
                 from conversations where id = $1 and application_id = $2 and owner_id = $3",
            )
            .bind(id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .fetch_optional(conn)
            .await?;
            match row {
                Some(row) => Ok(Some(conversation_row!(row))),
                None => Ok(None),
            }
        })
    }

    /// The owner's conversations after `from`, last active first, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn conversations(&self, owner: &Owner, from: Option<Place>, limit: usize) -> Result<Listed> {
        let mut conversations = self.conversations_after(owner, from.unwrap_or_else(Place::start), limit + 1).await?;
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
    ) -> Result<Listed> {
        pool::within(self.patience, Box::pin(self.search(owner, part.to_lowercase(), from, limit))).await
    }

    async fn search(&self, owner: &Owner, part: String, from: Option<Place>, limit: usize) -> Result<Listed> {
        let _place = self.searches.acquire().await.ok();
        let (mut matches, mut next) = (Vec::new(), from);
        'looking: for _ in 0..SEARCHED.div_ceil(STRIDE) {
            let titles = self.titles_after(owner, next.take().unwrap_or_else(Place::start)).await?;
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
            conversations.extend(self.conversation(owner, &id).await?);
        }
        Ok(Listed { conversations, next })
    }

    /// The titles of the next stride, without anything else of their conversations.
    async fn titles_after(&self, owner: &Owner, from: Place) -> Result<Vec<(Place, String)>> {
        read!(self, conn => {
            let rows = sqlx::query(
                "select id, title, last_message_at from conversations \
                 where application_id = $1 and owner_id = $2 and (last_message_at, id) < ($3, $4) \
                 order by last_message_at desc, id desc limit $5",
            )
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(from.at.as_micros())
            .bind(from.id.as_str())
            .bind(i64::try_from(STRIDE).unwrap_or(i64::MAX))
            .fetch_all(conn)
            .await?;
            rows.into_iter()
                .map(|row| {
                    let at = Timestamp::from_micros(row.try_get("last_message_at")?);
                    Ok((Place { at, id: row.try_get::<String, _>("id")?.into() }, title(row.try_get("title")?)?))
                })
                .collect()
        })
    }

    async fn conversations_after(&self, owner: &Owner, from: Place, most: usize) -> Result<Vec<Conversation>> {
        read!(self, conn => {
            let rows = sqlx::query(
                "select id, title, state, archived_at, created_at, last_message_at, config, metadata, live_turn_id \
                 from conversations where application_id = $1 and owner_id = $2 and (last_message_at, id) < ($3, $4) \
                 order by last_message_at desc, id desc limit $5",
            )
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(from.at.as_micros())
            .bind(from.id.as_str())
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(conn)
            .await?;
            rows.into_iter().map(|row| Ok(conversation_row!(row))).collect()
        })
    }

    /// Gives a conversation another title. False when the owner has no such conversation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retitle_conversation(&self, owner: &Owner, id: &ConversationId, title: &str) -> Result<bool> {
        write!(self, conn => {
            let retitled = conn
                .query("update conversations set title = $1 where id = $2 and application_id = $3 and owner_id = $4")
                .bind(title.as_bytes())
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .changes()
                .await?;
            Ok(Done::Commit(retitled > 0))
        })
    }

    /// The conversation the owner calls by this session id.
    pub async fn session(&self, owner: &Owner, session_id: &str) -> Result<Option<ConversationId>> {
        read!(self, conn => {
            let id: Option<String> = sqlx::query_scalar(
                "select id from conversations where application_id = $1 and owner_id = $2 and session_id = $3",
            )
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(session_id)
            .fetch_optional(conn)
            .await?;
            Ok(id.map(Into::into))
        })
    }

    /// Erases a conversation that has no open turn, with everything under it; keys that made something in it
    /// become tombstones until `forget_at`. False while a turn is open.
    pub async fn erase_conversation(
        &self,
        owner: &Owner,
        id: &ConversationId,
        now: Timestamp,
        forget_at: Timestamp,
    ) -> Result<bool> {
        write!(self, conn => {
            // Taking the row first keeps every other writer of the conversation out.
            conn.query(
                "update conversations set last_message_at = last_message_at \
                 where id = $1 and application_id = $2 and owner_id = $3",
            )
            .bind(id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .later()
            .await?;
            let (open,): (i64,) = conn.query(
                "select count(*) from turns where conversation_id = $1 and finished_at is null",
            )
            .bind(id.as_str())
            .one()
            .await?;
            if open > 0 {
                return Ok(Done::Rollback(false));
            }
            conn.query(
                "update idempotency_keys set deleted_at = $1, expires_at = $2 \
                 where conversation_id = $3 and application_id = $4 and owner_id = $5",
            )
            .bind(now.as_micros())
            .bind(forget_at.as_micros())
            .bind(id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .later()
            .await?;
            for erase in [
                "delete from journal where turn_id in (select id from turns where conversation_id = $1) \
                 and application_id = $2 and owner_id = $3",
                "delete from messages where conversation_id = $1 and application_id = $2 and owner_id = $3",
                "delete from turns where conversation_id = $1 and application_id = $2 and owner_id = $3",
                "delete from conversations where id = $1 and application_id = $2 and owner_id = $3",
            ] {
                conn.query(erase)
                    .bind(id.as_str())
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .later()
                    .await?;
            }
            Ok(Done::Commit(true))
        })
    }
}
