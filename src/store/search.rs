//! Finding conversations by words of their titles and messages.
//!
//! All words must stand in one title, or in one message. The index does not know what is newest; so what is quickest hangs on how
//! much matches, which is asked first. A little: it is sorted. More: the list is walked, newest first, past a set of all that
//! matches. Very much: the list is walked, and the index asked for each conversation; the first page is soon full. PostgreSQL, which
//! reads a row for each match, but has the words of a conversation at hand, tries the newest conversations before all that.

use sqlx::{AssertSqlSafe, Row};

use super::conversations::{COLUMNS, conversation_row};
use super::indexing::{BYTES, beginning, mark};
use super::listing::{Filter, Key, Listed, Place, Sort, bind_place};
use super::pool::{Pool, read};
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::conversation::Conversation;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::json::to_string;
use crate::domain::owner::Owner;
use crate::domain::words::Sought;

/// So many matches are sorted at once…
const FEW: usize = 200;
/// …and so many where the newest [`WALKED`] conversations have too few of them.
const SOME: usize = 2000;
/// So many are taken together in a set.
const MANY: usize = 10_000;
/// So many conversations are walked past a set by one query.
const WALKED: usize = 4000;
/// So many are tried one by one by PostgreSQL, before it is asked how much matches.
const TRIED: usize = 500;
/// So many are tried by one query where more match than [`MANY`]…
const STRIDE: usize = 100;
/// …and so many in all for one page; then it comes as it is.
const TRIED_IN_ALL: usize = 4000;

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

/// Whose conversations are searched, which of them, and how many are wanted.
struct Search<'a> {
    owner: &'a Owner,
    filter: &'a Filter,
    wanted: usize,
}

