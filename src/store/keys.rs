//! API keys. What they open is judged elsewhere; here they are kept.

use sqlx::Row;

use super::audit::{OK, insert_deed};
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::caller::Role;
use crate::domain::clock::Timestamp;
use crate::domain::ids::KeyId;

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The application it is of.
    pub application_id: String,
    /// What it is found by.
    pub prefix: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, a minute or so late.
    pub last_used_at: Option<Timestamp>,
    /// When it ceases to be good.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it is good at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| expires > now)
    }
}

macro_rules! key_row {
    ($row:expr) => {{
        let row = $row;
        let time = |time: Option<i64>| time.map(Timestamp::from_micros);
        ApiKey {
            id: row.try_get::<String, _>("id")?.into(),
            application_id: row.try_get("application_id")?,
            prefix: row.try_get("prefix")?,
            role: Role::parse(row.try_get("role")?).ok_or(Error::Corrupt("api_keys.role"))?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            last_used_at: time(row.try_get("last_used_at")?),
            expires_at: time(row.try_get("expires_at")?),
            revoked_at: time(row.try_get("revoked_at")?),
        }
    }};
}

impl Store {
    /// Keeps a new key, and the pepper's mark of its text. With it, the key it takes the place of ceases to be good at
    /// `old_until`, if it would be good for longer. False when there is no such old key that is good.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn add_key(
        &self,
        key: &ApiKey,
        mark: &[u8],
        old: Option<(&KeyId, Timestamp)>,
        deed: &Deed,
    ) -> Result<bool> {
        write!(self, conn => {
            if let Some((old, until)) = old {
                let changed = conn
                    .query(
                        "update api_keys set expires_at = case when expires_at < $1 then expires_at else $1 end \
                         where id = $2 and application_id = $3 and revoked_at is null \
                         and (expires_at is null or expires_at > $4)",
                    )
                    .bind(until.as_micros())
                    .bind(old.as_str())
                    .bind(key.application_id.as_str())
                    .bind(key.created_at.as_micros())
                    .changes()
                    .await?;
                if changed == 0 {
                    return Ok(Done::Rollback(false));
                }
            }
            conn.query(
                "insert into api_keys (id, application_id, prefix, mark, role, created_at, expires_at) \
                 values ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(key.id.as_str())
            .bind(key.application_id.as_str())
            .bind(key.prefix.as_str())
            .bind(mark)
            .bind(key.role.as_str())
            .bind(key.created_at.as_micros())
            .bind(key.expires_at.map(Timestamp::as_micros))
            .later()
            .await?;
            insert_deed!(conn, deed, OK).later().await?;
            Ok(Done::Commit(true))
        })
    }

    /// The key of that prefix, and the mark of its text.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn key_by_prefix(&self, prefix: &str) -> Result<Option<(ApiKey, Vec<u8>)>> {
        read!(self, conn => {
            let row = sqlx::query("select * from api_keys where prefix = $1").bind(prefix).fetch_optional(conn).await?;
            row.map(|row| Ok((key_row!(&row), row.try_get("mark")?))).transpose()
        })
    }

    /// The keys of an application after `after`, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keys(&self, application: &str, after: (Timestamp, &str), limit: u32) -> Result<Vec<ApiKey>> {
        read!(self, conn => {
            let rows = sqlx::query(
                "select * from api_keys where application_id = $1 and (created_at, id) > ($2, $3) \
                 order by created_at, id limit $4",
            )
            .bind(application)
            .bind(after.0.as_micros())
            .bind(after.1)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            rows.into_iter().map(|row| Ok(key_row!(row))).collect()
        })
    }

    /// The keys of every application after `after`, in the order they were made, at most `limit`: for whoever runs the gateway.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn every_key(&self, after: &str, limit: u32) -> Result<Vec<ApiKey>> {
        read!(self, conn => {
            let rows = sqlx::query("select * from api_keys where id > $1 order by id limit $2")
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(conn)
                .await?;
            rows.into_iter().map(|row| Ok(key_row!(row))).collect()
        })
    }

    /// The application a key is of: for whoever runs the gateway.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn application_of(&self, id: &KeyId) -> Result<Option<String>> {
        read!(self, conn => {
            let row: Option<(String,)> = sqlx::query_as("select application_id from api_keys where id = $1")
                .bind(id.as_str())
                .fetch_optional(conn)
                .await?;
            Ok(row.map(|(application,)| application))
        })
    }

    /// A key of an application.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn key(&self, application: &str, id: &KeyId) -> Result<Option<ApiKey>> {
        read!(self, conn => {
            let row = sqlx::query("select * from api_keys where id = $1 and application_id = $2")
                .bind(id.as_str())
                .bind(application)
                .fetch_optional(conn)
                .await?;
            row.map(|row| Ok(key_row!(row))).transpose()
        })
    }

    /// Revokes a key; a key that is revoked stays so. False when the application has none of that id.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn revoke_key(&self, application: &str, id: &KeyId, now: Timestamp, deed: &Deed) -> Result<bool> {
        write!(self, conn => {
            let changed = conn
                .query(
                    "update api_keys set revoked_at = coalesce(revoked_at, $1) where id = $2 and application_id = $3",
                )
                .bind(now.as_micros())
                .bind(id.as_str())
                .bind(application)
                .changes()
                .await?;
            if changed > 0 {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(changed > 0))
        })
    }

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn keys_used(&self, used: &[(KeyId, Timestamp)]) -> Result<()> {
        if used.is_empty() {
            return Ok(());
        }
        // In one order everywhere, so that two replicas do not wait for each other.
        let mut used = used.to_vec();
        used.sort_unstable_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        write!(self, conn => {
            for (id, at) in &used {
                conn.query("update api_keys set last_used_at = $1 where id = $2 and coalesce(last_used_at, 0) < $1")
                    .bind(at.as_micros())
                    .bind(id.as_str())
                    .later()
                    .await?;
            }
            Ok(Done::Commit(()))
        })
    }
}
