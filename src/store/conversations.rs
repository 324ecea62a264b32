//! Conversations.

use serde_json::Value;
use sqlx::Row;

use super::audit::{OK, insert_deed};
use super::indexing::{marked_words, sort_title};
use super::journal::ERASING;
use super::pool::{Done, read, write};
use super::tail::clear_tail;
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::conversation::{Config, Conversation, Silence, UNTITLED};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;

/// What ended so long ago, in microseconds, is not in the tail any more, and nothing of it is still to be saved.
const RECENT: i64 = 600_000_000;

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

/// How a conversation is erased.
#[derive(Clone, Copy, Debug)]
pub struct Erasure<'a> {
    /// When.
    pub now: Timestamp,
    /// Until when the keys of idempotency are kept that made something in it.
    pub forget_at: Timestamp,
    /// What the audit log has of it.
    pub deed: Option<&'a Deed>,
    /// Only if nothing has happened in it since.
    pub silent_since: Option<Timestamp>,
}

impl Erasure<'_> {
    /// One that happens whatever happened in it, and that the audit log has nothing of.
    pub fn new(now: Timestamp, forget_at: Timestamp) -> Self {
        Self { now, forget_at, deed: None, silent_since: None }
    }
}

/// A statement on what is a conversation's of an owner's: the first three parameters are its id and the owner.
macro_rules! of_conversation {
    ($conn:expr, $owner:expr, $id:expr, $sql:expr) => {
        $conn.query($sql).bind($id.as_str()).bind(&*$owner.application_id).bind(&*$owner.owner_id)
    };
}

/// Keeps words of a conversation out of the index, in a transaction that has its row and takes out what they refer to. SQLite has
/// one writer.
macro_rules! keep_from_index {
    ($store:expr, $conn:expr, $id:expr) => {
        if $store.is_shared() {
            $conn.query("select id from conversations where id = $1 for update").bind($id.as_str()).later().await?;
        }
    };
}

/// The columns that make a conversation.
pub(super) const COLUMNS: &str = "c.id, c.title, c.state, c.archived_at, c.archive_reason, c.created_at, \
    c.last_message_at, c.resumed_at, c.expired_at, c.config, c.metadata, c.live_turn_id";

/// The conversation in a row that has its columns, as it stands by `$silence`.
macro_rules! conversation_row {
    ($row:expr, $silence:expr) => {{
        use $crate::store::conversations::{json, text, title};
        let row = $row;
        let live_turn_id: Option<String> = row.try_get("live_turn_id")?;
        let last_message_at = Timestamp::from_micros(row.try_get("last_message_at")?);
        let active_at = last_message_at.max(Timestamp::from_micros(row.try_get("resumed_at")?));
        let state = $crate::domain::conversation::State::parse(row.try_get("state")?)
            .ok_or($crate::store::Error::Corrupt("conversations.state"))?;
        let expired = row.try_get::<Option<i64>, _>("expired_at")?.is_some();
        let (state, expires_at) = $silence.judge(state, live_turn_id.is_some(), active_at, expired);
        $crate::domain::conversation::Conversation {
            id: row.try_get::<String, _>("id")?.into(),
            title: title(row.try_get("title")?)?,
            state,
            archived_at: row.try_get::<Option<i64>, _>("archived_at")?.map(Timestamp::from_micros),
            archive_reason: row
                .try_get::<Option<Vec<u8>>, _>("archive_reason")?
                .map(|bytes| text(bytes, "conversations.archive_reason"))
                .transpose()?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            last_message_at,
            expires_at,
            config: json(row.try_get("config")?, "conversations.config")?,
            metadata: json(row.try_get("metadata")?, "conversations.metadata")?,
            live_turn_id: live_turn_id.map(Into::into),
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
             metadata, turn_count, live_turn_id, created_at, last_message_at, sort_title) \
             values ($1, $2, $3, $4, $5, 'active', $6, $7, $8, $9, $10, $11, $11, $12) \
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
            .bind($crate::store::indexing::sort_title($title))
    };
}

pub(super) use {conversation_row, insert_conversation, keep_from_index};

pub(super) fn title(bytes: Option<Vec<u8>>) -> Result<String> {
    let Some(bytes) = bytes else { return Ok(UNTITLED.to_owned()) };
    text(bytes, "conversations.title")
}

pub(super) fn text(bytes: Vec<u8>, column: &'static str) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::Corrupt(column))
}

/// Reads a column of JSON text.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str, column: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| Error::Corrupt(column))
}

