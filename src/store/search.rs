//! Finding conversations by words of their titles and messages.
//!
//! All words must stand in one title, or in one message. The newest activity comes first, and the index knows nothing of that;
//! so what is quickest hangs on how much matches. Most of the newest conversations: they are tried one by one, and the first
//! page is soon full. Little: all of it is found and sorted. Something between: all of it is found, and the list is walked past
//! it.

use sqlx::Row;

use super::conversations::{COLUMNS, conversation_row};
use super::indexing::{BYTES, beginning, mark};
use super::listing::{Filter, Key, Listed, Place, Sort, bind_place};
use super::pool::{Pool, read};
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::conversation::Conversation;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::owner::Owner;
use crate::domain::words::Sought;

/// So many conversations are tried one by one at first…
const TRIED: usize = 50;
/// …and so many in all for one page, where more match than [`MANY`]; then it comes as it is.
const TRIED_IN_ALL: usize = 4000;
/// So many matches are all found and sorted.
const FEW: usize = 1000;
/// So many are all found, and the list is walked past them.
const MANY: usize = 10_000;

/// Beginnings of so many signs have lists of their own in SQLite's index.
const LISTED: usize = 3;
/// Of longer ones so many words are looked up, and asked for one by one.
const BEGUN: usize = 16;

/// What is asked of the index.
struct Asked {
    query: String,
    /// Whether to ask again and again, of one row each, is no work.
    quick: bool,
}

/// A conversation that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// It.
    pub conversation: Conversation,
    /// The newest message that matches, with the beginning of its text; `None` where the title does.
    pub message: Option<(MessageId, String)>,
}

/// A match: the conversation, its place in the list, and the row of the index.
type Hit = (Place, i64);

impl Store {
    /// The owner's conversations that match, filtered, sorted and paged like the list of all.
    ///
    /// # Errors
    /// When the database does not answer, or too many search.
    pub async fn search(&self, owner: &Owner, sought: &Sought, filter: &Filter) -> Result<Listed<Found>> {
        let place = tokio::time::timeout(self.patience, self.searches.acquire()).await;
        let _place = place.map_err(|_| Error::Crowded)?;
        let work = async {
            let Some(asked) = self.asked(owner, sought).await? else {
                return Ok(Listed { conversations: Vec::new(), next: None });
            };
            let (hits, next) = self.hits(owner, &asked, filter).await?;
            let mut found = Vec::with_capacity(hits.len());
            for (Place { id, .. }, number) in hits {
                found.extend(self.found(owner, &id, number, filter).await?);
            }
            Ok(Listed { conversations: found, next })
        };
        tokio::time::timeout(self.patience, Box::pin(work)).await.unwrap_or(Err(Error::Slow(self.patience)))
    }

    /// What is asked of the database's index, in its language; `None` where nothing can match. The words have no signs in them
    /// that it knows.
    async fn asked(&self, owner: &Owner, sought: &Sought) -> Result<Option<Asked>> {
        let mark = mark(owner);
        let begun = format!("{mark}{}", sought.begun);
        let whole = sought.whole.iter().map(|word| format!("{mark}{word}"));
        match self.pool {
            Pool::Postgres { .. } => {
                let words = whole.map(|word| format!("'{word}'")).chain([format!("'{begun}':*")]);
                Ok(Some(Asked { query: words.collect::<Vec<_>>().join(" & "), quick: true }))
            }
            Pool::Sqlite { .. } => {
                // A beginning without a list of its own is put together anew each time it is asked for.
                let mut quick = true;
                let last = if sought.begun.chars().count() <= LISTED {
                    format!("\"{begun}\"*")
                } else {
                    let words = self.vocabulary(&begun).await?;
                    quick = words.len() <= BEGUN;
                    match words.len() {
                        0 => return Ok(None),
                        _ if quick => format!("(\"{}\")", words.join("\" OR \"")),
                        _ => format!("\"{begun}\"*"),
                    }
                };
                let words = whole.map(|word| format!("\"{word}\"")).chain([last]);
                Ok(Some(Asked { query: words.collect::<Vec<_>>().join(" AND "), quick }))
            }
        }
    }

    /// The words of SQLite's index that begin so, one more than [`BEGUN`] at most.
    async fn vocabulary(&self, begun: &str) -> Result<Vec<String>> {
        read!(self, conn => {
            Ok(sqlx::query_scalar("select term from vocabulary where term >= $1 and term < $2 order by term limit $3")
                .bind(begun)
                .bind(format!("{begun}\u{10ffff}"))
                .bind(i64::try_from(BEGUN + 1).unwrap_or(i64::MAX))
                .fetch_all(conn)
                .await?)
        })
    }

    async fn hits(&self, owner: &Owner, asked: &Asked, filter: &Filter) -> Result<(Vec<Hit>, Option<Place>)> {
        let Asked { query, quick } = asked;
        let newest_first = filter.sort == Sort::Activity && filter.descending;
        if !newest_first || !quick {
            let from = filter.from.clone();
            let all = self.find_all(owner, query, filter, from, filter.limit + 1, newest_first).await?;
            return Ok(page(all, None, filter.limit));
        }
        let (mut hits, mut from) = self.try_some(owner, query, filter, filter.from.clone(), TRIED).await?;
        if hits.len() > filter.limit || from.is_none() {
            return Ok(page(hits, None, filter.limit));
        }
        let count = self.count(query, MANY + 1).await?;
        if count <= MANY {
            let wanted = filter.limit + 1 - hits.len();
            hits.extend(self.find_all(owner, query, filter, from, wanted, count > FEW).await?);
            return Ok(page(hits, None, filter.limit));
        }
        let mut tried = TRIED;
        while hits.len() <= filter.limit && from.is_some() && tried < TRIED_IN_ALL {
            let (some, next) = self.try_some(owner, query, filter, from, 2 * TRIED).await?;
            hits.extend(some);
            from = next;
            tried += 2 * TRIED;
        }
        Ok(page(hits, from, filter.limit))
    }

