//! The index of words, by which a search finds conversations: what is not in it yet, and its coming in.
//!
//! Nothing that is asked or answered waits for it. What is erased leaves it by itself, in the same transaction: a row of it
//! refers to the conversation and the message it is made of, and goes with them.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row};

use super::conversations::title;
use super::messages::content;
use super::pool::{Done, read, write};
use super::transaction::Transaction;
use super::usage::rows;
use super::{Result, Store};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::owner::Owner;
use crate::domain::words::words;

/// So many bytes of a message are indexed: its beginning.
pub(super) const BYTES: usize = 32 << 10;
/// So many different words of it at most.
const WORDS: usize = 4096;

/// So many items are read, and brought in, at once.
pub const AT_ONCE: usize = 32;
/// One statement is for one of so many rows, the last of which may be empty: else each number would be a text to prepare.
const SIZES: [usize; 3] = [1, 8, AT_ONCE];
/// Who brings something in holds this lock of PostgreSQL.
const INDEXING: i64 = 0x7469_6469;

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

impl Item {
    fn id(&self) -> &str {
        match self {
            Self::Title(id) => id.as_str(),
            Self::Message(id) => id.as_str(),
        }
    }

    fn title(&self) -> Option<&str> {
        matches!(self, Self::Title(_)).then_some(self.id())
    }

    fn message(&self) -> Option<&str> {
        matches!(self, Self::Message(_)).then_some(self.id())
    }
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
    different.sort_unstable();
    different.dedup();
    different.truncate(WORDS);
    let mark = mark(owner);
    let mut all = String::with_capacity(different.iter().map(|word| mark.len() + word.len() + 1).sum());
    for word in &different {
        if !all.is_empty() {
            all.push(' ');
        }
        all.push_str(&mark);
        all.push_str(word);
    }
    all
}

/// The size of the statement for so many.
fn padded(count: usize) -> usize {
    SIZES.into_iter().find(|size| *size >= count).unwrap_or(count)
}

/// These, and then nothing, up to their statement's size.
fn filled<T>(all: &[T]) -> impl Iterator<Item = Option<&T>> {
    (0..padded(all.len())).map(|row| all.get(row))
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
    /// What of these, at most [`AT_ONCE`], is to come into the index: not what is there, nor an answer that has not ended, nor
    /// what is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entries(&self, items: &[Item]) -> Result<Vec<Entry>> {
        let titles: Vec<&str> = items.iter().filter_map(Item::title).collect();
        let messages: Vec<&str> = items.iter().filter_map(Item::message).collect();
        read!(self, conn => {
            let mut entries = Vec::with_capacity(items.len());
            if !titles.is_empty() {
                let mut query = sqlx::query(AssertSqlSafe(format!(
                    "select c.id, c.application_id, c.owner_id, c.title from conversations c where c.id in {} \
                     and c.title is not null and not exists (select 1 from indexed i \
                     where i.conversation_id = c.id and i.message_id is null)",
                    rows(1, padded(titles.len()), 1)
                )));
                for id in filled(&titles) {
                    query = query.bind(id.copied().unwrap_or_default());
                }
                for row in query.fetch_all(&mut *conn).await? {
                    let title = title(row.try_get("title")?)?;
                    let words = marked_words(&owner_of!(row), &title);
                    entries.push(Entry { item: Item::Title(row.try_get::<String, _>("id")?.into()), title: Some(title), words });
                }
            }
            if !messages.is_empty() {
                let mut query = sqlx::query(AssertSqlSafe(format!(
                    "select m.id, m.application_id, m.owner_id, m.content_kind, \
                     case when m.content_kind = 'text' then substr(m.content, 1, $1) else m.content end as content \
                     from messages m where m.id in {} and m.status not in ('queued', 'running') \
                     and not exists (select 1 from indexed i where i.message_id = m.id)",
                    rows(1, padded(messages.len()), 2)
                )))
                .bind(i32::try_from(BYTES).unwrap_or(i32::MAX));
                for id in filled(&messages) {
                    query = query.bind(id.copied().unwrap_or_default());
                }
                for row in query.fetch_all(&mut *conn).await? {
                    let text = beginning(row.try_get("content_kind")?, row.try_get("content")?)?;
                    let words = marked_words(&owner_of!(row), &text);
                    entries.push(Entry { item: Item::Message(row.try_get::<String, _>("id")?.into()), title: None, words });
                    // A long text takes a millisecond or two, and others want to go on.
                    tokio::task::yield_now().await;
                }
            }
            Ok(entries)
        })
    }

    /// Brings these, at most [`AT_ONCE`], into the index. What is there already stays, and what is gone by now, or being erased, does
    /// not come.
    /// On SQLite it is one message to its thread, of one of a few texts.
    ///
    /// # Errors
    /// When the database does not answer: then none of them has come.
    pub async fn index(&self, entries: &[Entry]) -> Result<()> {
        let (titles, messages): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.title.is_some());
        write!(self, conn => {
            if self.is_shared() {
                // Two replicas that bring the same would take its rows in different orders, and wait for each other.
                conn.query("select pg_advisory_xact_lock($1)").bind(INDEXING).later().await?;
            }
            if !titles.is_empty() {
                let values = rows(padded(titles.len()), 3, 1);
                // Takes the rows, so that a title that is given meanwhile waits, or is seen.
                let mut query = conn.query(AssertSqlSafe(format!(
                    "update conversations set sort_title = v.column3 from (values {values}) v \
                     where conversations.id = v.column1 and conversations.title = v.column2"
                )));
                for entry in filled(&titles) {
                    let title = entry.and_then(|entry| entry.title.as_deref());
                    query = query.bind(entry.map(|entry| entry.item.id())).bind(title.map(str::as_bytes));
                    query = query.bind(sort_title(title));
                }
                query.later().await?;
            }
            if !titles.is_empty() {
                let values = rows(padded(titles.len()), 3, 1);
                let mut query = conn.query(AssertSqlSafe(format!(
                    "insert into indexed (conversation_id, words) select c.id, v.column3 from (values {values}) v \
                     join conversations c on c.id = v.column1 and c.title = v.column2 where true on conflict do nothing"
                )));
                for entry in filled(&titles) {
                    query = query.bind(entry.map(|entry| entry.item.id()));
                    query = query.bind(entry.and_then(|entry| entry.title.as_deref()).map(str::as_bytes));
                    query = query.bind(entry.map(|entry| entry.words.as_str()));
                }
                query.later().await?;
            }
            if !messages.is_empty() {
                let values = rows(padded(messages.len()), 2, 1);
                // Whoever erases a conversation has it alone (`keep_from_index!`), and takes what its words refer to in another order.
                let free = if self.is_shared() { "for key share skip locked" } else { "" };
                let mut query = conn.query(AssertSqlSafe(format!(
                    "with free as (select c.id from conversations c where c.id in (select m.conversation_id \
                     from (values {values}) v join messages m on m.id = v.column1) {free}) \
                     insert into indexed (conversation_id, message_id, words) select m.conversation_id, m.id, v.column2 \
                     from (values {values}) v join messages m on m.id = v.column1 join free on free.id = m.conversation_id \
                     where true on conflict do nothing"
                )));
                for entry in filled(&messages) {
                    query = query.bind(entry.map(|entry| entry.item.id()));
                    query = query.bind(entry.map(|entry| entry.words.as_str()));
                }
                query.later().await?;
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
