//! How conversations stand: what is done with them, and what silence does.

use super::audit::{OK, insert_deed};
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::conversation::{Life, Silence};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;

/// What came of doing something with a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lived {
    /// It is so, whether or not it was before.
    Done,
    /// It has ended, and what has ended is not paused.
    Ended,
    /// The owner has no such conversation.
    Missing,
}

/// Some conversations, looked through for those that have been silent for too long.
#[derive(Clone, Debug)]
pub struct Silent {
    /// Those that have, by id.
    pub ids: Vec<ConversationId>,
    /// Where the look goes on; `None` = there is no more.
    pub next: Option<ConversationId>,
}

/// When something last happened in a conversation.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The conversation.
    pub id: ConversationId,
    /// Whose it is.
    pub owner: Owner,
    /// When.
    pub active_at: Timestamp,
    /// Whether a turn is live in it.
    pub live: bool,
}

impl Store {
    /// Looks through up to `limit` conversations of all owners after `after`, by id, and says where the look goes on;
    /// `None` = there is no more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn activity(
        &self,
        after: Option<&ConversationId>,
        limit: u32,
    ) -> Result<(Vec<Activity>, Option<ConversationId>)> {
        read!(self, conn => {
            let rows: Vec<(String, String, String, i64, i64, Option<String>)> = sqlx::query_as(
                "select id, application_id, owner_id, last_message_at, resumed_at, live_turn_id from conversations \
                 where id > $1 order by id limit $2",
            )
            .bind(after.map_or("", ConversationId::as_str))
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            let whole = rows.len() == limit as usize;
            let next = rows.last().filter(|_| whole).map(|(id, ..)| ConversationId::from(id.as_str()));
            let activity = rows.into_iter().map(|(id, application, owner, last, resumed, live)| Activity {
                id: id.into(),
                owner: Owner { application_id: application.into(), owner_id: owner.into() },
                active_at: Timestamp::from_micros(last.max(resumed)),
                live: live.is_some(),
            });
            Ok((activity.collect(), next))
        })
    }

    /// Does something with a conversation; done again it changes nothing, but that the last reason counts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn live(
        &self,
        owner: &Owner,
        id: &ConversationId,
        life: &Life,
        silence: Silence,
        deed: &Deed,
    ) -> Result<Lived> {
        let set = match life {
            Life::Archive(_) => {
                "archived_at = coalesce(archived_at, $4), archive_reason = coalesce($5, archive_reason) where true"
            }
            Life::Unarchive => "archived_at = null, archive_reason = null where true",
            Life::Pause => {
                "state = 'paused' where (state = 'paused' or (state = 'active' \
                 and (live_turn_id is not null or last_message_at > $4 or resumed_at > $4)))"
            }
            // What has expired was over, even where nothing says so yet.
            Life::Resume => {
                "context = case when state = 'active' and live_turn_id is null and last_message_at <= $4 \
                 and resumed_at <= $4 then '{}' else context end, \
                 resumed_at = case when state = 'active' and (live_turn_id is not null or last_message_at > $4 \
                 or resumed_at > $4) then resumed_at else $5 end, state = 'active', expired_at = null where true"
            }
            Life::End => "state = 'ended', expired_at = null, context = '{}' where true",
        };
        let sql = format!("update conversations set {set} and id = $1 and application_id = $2 and owner_id = $3");
        let (now, since) = (silence.now().as_micros(), silence.since().as_micros());
        let _front = self.line(owner, id.as_str()).await?;
        write!(self, conn => {
            let change = conn
                .query(sqlx::AssertSqlSafe(sql.clone()))
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id);
            let change = match life {
                Life::Archive(reason) => change.bind(now).bind(reason.as_deref().map(str::as_bytes)),
                Life::Pause => change.bind(since),
                Life::Resume => change.bind(since).bind(now),
                Life::Unarchive | Life::End => change,
            };
            let changed = change.changes().await?;
            if changed > 0 {
                insert_deed!(conn, deed, OK).later().await?;
                return Ok(Done::Commit(Lived::Done));
            }
            let found: Option<(String,)> = conn
                .query("select id from conversations where id = $1 and application_id = $2 and owner_id = $3")
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .row()
                .await?;
            Ok(Done::Rollback(if found.is_some() { Lived::Ended } else { Lived::Missing }))
        })
    }

    /// Looks through up to `limit` conversations of all owners after `after`, by id, for those that have expired and do
    /// not say so yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn silent(&self, after: Option<&ConversationId>, limit: u32, silence: Silence) -> Result<Silent> {
        read!(self, conn => {
            let rows: Vec<(String, i64)> = sqlx::query_as(
                "select id, case when state = 'active' and live_turn_id is null and last_message_at <= $1 \
                 and resumed_at <= $1 then cast(1 as bigint) else cast(0 as bigint) end \
                 from conversations where id > $2 order by id limit $3",
            )
            .bind(silence.since().as_micros())
            .bind(after.map_or("", ConversationId::as_str))
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            let whole = rows.len() == limit as usize;
            let next = rows.last().filter(|_| whole).map(|(id, _)| ConversationId::from(id.as_str()));
            let ids = rows.into_iter().filter(|(_, silent)| *silent == 1).map(|(id, _)| id.into()).collect();
            Ok(Silent { ids, next })
        })
    }

    /// Ends those of these conversations that have expired, and clears their contexts. Two who do it at once take the
    /// rows in the same order if each gives them by id; what is active again by then stays.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn expire(&self, ids: &[ConversationId], silence: Silence) -> Result<()> {
        write!(self, conn => {
            for id in ids {
                conn.query(
                    "update conversations set state = 'ended', expired_at = $1, context = '{}' where id = $2 \
                     and state = 'active' and live_turn_id is null and last_message_at <= $3 and resumed_at <= $3",
                )
                .bind(silence.now().as_micros())
                .bind(id.as_str())
                .bind(silence.since().as_micros())
                .later()
                .await?;
            }
            Ok(Done::Commit(()))
        })
    }
}