    /// Tries the next conversations of the list one by one: those that match, and where the list goes on.
    async fn try_some(
        &self,
        owner: &Owner,
        query: &str,
        filter: &Filter,
        from: Option<Place>,
        most: usize,
    ) -> Result<(Vec<Hit>, Option<Place>)> {
        let inner = filter.ids(from.is_some(), 5);
        let sql = format!(
            "select p.id, p.place, (select i.number from indexed i where i.conversation_id = p.id \
             and exists (select 1 from words($3) w where w.rowid = i.number) order by i.number desc limit 1) as number \
             from ({inner}) p order by p.place desc, p.id desc"
        );
        read!(self, conn => {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(query)
                .bind(i64::try_from(most).unwrap_or(i64::MAX));
            let rows = bind_place!(query, &from).fetch_all(conn).await?;
            let (mut hits, mut last) = (Vec::new(), None);
            for row in &rows {
                let place = Place {
                    key: Key::Number(row.try_get("place")?),
                    id: ConversationId::from(row.try_get::<String, _>("id")?),
                };
                if let Some(number) = row.try_get::<Option<i64>, _>("number")? {
                    hits.push((place.clone(), number));
                }
                last = Some(place);
            }
            Ok((hits, last.filter(|_| rows.len() == most)))
        })
    }

    /// How much matches, counted up to `most`.
    async fn count(&self, query: &str, most: usize) -> Result<usize> {
        read!(self, conn => {
            let count: i64 = sqlx::query_scalar("select count(*) from (select w.rowid from words($1) w limit $2) m")
                .bind(query)
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_one(conn)
                .await?;
            Ok(usize::try_from(count).unwrap_or(0))
        })
    }

    /// Finds all that matches: `walk` = the list is walked past it, else it is sorted. At most `wanted` come.
    async fn find_all(
        &self,
        owner: &Owner,
        query: &str,
        filter: &Filter,
        from: Option<Place>,
        wanted: usize,
        walk: bool,
    ) -> Result<Vec<Hit>> {
        let (column, order) = (filter.sort.column(), filter.order());
        let condition = filter.condition(from.is_some(), 5);
        let hits = "with hits as materialized (select i.conversation_id as id, max(i.number) as number from words($3) w \
             join indexed i on i.number = w.rowid group by i.conversation_id)";
        let sql = if walk {
            // SQLite takes tables in this order; PostgreSQL sees for itself.
            format!(
                "{hits} select c.id, c.{column} as place, h.number from conversations c cross join hits h \
                 where h.id = c.id and {condition} order by c.{column} {order}, c.id {order} limit $4"
            )
        } else {
            // One look for each hit: PostgreSQL, which cannot know how few they are, would read all conversations to join them.
            format!(
                "{hits} select id, place, number from (select h.id, h.number, (select c.{column} from conversations c \
                 where c.id = h.id and {condition}) as place from hits h) found where place is not null \
                 order by place {order}, id {order} limit $4"
            )
        };
        read!(self, conn => {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(query)
                .bind(i64::try_from(wanted).unwrap_or(i64::MAX));
            let rows = bind_place!(query, &from).fetch_all(conn).await?;
            let mut hits = Vec::with_capacity(rows.len());
            for row in &rows {
                let key = match filter.sort {
                    Sort::Activity | Sort::Created => Key::Number(row.try_get("place")?),
                    Sort::Title => Key::Text(row.try_get("place")?),
                };
                let id = ConversationId::from(row.try_get::<String, _>("id")?);
                hits.push((Place { key, id }, row.try_get("number")?));
            }
            Ok(hits)
        })
    }

    /// A hit as it is shown; `None` when it is gone by now.
    async fn found(&self, owner: &Owner, id: &ConversationId, number: i64, filter: &Filter) -> Result<Option<Found>> {
        let sql = format!(
            "select {COLUMNS}, m.id as message_id, m.content_kind, case when m.content_kind = 'text' \
             then substr(m.content, 1, {BYTES}) else m.content end as content from conversations c \
             left join indexed i on i.number = $4 left join messages m on m.id = i.message_id \
             where c.id = $1 and c.application_id = $2 and c.owner_id = $3"
        );
        read!(self, conn => {
            let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(id.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(number)
                .fetch_optional(conn)
                .await?;
            let Some(row) = row else { return Ok(None) };
            let message = match row.try_get::<Option<String>, _>("message_id")? {
                Some(id) => {
                    Some((id.into(), beginning(row.try_get("content_kind")?, row.try_get("content")?)?))
                }
                None => None,
            };
            Ok(Some(Found { conversation: conversation_row!(row, filter.silence), message }))
        })
    }
}

/// A page of these, and where the list goes on: behind its last, where there are more, else at `rest`.
fn page(mut hits: Vec<Hit>, rest: Option<Place>, limit: usize) -> (Vec<Hit>, Option<Place>) {
    if hits.len() <= limit {
        return (hits, rest);
    }
    hits.truncate(limit);
    let next = hits.last().map(|(place, _)| place.clone());
    (hits, next)
}
