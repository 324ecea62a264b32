//! The start of a queued turn, and the end of any: each one transaction, fenced by the turn's lease.

use std::sync::Arc;

use super::audit::{OK, insert_deed};
use super::journal::{Chunk, Insert};
use super::messages::columns;
use super::pool::{Done, write};
use super::quotas::{self, settle_quotas};
use super::transaction::{OrUnchanged, Transaction};
use super::usage::{SHARDS, count_calls};
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::cursor::Crash;
use crate::domain::event::Finished;
use crate::domain::ids::{ConversationId, KeyId, ReplicaId, TurnId};
use crate::domain::json;
use crate::domain::message::Message;
use crate::domain::owner::Owner;
use crate::domain::quota::Hold;
use crate::domain::turn::StoppedBy;
use crate::domain::usage::Record;

/// The lease under which a turn is written.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The turn.
    pub turn_id: TurnId,
    /// Whose it is.
    pub owner: Owner,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// The replica that has it.
    pub replica_id: ReplicaId,
    /// How often it has changed hands.
    pub epoch: u64,
    /// The API key it was asked with.
    pub key_id: Option<KeyId>,
    /// What it took of what bounds whoever asked, to be settled with its end.
    pub holds: Arc<[Hold]>,
}

/// All that the end of a turn leaves behind.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The answer, as it ended.
    pub message: Arc<Message>,
    /// The calls of models that were made for it.
    pub calls: Arc<[Record]>,
    /// The end event.
    pub finished: Finished,
    /// The events that are not in the journal yet, the end event last.
    pub rest: Vec<Chunk>,
    /// What the audit log has of a stop that came of somebody's request.
    pub deed: Option<Deed>,
    /// The crash it is recovered from.
    pub crash: Option<Crash>,
    /// When.
    pub now: Timestamp,
    /// Until when its idempotency key is kept.
    pub key_expires: Timestamp,
}

/// Whether a turn was still ours to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written; the queued turn whose time has come.
    Written(Option<TurnId>),
    /// Another replica has it, or it is gone: nothing was written.
    Lost,
}

/// What came of starting a queued turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is running.
    Started,
    /// Somebody has asked for its end: nothing was written.
    Stopped(StoppedBy),
    /// Another replica has it, or it is gone: nothing was written.
    Lost,
}

impl Store {
    /// Starts a queued turn whose time has come, unless somebody has asked for its end meanwhile.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read; asking again is safe.
    pub async fn start_queued(&self, lease: &Lease, started: &Chunk, now: Timestamp) -> Result<Start> {
        write!(self, conn => {
            let found: Option<(Option<String>,)> = conn.query(
                "update turns set status = 'running', started_at = coalesce(started_at, $1) \
                 where id = $2 and replica_id = $3 and epoch = $4 and finished_at is null returning stop_by",
            )
            .bind(now.as_micros())
            .bind(lease.turn_id.as_str())
            .bind(lease.replica_id.as_str())
            .bind(lease.epoch.cast_signed())
            .row()
            .await?;
            match found {
                None => return Ok(Done::Rollback(Start::Lost)),
                Some((Some(by),)) => {
                    let by = StoppedBy::parse(&by).ok_or(Error::Corrupt("turns.stop_by"))?;
                    return Ok(Done::Rollback(Start::Stopped(by)));
                }
                Some((None,)) => {}
            }
            conn.query("update messages set status = 'running', seq = 1 where turn_id = $1 and role = 'assistant'")
                .bind(lease.turn_id.as_str())
                .later()
                .await?;
            conn.insert_chunks(std::slice::from_ref(started)).await?;
            Ok(Done::Commit(Start::Started))
        })
    }

