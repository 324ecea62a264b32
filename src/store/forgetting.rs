//! What is left of a person once their conversations are erased, and the mark that they are being forgotten: whoever finds
//! it goes on, after a crash or on another replica. All of it may be done by several at once.

use super::audit::{OK, insert_deed};
use super::people::insert_person;
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::usage::add_totals;
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, GoneId};
use crate::domain::owner::Owner;

/// Somebody who is being forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgetting {
    /// Who.
    pub owner: Owner,
    /// What stands for them in the audit log.
    pub pseudonym: GoneId,
    /// Since when.
    pub since: Timestamp,
}

/// What a step of a forgetting leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing of that kind.
    Nothing,
    /// There may be more.
    More,
    /// The mark is gone, and whoever is called like that is somebody new: nothing of theirs was touched.
    Unmarked,
}

/// Takes the row of a mark, on a connection inside a transaction; false where that mark stands no longer. While the
/// row is held nobody ends the forgetting, so that what is the person's is of before the mark.
macro_rules! take_mark {
    ($conn:expr, $who:expr) => {
        $conn
            .query(
                "update people set pseudonym = pseudonym where application_id = $1 and owner_id = $2 \
                 and pseudonym = $3 and forgetting_at is not null",
            )
            .bind(&*$who.owner.application_id)
            .bind(&*$who.owner.owner_id)
            .bind($who.pseudonym.as_str())
            .changes()
            .await?
            > 0
    };
}

/// A row of the sums, but for whose it is.
type Sum = (i64, i64, String, String, String, i64, i64, i64, i64, i64, i64, i64, i64, i64);

impl Store {
    /// Marks a person, known or not, as one who is to be forgotten; one who is marked stays so.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn begin_forgetting(&self, who: &Forgetting, deed: &Deed) -> Result<()> {
        let Forgetting { owner, pseudonym, since } = who;
        write!(self, conn => {
            insert_person!(conn, owner, *since).later().await?;
            let marked = conn
                .query(
                    "update people set forgetting_at = $1, pseudonym = $2 \
                     where application_id = $3 and owner_id = $4 and forgetting_at is null",
                )
                .bind(since.as_micros())
                .bind(pseudonym.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .changes()
                .await?;
            if marked > 0 {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(()))
        })
    }

    /// Those who are being forgotten, at most `limit`, or what is known of one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forgetting(&self, of: Option<&Owner>, limit: u32) -> Result<Vec<Forgetting>> {
        let whose = match of {
            Some(_) => "application_id = $1 and owner_id = $2",
            None => "$1 = '' and $2 = ''",
        };
        let sql = format!(
            "select application_id, owner_id, pseudonym, forgetting_at from people \
             where forgetting_at is not null and {whose} order by forgetting_at limit $3"
        );
        read!(self, conn => {
            let rows: Vec<(String, String, Option<String>, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(of.map_or("", |owner| &*owner.application_id))
                .bind(of.map_or("", |owner| &*owner.owner_id))
                .bind(i64::from(limit))
                .fetch_all(conn)
                .await?;
            let person = |(application, owner, pseudonym, since): (String, String, Option<String>, i64)| {
                Ok(Forgetting {
                    owner: Owner { application_id: application.into(), owner_id: owner.into() },
                    pseudonym: pseudonym.ok_or(Error::Corrupt("people.pseudonym"))?.into(),
                    since: Timestamp::from_micros(since),
                })
            };
            rows.into_iter().map(person).collect()
        })
    }

