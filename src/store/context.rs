//! What is known in a conversation.

use serde_json::Value;

use super::audit::{OK, insert_deed};
use super::conversations::json;
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::context::Context;
use crate::domain::conversation::{Silence, State};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;

/// What came of changing a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched<R> {
    /// It is changed.
    Done,
    /// What it would become was refused; it is as it was.
    Refused(R),
    /// The conversation has ended.
    Ended,
    /// The owner has no such conversation.
    Missing,
}

impl Store {
    /// What is known in the conversation; `None` when the owner has no such conversation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn context(&self, owner: &Owner, id: &ConversationId, silence: Silence) -> Result<Option<Context>> {
        type Row = (String, String, Option<String>, i64, i64, i64);
        read!(self, conn => {
            let row: Option<Row> = sqlx::query_as(
                "select c.context, c.state, c.live_turn_id, c.last_message_at, c.resumed_at, \
                 (select count(*) from messages m where m.conversation_id = c.id) \
                 from conversations c where c.id = $1 and c.application_id = $2 and c.owner_id = $3",
            )
            .bind(id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .fetch_optional(conn)
            .await?;
            let Some((context, state, live, last_message_at, resumed_at, count)) = row else { return Ok(None) };
            let state = State::parse(&state).ok_or(Error::Corrupt("conversations.state"))?;
            let active_at = Timestamp::from_micros(last_message_at.max(resumed_at));
            let (state, _) = silence.judge(state, live.is_some(), active_at, false);
            // What has ended has none, even where nothing says so yet.
            let context = if state == State::Ended { "{}" } else { &context };
            Ok(Some(Context {
                application_id: owner.application_id.to_string(),
                user_id: owner.person_id().map(str::to_owned),
                message_count: count.unsigned_abs(),
                last_message_at: Timestamp::from_micros(last_message_at),
                said: json(context, "conversations.context")?,
            }))
        })
    }

    /// Forgets what somebody said in the conversation. False when the owner has no such conversation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clear_context(&self, owner: &Owner, id: &ConversationId, deed: &Deed) -> Result<bool> {
        let _front = self.line(owner, id.as_str()).await?;
        write!(self, conn => {
            let cleared = conn
                .query(
                    "update conversations set context = '{}' where id = $1 and application_id = $2 and owner_id = $3",
                )
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .changes()
                .await?;
            if cleared > 0 {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(cleared > 0))
        })
    }

    /// Has `change` change what somebody said in the conversation.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn patch_context<R: Send>(
        &self,
        owner: &Owner,
        id: &ConversationId,
        silence: Silence,
        deed: &Deed,
        change: impl Fn(&mut Value) -> std::result::Result<(), R> + Send + Sync,
    ) -> Result<Patched<R>> {
        let _front = self.line(owner, id.as_str()).await?;
        write!(self, conn => {
            // Taking the row keeps every other writer of the conversation out.
            let row: Option<(String, String, Option<String>, i64, i64)> = conn.query(
                "update conversations set context = context where id = $1 and application_id = $2 and owner_id = $3 \
                 returning context, state, live_turn_id, last_message_at, resumed_at",
            )
            .bind(id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .row()
            .await?;
            let Some((context, state, live, last_message_at, resumed_at)) = row else {
                return Ok(Done::Rollback(Patched::Missing));
            };
            let state = State::parse(&state).ok_or(Error::Corrupt("conversations.state"))?;
            let active_at = Timestamp::from_micros(last_message_at.max(resumed_at));
            let (state, _) = silence.judge(state, live.is_some(), active_at, false);
            let mut context: Value = json(&context, "conversations.context")?;
            if state == State::Ended {
                return Ok(Done::Rollback(Patched::Ended));
            }
            if let Err(refused) = change(&mut context) {
                return Ok(Done::Rollback(Patched::Refused(refused)));
            }
            conn.query("update conversations set context = $1 where id = $2")
                .bind(crate::domain::json::to_string(&context))
                .bind(id.as_str())
                .later()
                .await?;
            insert_deed!(conn, deed, OK).later().await?;
            Ok(Done::Commit(Patched::Done))
        })
    }
}