    /// Ends a turn: its message, its last events, its key's expiry, and the freeing of its conversation, which
    /// the next queued turn then has, and the calls it made, kept and counted. What its run was told, a history of
    /// the request's own among it, is forgotten.
    /// Done again, it changes nothing; a recovery, which makes its end anew each time, is told that there is one.
    ///
    /// # Errors
    /// When the database does not answer; asking again is safe.
    pub async fn end_turn(&self, lease: &Lease, ending: &Ending) -> Result<Outcome> {
        let message = &ending.message;
        let ended = write!(self, conn => {
            if self.is_shared() {
                // The conversation first, as everywhere: whoever queues behind this turn waits here, or is seen below.
                // SQLite has but one writer.
                conn.query("update conversations set last_message_at = $1 where id = $2")
                    .bind(ending.now.as_micros())
                    .bind(lease.conversation_id.as_str())
                    .later()
                    .await?;
            }
            conn.query(
                "update turns set status = $1, seq = $2, finished_at = $3, started_at = coalesce(started_at, $3), \
                 crash_saved = $4, crash_resumed = $5, request = '{}' \
                 where id = $6 and replica_id = $7 and epoch = $8 \
                 and (finished_at is null or (seq = $2 and crash_saved is null))",
            )
            .bind(message.status.as_str())
            .bind(message.seq.cast_signed())
            .bind(ending.now.as_micros())
            .bind(ending.crash.map(|crash| crash.saved.cast_signed()))
            .bind(ending.crash.map(|crash| crash.resumed.cast_signed()))
            .bind(lease.turn_id.as_str())
            .bind(lease.replica_id.as_str())
            .bind(lease.epoch.cast_signed())
            .must_change()
            .await?;
            let (_, content) = columns(&message.content);
            conn.query(
                "update messages set status = $1, seq = $2, content = $3, reasoning = $4, sources = $5, steps = $6, \
                 visualizations = $7, usage = $8, finished = $9 where id = $10 and turn_id = $11",
            )
            .bind(message.status.as_str())
            .bind(message.seq.cast_signed())
            .bind(content)
            .bind(message.reasoning.as_deref().map(str::as_bytes))
            .bind(json::to_string(&message.sources))
            .bind(json::to_string(&message.steps))
            .bind(json::to_string(&message.visualizations))
            .bind(message.usage.as_ref().map(json::to_string))
            .bind(json::to_string(&ending.finished))
            .bind(message.id.as_str())
            .bind(lease.turn_id.as_str())
            .later()
            .await?;
            conn.query(
                "update idempotency_keys set expires_at = $1 where conversation_id = $2 and turn_id = $3 \
                 and deleted_at is null",
            )
            .bind(ending.key_expires.as_micros())
            .bind(lease.conversation_id.as_str())
            .bind(lease.turn_id.as_str())
            .later()
            .await?;
            if let Some(deed) = &ending.deed {
                insert_deed!(conn, deed, OK).later().await?;
            }
            if !ending.calls.is_empty() {
                // As late as can be: whoever else counts the owner's calls waits from here to the commit.
                let shards = if self.is_shared() { SHARDS } else { 1 };
                count_calls!(conn, lease, ending.calls, shards);
            }
            if !lease.holds.is_empty() {
                settle_quotas!(conn, lease.owner, lease.turn_id, lease.holds, Some(quotas::used(&ending.calls)));
            }
            // After all that may be waited for: a commit of the journal that has the same events in hand waits from here to the commit,
            // and with it whatever is shown here meanwhile.
            conn.insert_chunks(&ending.rest).await?;
            // Done again, the first time's answer is given: it may have been the answer that was lost.
            let next: Option<(Option<String>,)> = conn.query(
                "update conversations set last_message_at = $3, \
                 live_turn_id = case when live_turn_id = $2 or live_turn_id is null then \
                 (select t.id from turns t where t.conversation_id = conversations.id and t.finished_at is null \
                 order by t.number limit 1) else live_turn_id end where id = $1 returning live_turn_id",
            )
            .bind(lease.conversation_id.as_str())
            .bind(lease.turn_id.as_str())
            .bind(ending.now.as_micros())
            .last_row()
            .await?;
            Ok(Done::Commit(Outcome::Written(next.and_then(|(next,)| next).map(Into::into))))
        });
        ended.or_unchanged(Outcome::Lost)
    }
}