    /// Some conversations of a person's, at most `limit`; none once their mark is gone. Each of them was there under the mark,
    /// and may be erased by its id at any time: what is said after the mark is in others.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn conversations_of(&self, who: &Forgetting, limit: u32) -> Result<Vec<ConversationId>> {
        read!(self, conn => {
            let ids: Vec<String> = sqlx::query_scalar(
                "select c.id from people p join conversations c on c.application_id = p.application_id \
                 and c.owner_id = p.owner_id where p.application_id = $1 and p.owner_id = $2 and p.pseudonym = $3 \
                 and p.forgetting_at is not null limit $4",
            )
            .bind(&*who.owner.application_id)
            .bind(&*who.owner.owner_id)
            .bind(who.pseudonym.as_str())
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            Ok(ids.into_iter().map(Into::into).collect())
        })
    }

    /// Erases up to `limit` rows of each kind of what is the person's besides conversations: keys of idempotency,
    /// tickets and counters go, sums become nobody's, the audit log has a pseudonym.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn forget_rest(&self, who: &Forgetting, limit: u32) -> Result<Left> {
        let Forgetting { owner, pseudonym, .. } = who;
        let (application, id) = (&*owner.application_id, &*owner.owner_id);
        let person = owner.person_id().unwrap_or_default();
        write!(self, conn => {
            if !take_mark!(conn, who) {
                return Ok(Done::Rollback(Left::Unmarked));
            }
            let mut most = 0;
            for (table, key) in [("idempotency_keys", "key"), ("tickets", "mark")] {
                let sql = format!(
                    "delete from {table} where application_id = $1 and owner_id = $2 and {key} in \
                     (select {key} from {table} where application_id = $1 and owner_id = $2 limit $3)"
                );
                let gone = conn.query(sqlx::AssertSqlSafe(sql)).bind(application).bind(id).bind(i64::from(limit));
                most = gone.changes().await?.max(most);
            }
            for (column, value, condition) in [
                // Where a person asked from is theirs; where a key did is the program's.
                ("actor_id = $1, address = null", pseudonym.to_string(), "actor_id = $3 and actor_kind = $4"),
                (
                    "acting_for = $1, address = case when actor_kind = 'key' then address else null end",
                    format!("{}:{pseudonym}", owner.kind().as_str()),
                    "acting_for = $3 and $4 <> ''",
                ),
                ("object_id = $1", pseudonym.to_string(), "object_id = $3 and object_kind = $4"),
            ] {
                let sql = format!(
                    "update audit set {column} where id in (select id from audit where application_id = $2 \
                     and {condition} limit $5)"
                );
                let named = if column.starts_with("acting_for") { id } else { person };
                let changed = conn
                    .query(sqlx::AssertSqlSafe(sql))
                    .bind(value)
                    .bind(application)
                    .bind(named)
                    .bind(owner.kind().as_str())
                    .bind(i64::from(limit))
                    .changes()
                    .await?;
                most = changed.max(most);
            }
            let mut sums: Vec<Sum> = conn
                .query(
                    "delete from usage_totals where application_id = $1 and owner_id = $2 \
                     and (span, start, model, assistant_id, key_id, shard) in (select span, start, model, assistant_id, \
                     key_id, shard from usage_totals where application_id = $1 and owner_id = $2 limit $3) \
                     returning span, start, model, assistant_id, key_id, calls, prompt_tokens, completion_tokens, \
                     cached_tokens, cache_write_tokens, reasoning_tokens, cost_nano_usd, unpriced_calls, estimated_calls",
                )
                .bind(application)
                .bind(id)
                .bind(i64::from(limit))
                .rows()
                .await?;
            most = (sums.len() as u64).max(most);
            // In the order in which all who count take rows.
            let place = |(span, start, model, assistant, key, ..): &Sum| {
                (*span, *start, model.clone(), assistant.clone(), key.clone())
            };
            sums.sort_by_key(place);
            for (span, start, model, assistant, key, calls, prompt, completion, cached, written, reasoning, cost, unpriced, estimated)
                in sums
            {
                let mut sum = conn
                    .query(add_totals(
                        "values ($1, '', $2, $3, $4, $5, $6, 0, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
                    ))
                    .bind(application)
                    .bind(span)
                    .bind(start)
                    .bind(model)
                    .bind(assistant)
                    .bind(key);
                for number in [calls, prompt, completion, cached, written, reasoning, cost, unpriced, estimated] {
                    sum = sum.bind(number);
                }
                sum.later().await?;
            }
            // Counters are taken last, as everywhere. Those of their limits are few: one for each measure and window.
            conn.query("delete from quota_counters where application_id = $1 and scope = $2 and scope_id = $3")
                .bind(application)
                .bind(owner.kind().as_str())
                .bind(person)
                .later()
                .await?;
            Ok(Done::Commit(if most >= u64::from(limit) { Left::More } else { Left::Nothing }))
        })
    }

    /// Forgets that there was such a person, unless they have a conversation left.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn end_forgetting(&self, who: &Forgetting) -> Result<Left> {
        write!(self, conn => {
            if !take_mark!(conn, who) {
                return Ok(Done::Rollback(Left::Unmarked));
            }
            let left: Option<(String,)> = conn
                .query("select id from conversations where application_id = $1 and owner_id = $2 limit 1")
                .bind(&*who.owner.application_id)
                .bind(&*who.owner.owner_id)
                .row()
                .await?;
            if left.is_some() {
                return Ok(Done::Rollback(Left::More));
            }
            conn.query("delete from people where application_id = $1 and owner_id = $2")
                .bind(&*who.owner.application_id)
                .bind(&*who.owner.owner_id)
                .later()
                .await?;
            Ok(Done::Commit(Left::Nothing))
        })
    }
}
