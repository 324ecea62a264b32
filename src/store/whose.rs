//! Whose an object is, or was: the one question that is asked with an id alone, and within one application only. What comes
//! of it is for [`crate::domain::caller::Caller::reach`] to judge; every other function here takes the owner.

use super::pool::read;
use super::{Result, Store};
use crate::domain::ids::{ConversationId, MessageId, TurnId};
use crate::domain::owner::Owner;

/// An object somebody asks for.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    /// A conversation.
    Conversation(&'a ConversationId),
    /// A turn.
    Turn(&'a TurnId),
    /// A message.
    Message(&'a MessageId),
}

impl Store {
    /// Whose it is; `None` when the application has no such object.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn whose(&self, application: &str, object: Object<'_>) -> Result<Option<Owner>> {
        let (sql, id) = match object {
            Object::Conversation(id) => (
                "select application_id, owner_id from conversations where id = $1 and application_id = $2",
                id.as_str(),
            ),
            Object::Turn(id) => {
                ("select application_id, owner_id from turns where id = $1 and application_id = $2", id.as_str())
            }
            Object::Message(id) => {
                ("select application_id, owner_id from messages where id = $1 and application_id = $2", id.as_str())
            }
        };
        read!(self, conn => {
            let row: Option<(String, String)> =
                sqlx::query_as(sql).bind(id).bind(application).fetch_optional(conn).await?;
            Ok(row.map(|(application, owner)| Owner { application_id: application.into(), owner_id: owner.into() }))
        })
    }

    /// Whose a conversation was that has been deleted, as long as a key of idempotency tells of it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn whose_was(&self, application: &str, conversation: &ConversationId) -> Result<Option<Owner>> {
        read!(self, conn => {
            let row: Option<(String, String)> = sqlx::query_as(
                "select application_id, owner_id from idempotency_keys \
                 where conversation_id = $1 and application_id = $2 and deleted_at is not null limit 1",
            )
            .bind(conversation.as_str())
            .bind(application)
            .fetch_optional(conn)
            .await?;
            Ok(row.map(|(application, owner)| Owner { application_id: application.into(), owner_id: owner.into() }))
        })
    }
}
