//! Withdrawal: an admission of which nobody was told is undone.
//!
//! Whoever comes back under its key is told of it, here or through another replica, and notes that first
//! ([`Store::note_told`]): from then on it stays.

use super::conversations::{json, keep_from_index};
use super::pool::{Done, write};
use super::quotas::settle_quotas;
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::ids::{ConversationId, TurnId};
use crate::domain::owner::Owner;
use crate::domain::quota::Hold;

/// The turn, and what it took of what bounds its owner.
const FIND: &str = "select conversation_id, holds from turns where id = $1 and application_id = $2 and owner_id = $3";

/// A row that is undone again; of its turn there is none yet, nor can be one meanwhile.
const STAND_IN: &str = "insert into turns (id, application_id, owner_id, conversation_id, number, status, model, request, \
    user_message_id, message_id, replica_id, epoch, seq, created_at) \
    values ($1, '', '', $1, 0, 'queued', '', '', '', '', '', 0, 0, 0) on conflict do nothing";

impl Store {
    /// Undoes an admission of which nobody was told, if it was committed at all: the turn goes with everything
    /// under it, and `made`, the conversation that was made for it. False where somebody was told of it meanwhile, or another replica
    /// has taken it: it stays.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn withdraw(&self, owner: &Owner, turn: &TurnId, made: Option<&ConversationId>) -> Result<bool> {
        write!(self, conn => {
            let mut found: Option<(String, Option<String>)> =
                conn.query(FIND).bind(turn.as_str()).bind(&*owner.application_id).bind(&*owner.owner_id).row().await?;
            // Its commit may be under way yet: whoever would have its place waits until that is decided.
            if found.is_none() && self.is_shared() && conn.query(STAND_IN).bind(turn.as_str()).changes().await? == 0 {
                let found_now = conn.query(FIND).bind(turn.as_str()).bind(&*owner.application_id).bind(&*owner.owner_id);
                found = found_now.row().await?;
            }
            let Some((conversation, holds)) = found else { return Ok(Done::Rollback(true)) };
            // The key first, as an admission does; whoever is being told of the turn has it, and is waited for.
            conn.query(
                "delete from idempotency_keys where turn_id = $1 \
                 and created_at <= (select t.created_at from turns t where t.id = $1)",
            )
            .bind(turn.as_str())
            .changes()
            .await?;
            let told: Option<(String,)> =
                conn.query("select key from idempotency_keys where turn_id = $1").bind(turn.as_str()).row().await?;
            if told.is_some() {
                return Ok(Done::Rollback(false));
            }
            // Taking the row first keeps every other writer of the conversation out.
            conn.query("update conversations set last_message_at = last_message_at where id = $1")
                .bind(conversation.as_str())
                .later()
                .await?;
            keep_from_index!(self, conn, conversation);
            // Of what another replica took somebody may know.
            let is_ours = "update turns set epoch = epoch where id = $1 and epoch = 1 and finished_at is null";
            if conn.query(is_ours).bind(turn.as_str()).changes().await? == 0 {
                return Ok(Done::Rollback(false));
            }
            // Whoever answers what goes answers what that answered: its question, where it brought none of its own.
            conn.query(
                "update messages set parent_id = (select q.parent_id from messages q where q.turn_id = $1 \
                 order by q.position limit 1) where conversation_id = $2 and turn_id <> $1 \
                 and parent_id in (select g.id from messages g where g.turn_id = $1)",
            )
            .bind(turn.as_str())
            .bind(conversation.as_str())
            .later()
            .await?;
            for erase in ["delete from journal where turn_id = $1", "delete from messages where turn_id = $1"] {
                conn.query(erase).bind(turn.as_str()).later().await?;
            }
            if let Some(holds) = holds {
                // As late as can be, as everywhere; while the turn is there, since it is by the turn that this is done once.
                let holds: Vec<Hold> = json(&holds, "turns.holds")?;
                settle_quotas!(conn, owner, turn, holds, None);
            }
            conn.query("delete from turns where id = $1").bind(turn.as_str()).later().await?;
            conn.query(
                "update conversations set live_turn_id = (select t.id from turns t where \
                 t.conversation_id = conversations.id and t.finished_at is null order by t.number limit 1) \
                 where id = $1 and live_turn_id = $2",
            )
            .bind(conversation.as_str())
            .bind(turn.as_str())
            .later()
            .await?;
            if let Some(made) = made {
                conn.query(
                    "delete from conversations where id = $1 and not exists \
                     (select 1 from turns t where t.conversation_id = $1)",
                )
                .bind(made.as_str())
                .later()
                .await?;
            }
            Ok(Done::Commit(true))
        })
    }
}
