//! The list of an owner's conversations, or of all of an application's: filtered, in an order, page by page.

use sqlx::Row;

use super::conversations::{COLUMNS, conversation_row};
use super::pool::read;
use super::{Error, Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::conversation::{Conversation, Silence, State};
use crate::domain::ids::ConversationId;
use crate::domain::owner::Owner;

/// What conversations are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// When the last message came.
    Activity,
    /// When they were made.
    Created,
    /// Their titles, in lower case.
    Title,
}

impl Sort {
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Activity => "last_message_at",
            Self::Created => "created_at",
            Self::Title => "sort_title",
        }
    }
}

/// What a conversation is sorted by, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A time, in microseconds.
    Number(i64),
    /// A title in lower case, as UTF-8.
    Text(Vec<u8>),
}

/// A place in the list of an owner's conversations: after this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is sorted by.
    pub key: Key,
    /// Its id, which tells apart those that are alike in that.
    pub id: ConversationId,
}

/// Which conversations are wanted, and in what order.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Those that stand so; all when absent.
    pub state: Option<State>,
    /// Those that are put away as well.
    pub archived: bool,
    /// What they are sorted by.
    pub sort: Sort,
    /// The greatest first.
    pub descending: bool,
    /// After this one; from the first when absent. Its key is of the kind that they are sorted by.
    pub from: Option<Place>,
    /// How many.
    pub limit: usize,
    /// How long they may have been silent.
    pub silence: Silence,
}

/// The owner's rows of `conversations c`…
const OWNERS: &str = "c.application_id = $1 and c.owner_id = $2";
/// …and all of their application's.
const WHOLE: &str = "c.application_id = $1 and $2 <> ''";

impl Filter {
    pub(super) fn order(&self) -> &'static str {
        if self.descending { "desc" } else { "asc" }
    }

    /// The condition on a row of `conversations c`: $1 and $2 are the owner; the place after which they come, if there is
    /// one, is the last that is bound, and begins with the parameter of that number.
    pub(super) fn condition(&self, placed: bool, number: u8) -> String {
        self.condition_on(OWNERS, placed, number)
    }

    fn condition_on(&self, whose: &str, placed: bool, number: u8) -> String {
        let column = self.sort.column();
        let mut sql = String::from(whose);
        if placed {
            let sign = if self.descending { '<' } else { '>' };
            sql.push_str(&format!(" and (c.{column}, c.id) {sign} (${number}, ${})", number + 1));
        }
        if !self.archived {
            sql.push_str(" and c.archived_at is null");
        }
        let since = self.silence.since().as_micros();
        let silent = format!("c.live_turn_id is null and c.last_message_at <= {since} and c.resumed_at <= {since}");
        sql.push_str(&match self.state {
            None => String::new(),
            Some(State::Active) => format!(" and c.state = 'active' and not ({silent})"),
            Some(State::Paused) => " and c.state = 'paused'".to_owned(),
            Some(State::Ended) => format!(" and (c.state = 'ended' or (c.state = 'active' and {silent}))"),
        });
        sql
    }

    /// Ids and places of those that fit, at most as many as the parameter before the place says. An index has all it
    /// reads, unless a state is asked for.
    pub(super) fn ids(&self, placed: bool, number: u8) -> String {
        self.ids_on(OWNERS, placed, number)
    }

    fn ids_on(&self, whose: &str, placed: bool, number: u8) -> String {
        let (column, order, condition) = (self.sort.column(), self.order(), self.condition_on(whose, placed, number));
        format!(
            "select c.id, c.{column} as place from conversations c where {condition} \
             order by c.{column} {order}, c.id {order} limit ${}",
            number - 1
        )
    }
}

/// Binds a place, if there is one.
macro_rules! bind_place {
    ($query:expr, $from:expr) => {{
        let query = $query;
        match $from {
            Some(Place { key: Key::Number(number), id }) => query.bind(*number).bind(id.as_str().to_owned()),
            Some(Place { key: Key::Text(text), id }) => query.bind(text.clone()).bind(id.as_str().to_owned()),
            None => query,
        }
    }};
}

pub(super) use bind_place;

/// Some of an owner's conversations.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// In their order.
    pub conversations: Vec<T>,
    /// Where it goes on, if there may be more.
    pub next: Option<Place>,
}

impl Store {
    /// The owner's conversations that fit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn conversations(&self, owner: &Owner, filter: &Filter) -> Result<Listed<Conversation>> {
        self.list(owner, OWNERS, filter).await
    }

    /// Those of all of the owner's application. The indexes lie by owner, so what is in them is sorted anew for each page: about 0.4
    /// seconds for a million on SQLite. One more index would be paid for by each turn, twice.
    ///
    /// # Errors
    /// When the database does not answer in time, or too many search.
    pub async fn every_conversation(&self, owner: &Owner, filter: &Filter) -> Result<Listed<Conversation>> {
        let _place = self.places.take(owner, self.patience).await?;
        let list = Box::pin(self.list(owner, WHOLE, filter));
        tokio::time::timeout(self.patience, list).await.unwrap_or(Err(Error::Slow(self.patience)))
    }

    async fn list(&self, owner: &Owner, whose: &str, filter: &Filter) -> Result<Listed<Conversation>> {
        let order = filter.order();
        let sql = format!(
            "select {COLUMNS}, p.place from ({}) p join conversations c on c.id = p.id order by p.place {order}, p.id {order}",
            filter.ids_on(whose, filter.from.is_some(), 4)
        );
        read!(self, conn => {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(i64::try_from(filter.limit + 1).unwrap_or(i64::MAX));
            let rows = bind_place!(query, &filter.from).fetch_all(conn).await?;
            let mut conversations = Vec::with_capacity(rows.len());
            let mut next = None;
            for row in rows.iter().take(filter.limit) {
                let conversation = conversation_row!(row, filter.silence);
                next = Some(Place {
                    key: match filter.sort {
                        Sort::Activity | Sort::Created => Key::Number(row.try_get("place")?),
                        Sort::Title => Key::Text(row.try_get("place")?),
                    },
                    id: conversation.id.clone(),
                });
                conversations.push(conversation);
            }
            Ok(Listed { conversations, next: next.filter(|_| rows.len() > filter.limit) })
        })
    }
}
