//! What calls of models used: a record of each, and their sums by day and by quarter of an hour.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use sqlx::Row;

use super::ending::Lease;
use super::pool::read;
use super::{Result, Store};
use crate::domain::ids::KeyId;
use crate::domain::owner::Owner;
use crate::domain::period::{DAY, Period, QUARTER};
use crate::domain::sums::Sums;
use crate::domain::usage::Record;

/// The spans of time over which sums are kept, in microseconds; in the table they are in seconds.
const SPANS: [i64; 2] = [QUARTER, DAY];

const SECOND: i64 = 1_000_000;

/// What sums are kept by, besides application and owner: `span`, `start` in microseconds, and the model. The order is that
/// in which rows are taken, by whoever counts at the same time.
pub(super) type Kept<'a> = (i64, i64, &'a str);

/// The sums of these calls.
pub(super) fn sums(calls: &[Record]) -> BTreeMap<Kept<'_>, Sums> {
    let mut sums = BTreeMap::<_, Sums>::new();
    for call in calls {
        let at = call.created_at.as_micros();
        for span in SPANS {
            let kept = (span / SECOND, at - at.rem_euclid(span), call.counted.model.as_str());
            let sum = sums.entry(kept).or_default();
            *sum = sum.plus(Sums::of(&call.counted.usage));
        }
    }
    sums
}

/// So many rows of so many values, `$` from `first` on.
pub(super) fn rows(rows: usize, columns: usize, first: usize) -> String {
    let row = |row: usize| {
        let values: Vec<String> = (0..columns).map(|column| format!("${}", first + row * columns + column)).collect();
        format!("({})", values.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// The condition under which a turn's calls have not been counted: done again, an end changes nothing.
pub(super) const UNCOUNTED: &str =
    "where not exists (select 1 from usage_records r where r.conversation_id = $1 and r.turn_id = $2)";

/// Adds sums to those there are: `rows` gives them, by application, owner, span, start, model, assistant, key, shard and
/// [`Sums::NAMES`].
pub(super) fn add_totals(rows: &str) -> sqlx::AssertSqlSafe<String> {
    let add = |name: &str| format!("{name} = usage_totals.{name} + excluded.{name}");
    sqlx::AssertSqlSafe(format!(
        "insert into usage_totals (application_id, owner_id, span, start, model, assistant_id, key_id, shard, {}) {rows} \
         on conflict (application_id, owner_id, span, start, model, assistant_id, key_id, shard) do update set {}",
        Sums::NAMES.join(", "),
        Sums::NAMES.map(add).join(", ")
    ))
}

pub(super) fn insert_totals(groups: usize) -> sqlx::AssertSqlSafe<String> {
    add_totals(&format!("select * from (values {}) v {UNCOUNTED}", rows(groups, 8 + Sums::NAMES.len(), 3)))
}

pub(super) fn insert_records(calls: usize) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "insert into usage_records (id, application_id, owner_id, conversation_id, turn_id, step_id, assistant_id, \
         key_id, model, answered_by, upstream, prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, \
         reasoning_tokens, cost_nano_usd, basis, ended, first_token_ms, duration_ms, created_at) \
         select * from (values {}) v {UNCOUNTED}",
        rows(calls, 22, 3)
    ))
}

/// Keeps the calls of a turn that ends, and adds them to the sums: two statements that may wait. The sums come first,
/// since they ask whether there are records.
macro_rules! count_calls {
    ($conn:expr, $lease:expr, $calls:expr, $shards:expr) => {{
        let lease: &$crate::store::ending::Lease = $lease;
        let ids = (lease.conversation_id.as_str(), lease.turn_id.as_str());
        let (application, owner) = (&*lease.owner.application_id, &*lease.owner.owner_id);
        let (assistant, key) = $crate::store::usage::on_behalf(lease);
        let (sums, shard) = ($crate::store::usage::sums(&$calls), $crate::store::usage::shard(lease, $shards));
        let mut totals = $conn.query($crate::store::usage::insert_totals(sums.len())).bind(ids.0).bind(ids.1);
        for ((span, start, model), sums) in sums {
            totals = totals.bind(application).bind(owner).bind(span).bind(start).bind(model);
            totals = totals.bind(assistant.unwrap_or_default()).bind(key.unwrap_or_default()).bind(shard);
            for sum in sums.to_list() {
                totals = totals.bind(sum.cast_signed());
            }
        }
        totals.later().await?;
        let mut records = $conn.query($crate::store::usage::insert_records($calls.len())).bind(ids.0).bind(ids.1);
        for call in $calls.iter() {
            let (counted, usage) = (&call.counted, &call.counted.usage);
            records = records.bind(call.id.as_str()).bind(application).bind(owner).bind(ids.0).bind(ids.1);
            records = records.bind(counted.step_id.as_str()).bind(assistant).bind(key).bind(counted.model.as_str());
            records = records.bind(call.answered_by.as_deref()).bind(call.upstream.as_deref());
            records = records.bind(usage.prompt_tokens.cast_signed()).bind(usage.completion_tokens.cast_signed());
            for part in [usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens, usage.cost_nano_usd] {
                records = records.bind(part.map(u64::cast_signed));
            }
            records = records.bind(usage.basis.as_str()).bind(call.ended.as_str());
            records = records.bind(call.first_token_ms.map(u64::cast_signed));
            records = records.bind(call.duration_ms.map(u64::cast_signed)).bind(call.created_at.as_micros());
        }
        records.later().await?;
    }};
}

