//! Messages.

use futures::TryStreamExt;
use sqlx::Row;

use super::conversations::{json, text};
use super::pool::read;
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::event::Finished;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::json::length;
use crate::domain::message::{Content, Message, Role};
use crate::domain::owner::Owner;
use crate::domain::turn::Status;

/// A message, and where it stands in its conversation.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Twice the turn's number, plus one for the answer.
    pub position: u64,
    /// The message.
    pub message: Message,
}

/// A message of a path: who said it, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its id.
    pub id: MessageId,
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: Content,
}

impl Placed {
    /// The number of the message's turn in its conversation.
    pub fn number(&self) -> u64 {
        self.position / 2
    }
}

pub(super) const COLUMNS: &str = "m.id, m.conversation_id, m.turn_id, m.position, m.parent_id, m.role, m.status, \
    m.seq, m.model, m.content_kind, m.content, m.reasoning, m.sources, m.steps, m.visualizations, m.usage, \
    m.finished, m.feedback, m.metadata, m.created_at";

/// How many messages of a path are read in one round trip.
const PAGE: i64 = 256;
/// A message and what it answers, newest first, until they weigh more than $4 or are $5.
const PATH: &str = "with recursive path (id, parent_id, role, content_kind, content, depth, weight) as ( \
    select id, parent_id, role, content_kind, content, cast(1 as bigint), cast(length(content) as bigint) \
    from messages where id = $1 and application_id = $2 and owner_id = $3 \
    union all \
    select m.id, m.parent_id, m.role, m.content_kind, m.content, path.depth + 1, path.weight + length(m.content) \
    from messages m join path on m.id = path.parent_id \
    where m.application_id = $2 and m.owner_id = $3 and path.weight <= $4 and path.depth < $5) \
    select id, parent_id, role, content_kind, content from path order by depth";

macro_rules! message_row {
    ($row:expr) => {{
        let row = $row;
        let mut message = Message {
            id: row.try_get::<String, _>("id")?.into(),
            conversation_id: row.try_get::<String, _>("conversation_id")?.into(),
            turn_id: row.try_get::<String, _>("turn_id")?.into(),
            parent_id: row.try_get::<Option<String>, _>("parent_id")?.map(Into::into),
            role: $crate::store::messages::role(row.try_get("role")?)?,
            content: $crate::store::messages::content(row.try_get("content_kind")?, row.try_get("content")?)?,
            reasoning: row
                .try_get::<Option<Vec<u8>>, _>("reasoning")?
                .map(|bytes| $crate::store::conversations::text(bytes, "messages.reasoning"))
                .transpose()?,
            status: Status::parse(row.try_get("status")?).ok_or(Error::Corrupt("messages.status"))?,
            model: row.try_get("model")?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
            sources: json(row.try_get("sources")?, "messages.sources")?,
            steps: json(row.try_get("steps")?, "messages.steps")?,
            visualizations: json(row.try_get("visualizations")?, "messages.visualizations")?,
            usage: match row.try_get::<Option<&str>, _>("usage")? {
                Some(text) => json(text, "messages.usage")?,
                None => None,
            },
            finish_reason: None,
            error: None,
            stopped_by: None,
            duration_ms: None,
            first_token_ms: None,
            feedback: match row.try_get::<Option<&str>, _>("feedback")? {
                Some(text) => json(text, "messages.feedback")?,
                None => None,
            },
            metadata: json(row.try_get("metadata")?, "messages.metadata")?,
        };
        if let Some(text) = row.try_get::<Option<&str>, _>("finished")? {
            let finished: Finished = json(text, "messages.finished")?;
            message.finish_reason = finished.finish_reason;
            message.error = finished.error;
            message.stopped_by = finished.stopped_by;
            message.duration_ms = Some(finished.duration_ms);
            message.first_token_ms = finished.first_token_ms;
        }
        let position = row.try_get::<i64, _>("position")?.unsigned_abs();
        $crate::store::messages::Placed { position, message }
    }};
}

pub(super) use message_row;

pub(super) fn role(name: &str) -> Result<Role> {
    [Role::User, Role::Assistant].into_iter().find(|role| role.as_str() == name).ok_or(Error::Corrupt("messages.role"))
}

pub(super) fn content(kind: &str, bytes: Vec<u8>) -> Result<Content> {
    match kind {
        "text" => Ok(Content::Text(text(bytes, "messages.content")?)),
        _ => serde_json::from_slice(&bytes).map(Content::Parts).map_err(|_| Error::Corrupt("messages.content")),
    }
}

/// The two columns of a content: its kind and its bytes.
pub(super) fn columns(content: &Content) -> (&'static str, Vec<u8>) {
    match content {
        Content::Text(text) => ("text", text.clone().into_bytes()),
        Content::Parts(parts) => ("parts", crate::domain::json::to_vec(parts)),
    }
}

