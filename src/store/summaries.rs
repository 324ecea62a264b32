//! Summaries of what models do not read any more, kept with their conversation.

use super::conversations::text;
use super::pool::{Done, read, write};
use super::transaction::{OrUnchanged, Transaction};
use super::{Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::owner::Owner;

/// How many are kept for a conversation: it may have branches.
const KEPT: i64 = 8;

/// What was said in a conversation up to a message, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The last message in it; all that this answers is in it too.
    pub through: MessageId,
    /// The text.
    pub text: String,
}

impl Store {
    /// The summaries of a conversation, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn summaries(&self, owner: &Owner, conversation: &ConversationId) -> Result<Vec<Summary>> {
        read!(self, conn => {
            let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
                "select through, content from summaries where conversation_id = $1 and application_id = $2 \
                 and owner_id = $3 order by created_at desc, through desc limit $4",
            )
            .bind(conversation.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(KEPT)
            .fetch_all(conn)
            .await?;
            let summary = |(through, content): (String, Vec<u8>)| {
                Ok(Summary { through: through.into(), text: text(content, "summaries.content")? })
            };
            rows.into_iter().map(summary).collect()
        })
    }

    /// Keeps a summary, and only the newest few of a conversation. Nothing is kept of a conversation that is gone.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn keep_summary(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        summary: &Summary,
        now: Timestamp,
    ) -> Result<()> {
        let kept = write!(self, conn => {
            // The row is taken: whoever erases the conversation comes before, or erases this too.
            conn.query(
                "update conversations set last_message_at = last_message_at \
                 where id = $1 and application_id = $2 and owner_id = $3",
            )
            .bind(conversation.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .must_change()
            .await?;
            conn.query(
                "insert into summaries (conversation_id, through, application_id, owner_id, content, created_at) \
                 values ($1, $2, $3, $4, $5, $6) on conflict (conversation_id, through) do update \
                 set content = excluded.content, created_at = excluded.created_at",
            )
            .bind(conversation.as_str())
            .bind(summary.through.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(summary.text.as_bytes())
            .bind(now.as_micros())
            .later()
            .await?;
            conn.query(
                "delete from summaries where conversation_id = $1 and through not in (select s.through \
                 from summaries s where s.conversation_id = $1 order by s.created_at desc, s.through desc limit $2)",
            )
            .bind(conversation.as_str())
            .bind(KEPT)
            .later()
            .await?;
            Ok(Done::Commit(()))
        });
        kept.or_unchanged(())
    }
}
