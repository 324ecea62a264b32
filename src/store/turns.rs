//! Turns.

use std::sync::Arc;

use sqlx::Row;

use super::conversations::json;
use super::ending::Lease;
use super::messages::{COLUMNS, message_row};
use super::pool::read;
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::cursor::{Crash, Extent};
use crate::domain::draft::Stub;
use crate::domain::event::Finished;
use crate::domain::ids::{ConversationId, KeyId, MessageId, ReplicaId, TurnId};
use crate::domain::message::Message;
use crate::domain::owner::Owner;
use crate::domain::quota::Hold;
use crate::domain::turn::{Status, Turn};

/// A turn as the record has it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id.
    pub id: TurnId,
    /// Whose it is.
    pub owner: Owner,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// Its number there.
    pub number: u64,
    /// How it stands.
    pub status: Status,
    /// The model that is asked.
    pub model: String,
    /// What its run was told, as JSON.
    pub request: String,
    /// The question.
    pub user_message_id: MessageId,
    /// The replica that has it.
    pub replica_id: ReplicaId,
    /// How often it has changed hands.
    pub epoch: u64,
    /// The last seq, once it has ended.
    pub seq: u64,
    /// Its crash, if it had one.
    pub crash: Option<Crash>,
    /// The API key it was asked with.
    pub key_id: Option<KeyId>,
    /// What it took of what bounds whoever asked, until its end.
    pub holds: Arc<[Hold]>,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// When its `turn.started` was logged.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether its events have been dropped.
    pub dropped: bool,
    /// Its answer, as last saved.
    pub message: Message,
    /// Its end event, once it has ended.
    pub finished: Option<Finished>,
}

/// As much of a turn as a reader of its events must know: little, however long the answer.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// How it stands.
    pub status: Status,
    /// The lease that counts.
    pub epoch: u64,
    /// The last seq, once it has ended.
    pub seq: u64,
    /// Its crash, if it had one.
    pub crash: Option<Crash>,
    /// Whether its events have been dropped.
    pub dropped: bool,
    /// What its run was told, as JSON, until it has ended.
    pub request: String,
}

impl Standing {
    /// What its log looks like to a reader. One that has not ended may have any seq.
    pub fn extent(&self) -> Extent {
        let finished = self.status.is_end();
        Extent { finished, last: if finished { self.seq } else { u64::MAX }, kept: !self.dropped, crash: self.crash }
    }
}

impl Record {
    /// What its answer has from the beginning.
    pub fn stub(&self) -> Stub {
        Stub {
            id: self.message.id.clone(),
            conversation_id: self.conversation_id.clone(),
            turn_id: self.id.clone(),
            parent_id: self.message.parent_id.clone(),
            model: self.model.clone(),
            created_at: self.message.created_at,
        }
    }

    /// The lease under which a replica that has it writes it.
    pub fn lease(&self) -> Lease {
        Lease {
            turn_id: self.id.clone(),
            owner: self.owner.clone(),
            conversation_id: self.conversation_id.clone(),
            replica_id: self.replica_id.clone(),
            epoch: self.epoch,
            key_id: self.key_id.clone(),
            holds: self.holds.clone(),
        }
    }

    /// The turn, as its readers see it.
    pub fn into_turn(self) -> Turn {
        Turn {
            id: self.id,
            conversation_id: self.conversation_id,
            status: self.message.status,
            seq: self.message.seq,
            usage: self.message.usage,
            message: self.message,
            created_at: self.created_at,
            finished_at: self.finished_at,
        }
    }
}

const TURN: &str = "t.id as t_id, t.application_id, t.owner_id, t.number, t.status as t_status, t.model as t_model, \
    t.request, t.user_message_id, t.replica_id, t.epoch, t.key_id, t.holds, t.seq as t_seq, t.crash_saved, t.crash_resumed, \
    t.created_at as t_created_at, t.started_at, t.finished_at, t.dropped_at";

fn select(condition: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "select {TURN}, {COLUMNS} from turns t join messages m on m.id = t.message_id where {condition}"
    ))
}

macro_rules! turn_row {
    ($row:expr) => {{
        let row = $row;
        let saved: Option<i64> = row.try_get("crash_saved")?;
        let resumed: Option<i64> = row.try_get("crash_resumed")?;
        let message = message_row!(row).message;
        Record {
            id: row.try_get::<String, _>("t_id")?.into(),
            owner: Owner {
                application_id: row.try_get::<String, _>("application_id")?.into(),
                owner_id: row.try_get::<String, _>("owner_id")?.into(),
            },
            conversation_id: message.conversation_id.clone(),
            number: row.try_get::<i64, _>("number")?.unsigned_abs(),
            status: Status::parse(row.try_get("t_status")?).ok_or(Error::Corrupt("turns.status"))?,
            model: row.try_get("t_model")?,
            request: row.try_get("request")?,
            user_message_id: row.try_get::<String, _>("user_message_id")?.into(),
            replica_id: row.try_get::<String, _>("replica_id")?.into(),
            key_id: row.try_get::<Option<String>, _>("key_id")?.map(Into::into),
            holds: match row.try_get::<Option<&str>, _>("holds")? {
                Some(text) => json::<Vec<Hold>>(text, "turns.holds")?.into(),
                None => Arc::default(),
            },
            epoch: row.try_get::<i64, _>("epoch")?.unsigned_abs(),
            seq: row.try_get::<i64, _>("t_seq")?.unsigned_abs(),
            crash: crash(saved, resumed),
            created_at: Timestamp::from_micros(row.try_get("t_created_at")?),
            started_at: row.try_get::<Option<i64>, _>("started_at")?.map(Timestamp::from_micros),
            finished_at: row.try_get::<Option<i64>, _>("finished_at")?.map(Timestamp::from_micros),
            dropped: row.try_get::<Option<i64>, _>("dropped_at")?.is_some(),
            finished: match row.try_get::<Option<&str>, _>("finished")? {
                Some(text) => Some(json(text, "messages.finished")?),
                None => None,
            },
            message,
        }
    }};
}