impl Store {
    /// The conversation as it stands by now, if it is the owner's.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn conversation(
        &self,
        owner: &Owner,
        id: &ConversationId,
        silence: Silence,
    ) -> Result<Option<Conversation>> {
        let sql = format!(
            "select {COLUMNS} from conversations c where c.id = $1 and c.application_id = $2 and c.owner_id = $3"
        );
        read!(self, conn => {
            let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .fetch_optional(conn)
                .await?;
            match row {
                Some(row) => Ok(Some(conversation_row!(row, silence))),
                None => Ok(None),
            }
        })
    }

    /// Gives a conversation another title, if one is given, and has `change` change its configuration and its metadata.
    /// `None` when the owner has no such conversation; what `change` refuses leaves all of it as it was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn patch_conversation<R: Send>(
        &self,
        owner: &Owner,
        id: &ConversationId,
        title: Option<&str>,
        deed: &Deed,
        change: impl Fn(&mut Value, &mut Value) -> std::result::Result<(), R> + Send + Sync,
    ) -> Result<Option<std::result::Result<(), R>>> {
        let _front = self.line(owner, id.as_str()).await?;
        write!(self, conn => {
            // Taking the row keeps every other writer of the conversation out.
            let row: Option<(String, String)> = conn
                .query(
                    "update conversations set config = config where id = $1 and application_id = $2 and owner_id = $3 \
                     returning config, metadata",
                )
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .row()
                .await?;
            let Some((config, metadata)) = row else { return Ok(Done::Rollback(None)) };
            let mut config: Value = json(&config, "conversations.config")?;
            let mut metadata: Value = json(&metadata, "conversations.metadata")?;
            if let Err(refused) = change(&mut config, &mut metadata) {
                return Ok(Done::Rollback(Some(Err(refused))));
            }
            conn.query("update conversations set config = $1, metadata = $2 where id = $3")
                .bind(crate::domain::json::to_string(&config))
                .bind(crate::domain::json::to_string(&metadata))
                .bind(id.as_str())
                .later()
                .await?;
            if let Some(title) = title {
                conn.query("update conversations set title = $1, sort_title = $2 where id = $3")
                    .bind(title.as_bytes())
                    .bind(sort_title(Some(title)))
                    .bind(id.as_str())
                    .later()
                    .await?;
                // The new one is found in place of the old at once.
                conn.query("delete from indexed where conversation_id = $1 and message_id is null")
                    .bind(id.as_str())
                    .later()
                    .await?;
                conn.query("insert into indexed (conversation_id, words) values ($1, $2)")
                    .bind(id.as_str())
                    .bind(marked_words(owner, title))
                    .later()
                    .await?;
            }
            insert_deed!(conn, deed, OK).later().await?;
            Ok(Done::Commit(Some(Ok(()))))
        })
    }

    /// The conversation the owner calls by this session id.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
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
    /// become tombstones. False while a turn is open; where there is none, or it was active after all, nothing is done.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn erase_conversation(&self, owner: &Owner, id: &ConversationId, erasure: Erasure<'_>) -> Result<bool> {
        let Erasure { now, forget_at, deed, silent_since } = erasure;
        let _front = self.line(owner, id.as_str()).await?;
        write!(self, conn => {
            // Taking the row first keeps every other writer of the conversation out.
            let taken: Option<(String,)> = conn
                .query(
                    "update conversations set last_message_at = last_message_at \
                     where id = $1 and application_id = $2 and owner_id = $3 and ($4 = 0 or (live_turn_id is null \
                     and last_message_at < $4 and resumed_at < $4)) returning id",
                )
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(silent_since.map_or(0, Timestamp::as_micros))
                .row()
                .await?;
            if taken.is_none() {
                return Ok(Done::Rollback(true));
            }
            let (open,): (i64,) = conn.query(
                "select count(*) from turns where conversation_id = $1 and finished_at is null",
            )
            .bind(id.as_str())
            .one()
            .await?;
            if open > 0 {
                return Ok(Done::Rollback(false));
            }
            keep_from_index!(self, conn, id);
            if self.is_shared() {
                // Before their events, as whoever drops old events does.
                conn.query("select id from turns where conversation_id = $1 order by id for update")
                    .bind(id.as_str())
                    .later()
                    .await?;
            } else {
                // What has ended so lately may be in the tail.
                let recent: Vec<(String,)> = conn
                    .query("select id from turns where conversation_id = $1 and finished_at > $2")
                    .bind(id.as_str())
                    .bind(now.as_micros() - RECENT)
                    .rows()
                    .await?;
                for (turn,) in &recent {
                    clear_tail!(conn, turn);
                }
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
                // What was used stays, and nobody knows any more by whom or for what.
                "update usage_records set conversation_id = null, turn_id = null, step_id = null, owner_id = null \
                 where conversation_id = $1 and application_id = $2 and owner_id = $3",
                "delete from summaries where conversation_id = $1 and application_id = $2 and owner_id = $3",
                "delete from messages where conversation_id = $1 and application_id = $2 and owner_id = $3",
            ] {
                of_conversation!(conn, owner, id, erase).later().await?;
            }
            if self.is_shared() {
                // Of what ended long ago nobody saves anything any more: it goes before the journal's commits wait.
                of_conversation!(
                    conn,
                    owner,
                    id,
                    "delete from journal where turn_id in (select id from turns where conversation_id = $1 \
                     and finished_at <= $4) and application_id = $2 and owner_id = $3"
                )
                .bind(now.as_micros() - RECENT)
                .later()
                .await?;
                // Commits under way are waited for, and what they saved goes too; those after see no turn.
                conn.query("select pg_advisory_xact_lock($1)").bind(ERASING).later().await?;
            }
            for erase in [
                "delete from journal where turn_id in (select id from turns where conversation_id = $1) \
                 and application_id = $2 and owner_id = $3",
                "delete from tickets where (conversation_id = $1 or turn_id in (select id from turns \
                 where conversation_id = $1)) and application_id = $2 and owner_id = $3",
                "delete from turns where conversation_id = $1 and application_id = $2 and owner_id = $3",
                "delete from conversations where id = $1 and application_id = $2 and owner_id = $3",
            ] {
                of_conversation!(conn, owner, id, erase).later().await?;
            }
            if let Some(deed) = deed {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(true))
        })
    }
}
