//! Idempotency keys: who asked what under which key, and what came of it.

use sqlx::AssertSqlSafe;

use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::owner::Owner;

/// A key with what was asked under it.
#[derive(Clone, Debug)]
pub struct Key {
    /// The client's key.
    pub key: String,
    /// What makes two requests equal: a digest of method, path and parsed body or query.
    pub fingerprint: String,
}

/// What a key already stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The same request was here before, and made this.
    Same(ConversationId, Option<TurnId>),
    /// Another request was here before.
    Other,
    /// What it made has been deleted.
    Deleted,
}

/// Claims a key, on a connection inside a transaction: `None` when it was free. A claim that has expired is free.
macro_rules! claim_key {
    ($conn:expr, $owner:expr, $key:expr, $conversation:expr, $turn:expr, $now:expr, $expires:expr) => {{
        let claimed = $conn
            .query(
                "insert into idempotency_keys \
             (application_id, owner_id, key, fingerprint, conversation_id, turn_id, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8) \
             on conflict (application_id, owner_id, key) do update set fingerprint = excluded.fingerprint, \
             conversation_id = excluded.conversation_id, turn_id = excluded.turn_id, deleted_at = null, \
             created_at = excluded.created_at, expires_at = excluded.expires_at \
             where idempotency_keys.expires_at <= $7",
            )
            .bind(&*$owner.application_id)
            .bind(&*$owner.owner_id)
            .bind($key.key.as_str())
            .bind($key.fingerprint.as_str())
            .bind($conversation.as_str())
            .bind($turn.map($crate::domain::ids::TurnId::as_str))
            .bind($now.as_micros())
            .bind($expires.map($crate::domain::clock::Timestamp::as_micros))
            .changes()
            .await?;
        if claimed > 0 {
            None
        } else {
            let (fingerprint, conversation, turn, deleted): (String, String, Option<String>, Option<i64>) = $conn
                .query(
                    "select fingerprint, conversation_id, turn_id, deleted_at from idempotency_keys \
                     where application_id = $1 and owner_id = $2 and key = $3",
                )
                .bind(&*$owner.application_id)
                .bind(&*$owner.owner_id)
                .bind($key.key.as_str())
                .one()
                .await?;
            Some($crate::store::idempotency::judge($key, &fingerprint, conversation, turn, deleted))
        }
    }};
}

pub(super) use claim_key;

pub(super) fn judge(
    key: &Key,
    fingerprint: &str,
    conversation: String,
    turn: Option<String>,
    deleted: Option<i64>,
) -> Claimed {
    if fingerprint != key.fingerprint {
        Claimed::Other
    } else if deleted.is_some() {
        Claimed::Deleted
    } else {
        Claimed::Same(conversation.into(), turn.map(Into::into))
    }
}

impl Store {
    /// What a key stands for, if anything.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn claimed(&self, owner: &Owner, key: &Key, now: Timestamp) -> Result<Option<Claimed>> {
        read!(self, conn => {
            let row: Option<(String, String, Option<String>, Option<i64>)> = sqlx::query_as(
                "select fingerprint, conversation_id, turn_id, deleted_at from idempotency_keys \
                 where application_id = $1 and owner_id = $2 and key = $3 \
                 and (expires_at is null or expires_at > $4)",
            )
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(key.key.as_str())
            .bind(now.as_micros())
            .fetch_optional(conn)
            .await?;
            Ok(row.map(|(fingerprint, conversation, turn, deleted)| {
                judge(key, &fingerprint, conversation, turn, deleted)
            }))
        })
    }

    /// Notes that somebody is told of the turn that a key has made: it is not undone any more. False where it is gone by now. A claim
    /// is later than its turn by a microsecond for each who was told.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn note_told(&self, owner: &Owner, key: &Key, turn: &TurnId) -> Result<bool> {
        write!(self, conn => {
            let told = conn.query(
                "update idempotency_keys set created_at = created_at + 1 \
                 where application_id = $1 and owner_id = $2 and key = $3 and turn_id = $4",
            )
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(key.key.as_str())
            .bind(turn.as_str())
            .changes()
            .await?;
            Ok(Done::Commit(told > 0))
        })
    }

    /// Forgets up to `limit` keys that expired before `now`; says how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_keys(&self, now: Timestamp, limit: u32) -> Result<u64> {
        // One may be used again at this moment.
        let free = self.unless_locked();
        write!(self, conn => {
            let forgotten = conn.query(AssertSqlSafe(format!(
                "delete from idempotency_keys where (application_id, owner_id, key) in \
                 (select application_id, owner_id, key from idempotency_keys where expires_at <= $1 limit $2 {free})"
            )))
            .bind(now.as_micros())
            .bind(i64::from(limit))
            .changes()
            .await?;
            Ok(Done::Commit(forgotten))
        })
    }
}