pub(super) use count_calls;

/// Over so many rows the calls of an owner are spread where several connections write: each waits for the commit of whoever
/// has its row, and an application may have one owner for all.
pub(super) const SHARDS: i64 = 8;

/// Which of so many rows a turn's calls are added to.
pub(super) fn shard(lease: &Lease, shards: i64) -> i64 {
    let last = lease.turn_id.as_str().bytes().last().unwrap_or_default();
    char::from(last).to_digit(16).map_or(0, i64::from) % shards
}

/// The assistant and the API key that a turn was asked with. There are no assistants yet.
pub(super) fn on_behalf(lease: &Lease) -> (Option<&str>, Option<&str>) {
    (None, lease.key_id.as_ref().map(KeyId::as_str))
}

/// What sums can be told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The day in which a call was made.
    Day,
    /// The model that was asked.
    Model,
    /// The user or visitor who asked.
    User,
    /// The assistant.
    Assistant,
    /// The API key.
    Key,
}

impl Column {
    const ALL: [Self; 5] = [Self::Day, Self::Model, Self::User, Self::Assistant, Self::Key];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Model => "model",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Key => "key",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == name)
    }

    /// What it is in the table, and what stands for it where it is not asked for.
    fn sql(self, asked: bool) -> &'static str {
        match (self, asked) {
            (Self::Day, true) => "start",
            (Self::Day, false) => "cast(0 as bigint)",
            (Self::Model, true) => "model",
            (Self::User, true) => "owner_id",
            (Self::Assistant, true) => "assistant_id",
            (Self::Key, true) => "key_id",
            (Self::Model | Self::User | Self::Assistant | Self::Key, false) => "cast('' as text)",
        }
    }
}

/// What some sums are told by: what was not asked for is `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    day: Option<jiff::civil::Date>,
    model: String,
    user: String,
    assistant: String,
    key: String,
}

impl Group {
    /// What it has in a column; `None` for nothing.
    pub fn get(&self, column: Column) -> Option<String> {
        match column {
            Column::Day => self.day.map(|day| day.to_string()),
            Column::Model => Some(self.model.clone()),
            Column::User => self.user.split_once(':').map(|(_, id)| id.to_owned()),
            Column::Assistant => Some(self.assistant.clone()).filter(|id| !id.is_empty()),
            Column::Key => Some(self.key.clone()).filter(|id| !id.is_empty()),
        }
    }
}

/// A person as their rows have them, which begins with what they are; of nobody there is no id.
fn person(owner: String) -> String {
    if owner.contains(':') { owner } else { String::new() }
}

/// Which sums.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What they are told by.
    pub columns: &'a [Column],
    /// Of which time.
    pub period: &'a Period,
    /// The most there may be.
    pub most: usize,
    /// Of all of the owner's application.
    pub whole: bool,
}

impl Store {
    /// The sums over the owner's calls in a period, or over all of the application's; `None` where there are more of them than there may be. Those of days
    /// in UTC are read where they do, and else those of quarters of an hour.
    ///
    /// # Errors
    /// When the database does not answer, or too many search.
    pub async fn usage(&self, owner: &Owner, wanted: Wanted<'_>) -> Result<Option<BTreeMap<Group, Sums>>> {
        let _place = self.places.take(owner, self.patience).await?;
        let Wanted { columns, period, most, whole } = wanted;
        let whose = if whole { "$2 <> ''" } else { "owner_id = $2" };
        let by_day = columns.contains(&Column::Day);
        let span = SPANS[usize::from(period.is_of_utc_days(by_day))] / SECOND;
        let (from, to) = period.bounds();
        let names = Column::ALL.map(|column| column.sql(columns.contains(&column))).join(", ");
        let sums = Sums::NAMES.map(|name| format!("cast(sum({name}) as bigint)")).join(", ");
        let sql = format!(
            "select {names}, {sums} from usage_totals where application_id = $1 and {whose} \
             and span = $3 and start >= $4 and start < $5 group by 1, 2, 3, 4, 5"
        );
        read!(self, conn => {
            let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .bind(span)
                .bind(from)
                .bind(to)
                .fetch(conn);
            let mut all = BTreeMap::<Group, Sums>::new();
            while let Some(row) = rows.try_next().await? {
                let start: i64 = row.try_get(0)?;
                let group = Group {
                    day: if by_day { period.day(start) } else { None },
                    model: row.try_get(1)?,
                    // Nobody's, be it a service's or of somebody who is forgotten, is one.
                    user: row.try_get::<String, _>(2).map(person)?,
                    assistant: row.try_get(3)?,
                    key: row.try_get(4)?,
                };
                let mut sums = [0; 9];
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = row.try_get::<i64, _>(5 + at)?.unsigned_abs();
                }
                let sum = all.entry(group).or_default();
                *sum = sum.plus(Sums::from_list(sums));
                if all.len() > most {
                    return Ok(None);
                }
            }
            Ok(Some(all))
        })
    }
}
