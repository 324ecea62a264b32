//! The index of words, by which a search finds conversations: what is not in it yet, and its coming in.
//!
//! Nothing that is asked or answered waits for it. What is erased leaves it by itself, in the same transaction: a row of it
//! refers to the conversation and the message it is made of, and goes with them.

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::conversations::title;
use super::messages::content;
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::owner::Owner;
use crate::domain::words::words;

/// So many bytes of a message are indexed: its beginning.
pub(super) const BYTES: usize = 32 << 10;
/// So many different words of it at most.
const WORDS: usize = 4096;

/// About so many pages of it are tidied in one transaction.
const TIDIED: i64 = 64;

/// What can be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A conversation, by its title.
    Title(ConversationId),
    /// A message, by its text.
    Message(MessageId),
}

/// What is to come into the index.
#[derive(Clone, Debug)]
pub struct Entry {
    item: Item,
    /// The title as it was read.
    title: Option<String>,
    /// The different words, each marked as its owner's, with spaces between.
    words: String,
}

impl Entry {
    /// About how many bytes it has.
    pub fn weight(&self) -> usize {
        self.words.len()
    }
}

/// Some of the record, looked through for what is not in the index.
#[derive(Clone, Debug)]
pub struct Unindexed {
    /// That.
    pub items: Vec<Item>,
    /// Where the look goes on; `None` = there is no more.
    pub next: Option<String>,
}

/// What words of this owner begin with in the index, so that nobody's search reads the words of others.
pub fn mark(owner: &Owner) -> String {
    let mut digest = Sha256::new();
    digest.update((owner.application_id.len() as u64).to_be_bytes());
    digest.update(owner.application_id.as_bytes());
    digest.update(owner.owner_id.as_bytes());
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).chain(["_".to_owned()]).collect()
}

/// How a title is sorted: as it is shown, in lower case.
pub(super) fn sort_title(title: Option<&str>) -> Vec<u8> {
    let title = title.unwrap_or(crate::domain::conversation::UNTITLED);
    title.chars().take(100).flat_map(char::to_lowercase).collect::<String>().into_bytes()
}

/// The different words of a text, each marked as its owner's, with spaces between.
pub(super) fn marked_words(owner: &Owner, text: &str) -> String {
    let mut different: Vec<String> = words(text).map(|(_, word)| word).collect();
    different.sort();
    different.dedup();
    different.truncate(WORDS);
    let mark = mark(owner);
    different.iter().map(|word| format!("{mark}{word}")).collect::<Vec<_>>().join(" ")
}

macro_rules! owner_of {
    ($row:expr) => {
        Owner {
            application_id: $row.try_get::<String, _>("application_id")?.into(),
            owner_id: $row.try_get::<String, _>("owner_id")?.into(),
        }
    };
}