fn crash(saved: Option<i64>, resumed: Option<i64>) -> Option<Crash> {
    let (saved, resumed) = saved.zip(resumed)?;
    Some(Crash { saved: saved.unsigned_abs(), resumed: resumed.unsigned_abs() })
}

impl Store {
    /// How the turn stands, if it is the owner's.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn standing(&self, owner: &Owner, id: &TurnId) -> Result<Option<Standing>> {
        type Row = (String, String, i64, i64, Option<i64>, Option<i64>, Option<i64>, String);
        read!(self, conn => {
            let row: Option<Row> = sqlx::query_as(
                "select conversation_id, status, epoch, seq, crash_saved, crash_resumed, dropped_at, request from turns \
                 where id = $1 and application_id = $2 and owner_id = $3",
            )
            .bind(id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .fetch_optional(conn)
            .await?;
            let Some((conversation, status, epoch, seq, saved, resumed, dropped, request)) = row else { return Ok(None) };
            Ok(Some(Standing {
                conversation_id: conversation.into(),
                status: Status::parse(&status).ok_or(Error::Corrupt("turns.status"))?,
                epoch: epoch.unsigned_abs(),
                seq: seq.unsigned_abs(),
                crash: crash(saved, resumed),
                dropped: dropped.is_some(),
                request,
            }))
        })
    }

    /// The turn, if it is the owner's.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn turn(&self, owner: &Owner, id: &TurnId) -> Result<Option<Record>> {
        read!(self, conn => {
            let row = sqlx::query(select("t.id = $1 and t.application_id = $2 and t.owner_id = $3"))
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .fetch_optional(conn)
                .await?;
            match row {
                Some(row) => Ok(Some(turn_row!(&row))),
                None => Ok(None),
            }
        })
    }

    /// The first turn of a conversation whose number is at least `number`.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn turn_from(&self, owner: &Owner, conversation: &ConversationId, number: u64) -> Result<Option<Record>> {
        let sql = select(
            "t.conversation_id = $1 and t.application_id = $2 and t.owner_id = $3 and t.number >= $4 \
             order by t.number limit 1",
        );
        read!(self, conn => {
            let row = sqlx::query(sql)
                .bind(conversation.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(number.cast_signed())
                .fetch_optional(conn)
                .await?;
            match row {
                Some(row) => Ok(Some(turn_row!(&row))),
                None => Ok(None),
            }
        })
    }

    /// The open turns of a conversation, by number: id and number.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn open_turns(&self, owner: &Owner, conversation: &ConversationId) -> Result<Vec<(TurnId, u64)>> {
        read!(self, conn => {
            let rows: Vec<(String, i64)> = sqlx::query_as(
                "select id, number from turns where conversation_id = $1 and application_id = $2 and owner_id = $3 \
                 and finished_at is null order by number",
            )
            .bind(conversation.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .fetch_all(conn)
            .await?;
            Ok(rows.into_iter().map(|(id, number)| (id.into(), number.unsigned_abs())).collect())
        })
    }

    /// The open turns a replica has, in the order they were admitted.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn turns_of(&self, replica: &ReplicaId) -> Result<Vec<Record>> {
        let sql = select("t.replica_id = $1 and t.finished_at is null order by t.created_at, t.number");
        read!(self, conn => {
            let rows = sqlx::query(sql).bind(replica.as_str()).fetch_all(conn).await?;
            let mut turns = Vec::with_capacity(rows.len());
            for row in &rows {
                turns.push(turn_row!(row));
            }
            Ok(turns)
        })
    }

    /// The ids of the open turns a replica has.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_turns_of(&self, replica: &ReplicaId) -> Result<Vec<TurnId>> {
        read!(self, conn => {
            let ids: Vec<String> =
                sqlx::query_scalar("select id from turns where replica_id = $1 and finished_at is null")
                    .bind(replica.as_str())
                    .fetch_all(conn)
                    .await?;
            Ok(ids.into_iter().map(Into::into).collect())
        })
    }

    /// The highest number among a conversation's turns; 0 for none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn last_number(&self, owner: &Owner, conversation: &ConversationId) -> Result<u64> {
        read!(self, conn => {
            let number: Option<i64> = sqlx::query_scalar(
                "select max(number) from turns where conversation_id = $1 and application_id = $2 and owner_id = $3",
            )
            .bind(conversation.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .fetch_one(conn)
            .await?;
            Ok(number.unwrap_or(0).unsigned_abs())
        })
    }
}
