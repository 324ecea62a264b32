//! What is thought of answers.

use super::audit::{OK, insert_deed};
use super::pool::{Done, write};
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::audit::Deed;
use crate::domain::ids::MessageId;
use crate::domain::json;
use crate::domain::message::Feedback;
use crate::domain::owner::Owner;

impl Store {
    /// Keeps what somebody thinks of an answer, in place of what was thought before. False when the owner has no such
    /// answer.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rate(&self, owner: &Owner, id: &MessageId, feedback: &Feedback, deed: &Deed) -> Result<bool> {
        write!(self, conn => {
            let rated = conn
                .query(
                    "update messages set feedback = $1 where id = $2 and application_id = $3 and owner_id = $4 \
                     and role = 'assistant'",
                )
                .bind(json::to_string(feedback))
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .changes()
                .await?;
            if rated > 0 {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(rated > 0))
        })
    }
}
