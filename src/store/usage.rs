//! What calls of models used: a record of each, and their sums by day and by quarter of an hour.

use std::collections::BTreeMap;

use super::ending::Lease;
use crate::domain::sums::Sums;
use crate::domain::usage::Record;

/// The spans of time over which sums are kept, in seconds: a day in UTC, and the quarters of an hour of which the days of
/// every time zone are made.
pub const SPANS: [i64; 2] = [900, 86_400];

/// What sums are kept by, besides application and owner: `span`, `start` in microseconds, and the model. The order is that
/// in which rows are taken, by whoever counts at the same time.
pub(super) type Group<'a> = (i64, i64, &'a str);

/// The sums of these calls.
pub(super) fn sums(calls: &[Record]) -> BTreeMap<Group<'_>, Sums> {
    let mut sums = BTreeMap::<_, Sums>::new();
    for call in calls {
        let at = call.created_at.as_micros();
        for span in SPANS {
            let group = (span, at - at.rem_euclid(span * 1_000_000), call.counted.model.as_str());
            let sum = sums.entry(group).or_default();
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

pub(super) fn insert_totals(groups: usize) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "insert into usage_totals (application_id, owner_id, span, start, model, assistant_id, key_id, calls, \
         prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cost_nano_usd, \
         unpriced_calls, estimated_calls) select * from (values {}) v {UNCOUNTED} \
         on conflict (application_id, owner_id, span, start, model, assistant_id, key_id) do update set \
         calls = usage_totals.calls + excluded.calls, \
         prompt_tokens = usage_totals.prompt_tokens + excluded.prompt_tokens, \
         completion_tokens = usage_totals.completion_tokens + excluded.completion_tokens, \
         cached_tokens = usage_totals.cached_tokens + excluded.cached_tokens, \
         cache_write_tokens = usage_totals.cache_write_tokens + excluded.cache_write_tokens, \
         reasoning_tokens = usage_totals.reasoning_tokens + excluded.reasoning_tokens, \
         cost_nano_usd = usage_totals.cost_nano_usd + excluded.cost_nano_usd, \
         unpriced_calls = usage_totals.unpriced_calls + excluded.unpriced_calls, \
         estimated_calls = usage_totals.estimated_calls + excluded.estimated_calls",
        rows(groups, 16, 3)
    ))
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
    ($conn:expr, $lease:expr, $calls:expr) => {{
        let lease: &$crate::store::ending::Lease = $lease;
        let ids = (lease.conversation_id.as_str(), lease.turn_id.as_str());
        let (application, owner) = (&*lease.owner.application_id, &*lease.owner.owner_id);
        let (assistant, key) = $crate::store::usage::on_behalf(lease);
        let sums = $crate::store::usage::sums(&$calls);
        let mut totals = $conn.query($crate::store::usage::insert_totals(sums.len())).bind(ids.0).bind(ids.1);
        for ((span, start, model), sums) in sums {
            totals = totals.bind(application).bind(owner).bind(span).bind(start).bind(model);
            totals = totals.bind(assistant.unwrap_or_default()).bind(key.unwrap_or_default());
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

/// The assistant and the API key that a turn was asked with. There are none yet.
pub(super) fn on_behalf(_: &Lease) -> (Option<&str>, Option<&str>) {
    (None, None)
}
