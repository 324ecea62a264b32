//! Users and visitors.

use sqlx::Row;

use super::audit::{OK, insert_deed};
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::acting::Acting;
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::ids::KeyId;
use crate::domain::owner::Owner;

/// A user or a visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// How they own rows.
    pub owner: Owner,
    /// When they were first seen.
    pub created_at: Timestamp,
    /// Since when they are refused.
    pub deactivated_at: Option<Timestamp>,
    /// Since when they are being forgotten.
    pub forgetting_at: Option<Timestamp>,
}

/// What has been revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Keys.
    pub keys: Vec<KeyId>,
    /// People who are refused.
    pub people: Vec<Owner>,
}

/// The statement that makes a person known, unless they are.
macro_rules! insert_person {
    ($conn:expr, $owner:expr, $now:expr) => {
        $conn
            .query(
                "insert into people (application_id, owner_id, kind, person_id, created_at) values ($1, $2, $3, $4, $5) \
                 on conflict (application_id, owner_id) do nothing",
            )
            .bind(&*$owner.application_id)
            .bind(&*$owner.owner_id)
            .bind($owner.kind().as_str())
            .bind($owner.person_id().unwrap_or_default())
            .bind($now.as_micros())
    };
}

/// The condition under which what an [`Acting`] does may be written as theirs, by the places of its values in a statement:
/// application, owner (`null` where nobody acts), known since, and let in. They must be whom the record knew. Of whom it did not
/// know, nobody may have been forgotten meanwhile: no row tells any more whether it was they.
///
/// It is asked where something is written and not before: between the two there is no time for a whole forgetting, which waits
/// for transactions that were under way when it began.
macro_rules! stands {
    ($application:literal, $owner:literal, $known_since:literal, $let_in:literal) => {
        concat!(
            "(",
            $owner,
            " is null or case when ",
            $known_since,
            " is null then not exists (select 1 from people p \
             where p.application_id = ",
            $application,
            " and p.owner_id = ",
            $owner,
            " and p.forgetting_at is not null) \
             and not exists (select 1 from audit f where f.application_id = ",
            $application,
            " and f.at >= ",
            $let_in,
            " \
             and f.action = 'user.forget') else exists (select 1 from people p where p.application_id = ",
            $application,
            " \
             and p.owner_id = ",
            $owner,
            " and p.created_at = ",
            $known_since,
            " and p.forgetting_at is null) end)"
        )
    };
}

pub(super) use {insert_person, stands};

macro_rules! person_row {
    ($row:expr) => {{
        let row = $row;
        let (application, owner): (String, String) = (row.try_get("application_id")?, row.try_get("owner_id")?);
        Person {
            owner: Owner { application_id: application.into(), owner_id: owner.into() },
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            deactivated_at: row.try_get::<Option<i64>, _>("deactivated_at")?.map(Timestamp::from_micros),
            forgetting_at: row.try_get::<Option<i64>, _>("forgetting_at")?.map(Timestamp::from_micros),
        }
    }};
}

impl Store {
    /// What is known of a person; nothing of one who has done nothing yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn person(&self, owner: &Owner) -> Result<Option<Person>> {
        read!(self, conn => {
            let row = sqlx::query("select * from people where application_id = $1 and owner_id = $2")
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .fetch_optional(conn)
                .await?;
            row.map(|row| Ok(person_row!(row))).transpose()
        })
    }

    /// Whether what somebody does who was let in earlier may still be written as theirs.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stands(&self, acting: &Acting) -> Result<bool> {
        read!(self, conn => {
            let row: Option<(i64,)> =
                sqlx::query_as(concat!("select cast(1 as bigint) where ", stands!("$1", "$2", "$3", "$4")))
                    .bind(&*acting.owner.application_id)
                    .bind(&*acting.owner.owner_id)
                    .bind(acting.known_since.map(Timestamp::as_micros))
                    .bind(acting.let_in.as_micros())
                    .fetch_optional(conn)
                    .await?;
            Ok(row.is_some())
        })
    }

    /// The people of an application after `after` (when they were first seen, and how they own rows), at most `limit`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn people(&self, application: &str, after: (Timestamp, &str), limit: u32) -> Result<Vec<Person>> {
        read!(self, conn => {
            let rows = sqlx::query(
                "select * from people where application_id = $1 and (created_at, owner_id) > ($2, $3) \
                 order by created_at, owner_id limit $4",
            )
            .bind(application)
            .bind(after.0.as_micros())
            .bind(after.1)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            rows.into_iter().map(|row| Ok(person_row!(row))).collect()
        })
    }

    /// Refuses a person from now on, or no longer; known or not.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn set_active(&self, owner: &Owner, active: bool, now: Timestamp, deed: &Deed) -> Result<()> {
        write!(self, conn => {
            insert_person!(conn, owner, now).later().await?;
            conn.query(
                "update people set deactivated_at = case when $1 = 1 then null else coalesce(deactivated_at, $2) end \
                 where application_id = $3 and owner_id = $4",
            )
            .bind(i64::from(active))
            .bind(now.as_micros())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .later()
            .await?;
            insert_deed!(conn, deed, OK).later().await?;
            Ok(Done::Commit(()))
        })
    }

    /// Keys and people that were revoked after `since` and still are, and keys that expired between then and `now`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn revoked(&self, since: Timestamp, now: Timestamp) -> Result<Revoked> {
        read!(self, conn => {
            let keys: Vec<(String,)> =
                sqlx::query_as(
                    "select id from api_keys where revoked_at is not null and revoked_at > $1 \
                     union all select id from api_keys where expires_at is not null and expires_at > $1 and expires_at <= $2",
                )
                    .bind(since.as_micros())
                    .bind(now.as_micros())
                    .fetch_all(&mut *conn)
                    .await?;
            let people: Vec<(String, String)> = sqlx::query_as(
                "select application_id, owner_id from people where deactivated_at is not null and deactivated_at > $1 \
                 union select application_id, owner_id from people where forgetting_at is not null and forgetting_at > $1",
            )
            .bind(since.as_micros())
            .fetch_all(&mut *conn)
            .await?;
            let owner = |(application, owner): (String, String)| Owner {
                application_id: application.into(),
                owner_id: owner.into(),
            };
            Ok(Revoked {
                keys: keys.into_iter().map(|(id,)| id.into()).collect(),
                people: people.into_iter().map(owner).collect(),
            })
        })
    }
}