/// How a conversation is held against what matches.
enum Matches<'a> {
    /// The index is asked anew for each.
    Tried(&'a str),
    /// These are the matches.
    Rows(&'a str),
    /// The index is asked once for all of them.
    Found(&'a str),
}

/// A match: the conversation, its place in the list, and the row of the index.
type Hit = (Place, i64);

impl Store {
    /// The owner's conversations that match, filtered, sorted and paged like the list of all.
    ///
    /// # Errors
    /// When the database does not answer, or too many search.
    pub async fn search(&self, owner: &Owner, sought: &Sought, filter: &Filter) -> Result<Listed<Found>> {
        let _place = self.places.take(owner, self.patience).await?;
        let work = async {
            let Some(asked) = self.asked(owner, sought).await? else {
                return Ok(Listed { conversations: Vec::new(), next: None });
            };
            let (hits, next) = self.hits(owner, &asked, filter).await?;
            Ok(Listed { conversations: self.found(owner, &hits, filter).await?, next })
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
        let search = Search { owner, filter, wanted: filter.limit + 1 };
        let Asked { query, quick } = asked;
        let (mut hits, mut from) = (Vec::new(), filter.from.clone());
        if *quick && self.is_shared() && self.walk(&search, &Matches::Tried(query), TRIED, &mut hits, &mut from).await?
        {
            return Ok(page(hits, None, filter.limit));
        }
        let (count, rows) = self.matching(query).await?;
        let (matches, stride, most) = match count {
            few if few <= FEW => (Matches::Rows(&rows), WALKED, 0),
            some if some <= SOME => (Matches::Rows(&rows), WALKED, WALKED),
            many if many <= MANY => (Matches::Rows(&rows), WALKED, usize::MAX),
            _ if *quick => (Matches::Tried(query), STRIDE, TRIED_IN_ALL),
            _ => (Matches::Found(query), WALKED, usize::MAX),
        };
        let mut walked = 0;
        while walked < most {
            if self.walk(&search, &matches, stride, &mut hits, &mut from).await? {
                return Ok(page(hits, None, filter.limit));
            }
            walked = walked.saturating_add(stride);
        }
        if count > SOME {
            return Ok(page(hits, from, filter.limit));
        }
        self.sort(&search, &rows, &mut hits, from).await?;
        Ok(page(hits, None, filter.limit))
    }

    /// What matches, by its rows in the index, as a list in JSON, and how many they are: [`MANY`] and one at most.
    async fn matching(&self, query: &str) -> Result<(usize, String)> {
        let list = if self.is_shared() { "cast(json_agg(m.number) as text)" } else { "json_group_array(m.number)" };
        let sql = format!(
            "select count(*), coalesce({list}, '[]') from (select w.rowid as number from words($1) w limit $2) m"
        );
        read!(self, conn => {
            let (count, rows): (i64, String) = sqlx::query_as(AssertSqlSafe(sql))
                .bind(query)
                .bind(i64::try_from(MANY + 1).unwrap_or(i64::MAX))
                .fetch_one(conn)
                .await?;
            Ok((usize::try_from(count).unwrap_or(0), rows))
        })
    }

    /// What is in such a list.
    fn listed(&self) -> &'static str {
        if self.is_shared() {
            "select cast(value as bigint) from json_array_elements_text(cast($3 as json))"
        } else {
            "select value from json_each($3)"
        }
    }

    /// Walks the next `stride` conversations of the list, until as many have been found as are wanted. Says whether it is at its
    /// end: so many have been, or there are no more; else `from` is where the list goes on.
    async fn walk(
        &self,
        search: &Search<'_>,
        matches: &Matches<'_>,
        stride: usize,
        hits: &mut Vec<Hit>,
        from: &mut Option<Place>,
    ) -> Result<bool> {
        let Search { filter, wanted, .. } = search;
        let (matches, bound) = match matches {
            Matches::Tried(query) => ("exists (select 1 from words($3) w where w.rowid = i.number)".to_owned(), query),
            // As a value, so that they are one set, and not looked up one by one for each conversation.
            Matches::Rows(rows) => (format!("(i.number in ({})) is true", self.listed()), rows),
            Matches::Found(query) => ("(i.number in (select w.rowid from words($3) w)) is true".to_owned(), query),
        };
        let (inner, last) = (filter.ids(from.is_some(), 5), if from.is_some() { 7 } else { 5 });
        // They come as they are walked, and no more are walked than it takes: sorted again, all would be.
        let walk = format!(
            "select id, place, number from (select p.id, p.place, (select i.number from indexed i \
             where i.conversation_id = p.id and {matches} order by i.number desc limit 1) as number from ({inner}) p) t \
             where number is not null limit ${last}"
        );
        let more = wanted - hits.len();
        let found = self.run(search, &walk, bound, stride, from.as_ref(), Some(more)).await?;
        let is_full = found.len() >= more;
        hits.extend(found);
        if is_full {
            return Ok(true);
        }
        let end = format!("select id, place, cast($3 as bigint) as number from ({inner}) p limit 1 offset ${last}");
        let end = self.run(search, &end, "0", stride, from.as_ref(), Some(stride - 1)).await?;
        *from = end.into_iter().next().map(|(place, _)| place);
        Ok(from.is_none())
    }

    /// Sorts what matches and comes after `from`, and takes as many as are wanted.
    async fn sort(&self, search: &Search<'_>, rows: &str, hits: &mut Vec<Hit>, from: Option<Place>) -> Result<()> {
        let Search { filter, wanted, .. } = search;
        let (column, order) = (filter.sort.column(), filter.order());
        let (condition, listed) = (filter.condition(from.is_some(), 5), self.listed());
        // One look for each hit: PostgreSQL, which cannot know how few they are, would read all conversations to join them.
        let sql = format!(
            "with hits as materialized (select i.conversation_id as id, max(i.number) as number from indexed i \
             where i.number in ({listed}) group by i.conversation_id) \
             select id, place, number from (select h.id, h.number, (select c.{column} from conversations c \
             where c.id = h.id and {condition}) as place from hits h) found where place is not null \
             order by place {order}, id {order} limit $4"
        );
        hits.extend(self.run(search, &sql, rows, wanted - hits.len(), from.as_ref(), None).await?);
        Ok(())
    }

    /// Runs such a query: $1 and $2 are the owner, then `bound` and `count`, then the place, and a last number.
    async fn run(
        &self,
        search: &Search<'_>,
        sql: &str,
        bound: &str,
        count: usize,
        from: Option<&Place>,
        last: Option<usize>,
    ) -> Result<Vec<Hit>> {
        let Search { owner, filter, .. } = search;
        read!(self, conn => {
            let query = sqlx::query(AssertSqlSafe(sql.to_owned()))
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(bound)
                .bind(i64::try_from(count).unwrap_or(i64::MAX));
            let mut query = bind_place!(query, from);
            if let Some(last) = last {
                query = query.bind(i64::try_from(last).unwrap_or(i64::MAX));
            }
            let rows = query.fetch_all(conn).await?;
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

    /// Hits as they are shown, in their order, but for those that are gone by now.
    async fn found(&self, owner: &Owner, hits: &[Hit], filter: &Filter) -> Result<Vec<Found>> {
        if hits.is_empty() {
            return Ok(Vec::new());
        }
        let hits: Vec<(&str, i64)> = hits.iter().map(|(Place { id, .. }, number)| (id.as_str(), *number)).collect();
        let listed = if self.is_shared() {
            "json_array_elements(cast($3 as json)) with ordinality as l (value, at)"
        } else {
            "(select value, key as at from json_each($3)) l"
        };
        let sql = format!(
            "select {COLUMNS}, m.id as message_id, m.content_kind, case when m.content_kind = 'text' \
             then substr(m.content, 1, {BYTES}) else m.content end as content \
             from (select l.value ->> 0 as id, cast(l.value ->> 1 as bigint) as number, l.at from {listed}) h \
             join conversations c on c.id = h.id left join indexed i on i.number = h.number \
             left join messages m on m.id = i.message_id where c.application_id = $1 and c.owner_id = $2 order by h.at"
        );
        read!(self, conn => {
            let rows = sqlx::query(AssertSqlSafe(sql))
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(to_string(&hits))
                .fetch_all(conn)
                .await?;
            let mut found = Vec::with_capacity(rows.len());
            for row in rows {
                let message = match row.try_get::<Option<String>, _>("message_id")? {
                    Some(id) => {
                        Some((id.into(), beginning(row.try_get("content_kind")?, row.try_get("content")?)?))
                    }
                    None => None,
                };
                found.push(Found { conversation: conversation_row!(row, filter.silence), message });
            }
            Ok(found)
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