impl Store {
    /// What of these is to come into the index: not what is there, nor an answer that has not ended, nor what is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entries(&self, items: &[Item]) -> Result<Vec<Entry>> {
        read!(self, conn => {
            let mut entries = Vec::new();
            for item in items {
                match item {
                    Item::Title(id) => {
                        let row = sqlx::query(
                            "select c.application_id, c.owner_id, c.title from conversations c where c.id = $1 \
                             and c.title is not null and not exists (select 1 from indexed i \
                             where i.conversation_id = c.id and i.message_id is null)",
                        )
                        .bind(id.as_str())
                        .fetch_optional(&mut *conn)
                        .await?;
                        if let Some(row) = row {
                            let title = title(row.try_get("title")?)?;
                            let words = marked_words(&owner_of!(row), &title);
                            entries.push(Entry { item: item.clone(), title: Some(title), words });
                        }
                    }
                    Item::Message(id) => {
                        let row = sqlx::query(
                            "select m.application_id, m.owner_id, m.content_kind, \
                             case when m.content_kind = 'text' then substr(m.content, 1, $2) else m.content end as content \
                             from messages m where m.id = $1 and m.status not in ('queued', 'running') \
                             and not exists (select 1 from indexed i where i.message_id = m.id)",
                        )
                        .bind(id.as_str())
                        .bind(i32::try_from(BYTES).unwrap_or(i32::MAX))
                        .fetch_optional(&mut *conn)
                        .await?;
                        if let Some(row) = row {
                            let text = beginning(row.try_get("content_kind")?, row.try_get("content")?)?;
                            let words = marked_words(&owner_of!(row), &text);
                            entries.push(Entry { item: item.clone(), title: None, words });
                            // A long text takes a millisecond or two, and others want to go on.
                            tokio::task::yield_now().await;
                        }
                    }
                }
            }
            Ok(entries)
        })
    }

    /// Brings these into the index. What is there already stays, and what is gone by now does not come.
    ///
    /// # Errors
    /// When the database does not answer, or something is erased at this moment: then none of them has come.
    pub async fn index(&self, entries: &[Entry]) -> Result<()> {
        // Two who do it at once take the rows in the same order.
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by(|one, other| one.item.cmp(&other.item));
        write!(self, conn => {
            for Entry { item, title, words } in &entries {
                match item {
                    Item::Title(id) => {
                        // Takes the row, so that a title that is given meanwhile waits, or is seen.
                        let title = title.as_deref();
                        let same = conn
                            .query("update conversations set sort_title = $1 where id = $2 and title = $3")
                            .bind(sort_title(title))
                            .bind(id.as_str())
                            .bind(title.map(str::as_bytes))
                            .changes()
                            .await?;
                        if same > 0 {
                            conn.query(
                                "insert into indexed (conversation_id, words) values ($1, $2) on conflict do nothing",
                            )
                            .bind(id.as_str())
                            .bind(words.as_str())
                            .later()
                            .await?;
                        }
                    }
                    Item::Message(id) => {
                        conn.query(
                            "insert into indexed (conversation_id, message_id, words) \
                             select m.conversation_id, m.id, $2 from messages m where m.id = $1 on conflict do nothing",
                        )
                        .bind(id.as_str())
                        .bind(words.as_str())
                        .later()
                        .await?;
                    }
                }
            }
            Ok(Done::Commit(()))
        })
    }

    /// Brings the parts that SQLite's index has grown from a little further into one, of which a search has less work; `begin` is
    /// for the first time. Says whether there is more to do. PostgreSQL's index has no such parts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tidy_index(&self, begin: bool) -> Result<bool> {
        if self.is_shared() {
            return Ok(false);
        }
        write!(self, conn => {
            let (before,): (i64,) = conn.query("select total_changes()").one().await?;
            conn.query("insert into words (words, rank) values ('merge', $1)")
                .bind(if begin { -TIDIED } else { TIDIED })
                .changes()
                .await?;
            let (after,): (i64,) = conn.query("select total_changes()").one().await?;
            // The statement counts as one change itself (sqlite.org/fts5.html, section 6.7).
            Ok(Done::Commit(after - before >= 2))
        })
    }

    /// Takes words out of the index whose messages are gone: on SQLite they are only passed over until their part of it is
    /// written anew. A bit at a time, so that others write in between.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn forget_words(&self) -> Result<()> {
        let mut begin = true;
        while self.tidy_index(begin).await? {
            begin = false;
        }
        Ok(())
    }

    /// Looks through up to `limit` messages of all owners after `after`, by id, for those that are not in the index.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unindexed_messages(&self, after: &str, limit: u32) -> Result<Unindexed> {
        const LOOK: &str = "select m.id, case when m.status in ('queued', 'running') or i.number is not null \
            then cast(0 as bigint) else cast(1 as bigint) end from (select id, status from messages where id > $1 \
            order by id limit $2) m left join indexed i on i.message_id = m.id order by m.id";
        self.look(LOOK, after, limit, |id| Item::Message(id.into())).await
    }

    /// The same for the titles of conversations.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn unindexed_titles(&self, after: &str, limit: u32) -> Result<Unindexed> {
        const LOOK: &str = "select c.id, case when c.title is null or i.number is not null \
            then cast(0 as bigint) else cast(1 as bigint) end from (select id, title from conversations where id > $1 \
            order by id limit $2) c left join indexed i on i.conversation_id = c.id and i.message_id is null order by c.id";
        self.look(LOOK, after, limit, |id| Item::Title(id.into())).await
    }

    async fn look(&self, sql: &'static str, after: &str, limit: u32, item: fn(String) -> Item) -> Result<Unindexed> {
        read!(self, conn => {
            let rows: Vec<(String, i64)> =
                sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(conn).await?;
            let whole = rows.len() == limit as usize;
            let next = rows.last().filter(|_| whole).map(|(id, _)| id.clone());
            let items = rows.into_iter().filter(|(_, missing)| *missing == 1).map(|(id, _)| item(id)).collect();
            Ok(Unindexed { items, next })
        })
    }
}

/// The beginning of a message's text, which may have been cut within a character.
pub(super) fn beginning(kind: &str, mut bytes: Vec<u8>) -> Result<String> {
    if kind == "text" {
        bytes.truncate(BYTES);
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    let mut text = content(kind, bytes)?.text();
    text.truncate(text.floor_char_boundary(BYTES));
    Ok(text)
}
