//! Tickets: what whoever cannot send a header shows to read one turn or conversation.

use std::sync::Arc;

use sqlx::Row;

use super::audit::{OK, insert_deed};
use super::people::stands;
use super::pool::{Done, read, write};
use super::transaction::{OrUnchanged, Transaction};
use super::{Error, Result, Store};
use crate::domain::audit::Deed;
use crate::domain::caller::Opened;
use crate::domain::clock::Timestamp;
use crate::domain::ids::KeyId;
use crate::domain::owner::Owner;

/// A ticket, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// As whom it reads.
    pub owner: Owner,
    /// What.
    pub opens: Opened,
    /// The key it was asked for with.
    pub key_id: Option<KeyId>,
    /// The key of the widget through which it was asked for.
    pub widget: Option<Arc<str>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was first used.
    pub opened_at: Option<Timestamp>,
    /// When the turn it opens ended, if it has.
    pub turn_ended_at: Option<Timestamp>,
}

impl Store {
    /// Keeps a ticket by the pepper's mark of its text. False when what it opens is gone by now, or whoever asked for it is
    /// nobody any more.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn add_ticket(&self, ticket: &Ticket, mark: &[u8], deed: &Deed) -> Result<bool> {
        let (turn, conversation) = match &ticket.opens {
            Opened::Turn(id) => (Some(id.as_str()), None),
            Opened::Conversation(id) => (None, Some(id.as_str())),
        };
        let (acting, owner) = (deed.acting.as_ref(), &ticket.owner);
        let added = write!(self, conn => {
            conn.query(concat!(
                "insert into tickets (mark, application_id, owner_id, turn_id, conversation_id, key_id, created_at, widget) \
                 select $1, $2, $3, $4, $5, $6, $7, $8 where (exists (select 1 from turns t where t.id = $4 \
                 and t.application_id = $2 and t.owner_id = $3) or exists (select 1 from conversations c where c.id = $5 \
                 and c.application_id = $2 and c.owner_id = $3)) and ",
                stands!("$2", "$9", "$10", "$11"),
            ))
            .bind(mark)
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(turn)
            .bind(conversation)
            .bind(ticket.key_id.as_ref().map(KeyId::as_str))
            .bind(ticket.created_at.as_micros())
            .bind(ticket.widget.as_deref())
            .bind(acting.map(|acting| &*acting.owner.owner_id))
            .bind(acting.and_then(|acting| acting.known_since).map(Timestamp::as_micros))
            .bind(acting.map(|acting| acting.let_in.as_micros()))
            .must_change()
            .await?;
            insert_deed!(conn, deed, OK).later().await?;
            Ok(Done::Commit(true))
        });
        added.or_unchanged(false)
    }

    /// The ticket of that mark.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ticket(&self, mark: &[u8]) -> Result<Option<Ticket>> {
        read!(self, conn => {
            let row = sqlx::query(
                "select k.*, t.finished_at from tickets k left join turns t on t.id = k.turn_id where k.mark = $1",
            )
            .bind(mark)
            .fetch_optional(conn)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let (turn, conversation): (Option<String>, Option<String>) =
                (row.try_get("turn_id")?, row.try_get("conversation_id")?);
            let opens = match (turn, conversation) {
                (Some(turn), _) => Opened::Turn(turn.into()),
                (None, Some(conversation)) => Opened::Conversation(conversation.into()),
                (None, None) => return Err(Error::Corrupt("tickets.turn_id")),
            };
            let (application, owner): (String, String) = (row.try_get("application_id")?, row.try_get("owner_id")?);
            let time = |time: Option<i64>| time.map(Timestamp::from_micros);
            Ok(Some(Ticket {
                owner: Owner { application_id: application.into(), owner_id: owner.into() },
                opens,
                key_id: row.try_get::<Option<String>, _>("key_id")?.map(Into::into),
                widget: row.try_get::<Option<String>, _>("widget")?.map(Into::into),
                created_at: Timestamp::from_micros(row.try_get("created_at")?),
                opened_at: time(row.try_get("opened_at")?),
                turn_ended_at: time(row.try_get("finished_at")?),
            }))
        })
    }

    /// Notes that a ticket was used for the first time.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn ticket_opened(&self, mark: &[u8], now: Timestamp) -> Result<()> {
        write!(self, conn => {
            conn.query("update tickets set opened_at = $1 where mark = $2 and opened_at is null")
                .bind(now.as_micros())
                .bind(mark)
                .later()
                .await?;
            Ok(Done::Commit(()))
        })
    }

    /// Forgets tickets that open nothing any more: never used and made before `unused`, or for what ended before `ended`;
    /// feeds that were opened before `feeds`.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn drop_tickets(&self, unused: Timestamp, ended: Timestamp, feeds: Timestamp) -> Result<()> {
        write!(self, conn => {
            conn.query("delete from tickets where created_at < $1 and opened_at is null")
                .bind(unused.as_micros())
                .later()
                .await?;
            conn.query("delete from tickets where created_at < $1 and conversation_id is not null")
                .bind(feeds.as_micros())
                .later()
                .await?;
            conn.query(
                "delete from tickets where created_at < $1 and turn_id is not null and not exists \
                 (select 1 from turns t where t.id = tickets.turn_id and (t.finished_at is null or t.finished_at > $2))",
            )
            .bind(unused.as_micros())
            .bind(ended.as_micros())
            .later()
            .await?;
            Ok(Done::Commit(()))
        })
    }
}