impl Store {
    /// The newest `limit` messages of a conversation before `before`, oldest first, and whether fewer came because
    /// they have `bytes` as JSON already. The newest always comes.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn messages(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        before: Option<u64>,
        limit: u32,
        bytes: usize,
    ) -> Result<(Vec<Placed>, bool)> {
        let last = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        let (mut messages, cut) = self.span(owner, conversation, (None, last), "desc", limit, bytes).await?;
        messages.reverse();
        Ok((messages, cut))
    }

    /// The messages of a conversation after the place `after` up to `last`, oldest first: at most `limit`, and no more once
    /// they have `bytes` as JSON. The first always comes.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn messages_between(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        (after, last): (u64, u64),
        limit: u32,
        bytes: usize,
    ) -> Result<Vec<Placed>> {
        Ok(self.span(owner, conversation, (Some(after), last), "asc", limit, bytes).await?.0)
    }

    /// Messages between two places in one of the two orders, and whether fewer came because of their size. What is much more than is
    /// wanted does not leave the database.
    async fn span(
        &self,
        owner: &Owner,
        conversation: &ConversationId,
        (after, last): (Option<u64>, u64),
        order: &str,
        limit: u32,
        bytes: usize,
    ) -> Result<(Vec<Placed>, bool)> {
        let sql = format!(
            "with sizes (place, size) as (select position, octet_length(content) + coalesce(octet_length(reasoning), 0) \
             + octet_length(sources) + octet_length(steps) + octet_length(visualizations) from messages \
             where conversation_id = $1 and position > $4 and position <= $5 order by position {order} limit $6), \
             sums (place, size, sum) as (select place, size, sum(size) over (order by place {order}) from sizes) \
             select {COLUMNS}, (select count(*) from sizes) as found from sums \
             join messages m on m.conversation_id = $1 and m.position = sums.place \
             where sums.sum - sums.size <= $7 and m.application_id = $2 and m.owner_id = $3 order by m.position {order}"
        );
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        read!(self, conn => {
            let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(conversation.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(after.map_or(-1, number))
                .bind(number(last))
                .bind(i64::from(limit))
                .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
                .fetch(conn);
            let (mut messages, mut weight, mut found) = (Vec::new(), 0, 0);
            while let Some(row) = rows.try_next().await? {
                found = row.try_get::<i64, _>("found")?;
                let placed = message_row!(&row);
                weight += length(&placed.message);
                if weight > bytes && !messages.is_empty() {
                    break;
                }
                messages.push(placed);
            }
            let cut = u64::try_from(found).is_ok_and(|found| found > messages.len() as u64);
            Ok((messages, cut))
        })
    }

    /// The message, if it is the owner's.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn message(&self, owner: &Owner, id: &MessageId) -> Result<Option<Message>> {
        let sql =
            format!("select {COLUMNS} from messages m where m.id = $1 and m.application_id = $2 and m.owner_id = $3");
        read!(self, conn => {
            let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .fetch_optional(conn)
                .await?;
            match row {
                Some(row) => Ok(Some(message_row!(&row).message)),
                None => Ok(None),
            }
        })
    }

    /// The places of a message and of what it answers, newest first, at most `limit`; and the message before those.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn places(&self, owner: &Owner, to: &MessageId, limit: u32) -> Result<(Vec<u64>, Option<MessageId>)> {
        read!(self, conn => {
            let rows: Vec<(Option<String>, i64)> = sqlx::query_as(
                "with recursive path (parent_id, position, depth) as ( \
                 select parent_id, position, cast(1 as bigint) from messages \
                 where id = $1 and application_id = $2 and owner_id = $3 union all \
                 select m.parent_id, m.position, path.depth + 1 from messages m join path on m.id = path.parent_id \
                 where m.application_id = $2 and m.owner_id = $3 and path.depth < $4) \
                 select parent_id, position from path order by depth",
            )
            .bind(to.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(i64::from(limit))
            .fetch_all(conn)
            .await?;
            let before = rows.last().and_then(|(parent, _)| parent.as_deref()).map(Into::into);
            Ok((rows.into_iter().map(|(_, position)| position.unsigned_abs()).collect(), before))
        })
    }

    /// The path to a message: it and what it answers, back to the first, newest first, as far as `bytes` of text
    /// reach. The message itself always comes.
    ///
    /// # Errors
    /// When the database does not answer, or holds what this program cannot read.
    pub async fn path(&self, owner: &Owner, to: &MessageId, bytes: usize) -> Result<Vec<Said>> {
        read!(self, conn => {
            let mut path = Vec::new();
            let mut weight = 0usize;
            let mut next = Some(to.as_str().to_owned());
            while let Some(id) = next.take() {
                let rows = sqlx::query(PATH)
                    .bind(id)
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .bind(i64::try_from(bytes.saturating_sub(weight)).unwrap_or(i64::MAX))
                    .bind(PAGE)
                    .fetch_all(&mut *conn)
                    .await?;
                for row in rows {
                    let body: Vec<u8> = row.try_get("content")?;
                    weight += body.len();
                    if weight > bytes && !path.is_empty() {
                        return Ok(path);
                    }
                    let content = content(row.try_get("content_kind")?, body)?;
                    let (id, role) = (row.try_get::<String, _>("id")?.into(), role(row.try_get("role")?)?);
                    path.push(Said { id, role, content });
                    next = row.try_get("parent_id")?;
                }
            }
            Ok(path)
        })
    }
}
