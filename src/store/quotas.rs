//! What turns take of the limits of applications: reserved in the transaction that admits a turn, settled in the one that ends
//! it. So what is counted is exact over replicas and crashes: a turn that is open has what it took written beside it.
//!
//! Counters are taken as the last rows of a transaction, in the order of the bounds: who waits for one holds none that
//! comes after it.

use sqlx::AssertSqlSafe;

use super::pool::{Done, write};
use super::transaction::Transaction;
use super::{Result, Store};
use crate::domain::clock::Timestamp;
use crate::domain::quota::{Bound, Bounds, Foreseen, Hold, Measure, Spent, Taken};
use crate::domain::usage::Record;

/// A counter is kept so long after its window, in microseconds. Nobody takes of it any more then, unless their clock is late;
/// what a longer turn gives back to it makes no difference to anybody.
const KEPT: i64 = 3_600_000_000;

/// The greatest bound that is held: with all of it used, as much again is still a number for the databases.
pub(super) const GREATEST: u64 = i64::MAX.unsigned_abs() / 2;

/// Takes of one counter, unless that passes its bound: what is used then, and whether it has been told.
pub(super) const TAKE: &str = "insert into quota_counters (application_id, scope, scope_id, measure, start, used, until) \
    values ($1, $2, $3, $4, $5, $6, $7) on conflict (application_id, scope, scope_id, measure, start) do update set \
    used = quota_counters.used + excluded.used, until = excluded.until \
    where quota_counters.used + excluded.used <= $8 returning used, told";

/// Notes that a turn says that most of a counter is used.
pub(super) const TOLD: &str = "update quota_counters set told = 1 where application_id = $1 and scope = $2 \
    and scope_id = $3 and measure = $4 and start = $5";

/// Gives back to one counter, or takes some more, for a turn that is not settled yet.
pub(super) const SETTLE: &str = "update quota_counters set used = used + $1 where application_id = $2 and scope = $3 \
    and scope_id = $4 and measure = $5 and start = $6 \
    and exists (select 1 from turns t where t.id = $7 and t.holds is not null)";

/// What a turn takes that may come to use so much, at `now`: of each bound, and never more than all of it, so that a turn
/// alone may always begin.
pub(super) fn holds(bounds: &Bounds, foreseen: Foreseen, now: Timestamp) -> Vec<(Hold, &Bound, i64)> {
    let taken = bounds.on(&Measure::OF_TURNS).map(|bound| {
        let window = bound.measure.window(now);
        let (scope, id, measure) = (bound.scope, bound.id.clone(), bound.measure);
        let taken = foreseen.of(measure).min(bound.most).min(GREATEST);
        let until = match measure {
            Measure::Turns => now.as_micros(),
            Measure::Requests | Measure::Tokens | Measure::Day | Measure::Month | Measure::Streams => window.end,
        };
        (Hold { scope, id, measure, start: window.start, taken }, bound, until.saturating_add(KEPT))
    });
    taken.collect()
}

/// Takes of every counter, on a connection inside a transaction: what is used then, or the bound that is reached.
macro_rules! take_quotas {
    ($conn:expr, $owner:expr, $holds:expr, $now:expr) => {{
        let (mut all, mut reached) = (Vec::new(), None);
        for (hold, bound, until) in $holds {
            let row: Option<(i64, i64)> = $conn
                .query($crate::store::quotas::TAKE)
                .bind(&*$owner.application_id)
                .bind(hold.scope.as_str())
                .bind(&*hold.id)
                .bind(hold.measure.as_str())
                .bind(hold.start)
                .bind(hold.taken.cast_signed())
                .bind(*until)
                .bind(bound.most.min($crate::store::quotas::GREATEST).cast_signed())
                .row()
                .await?;
            let Some((used, told)) = row else {
                reached = Some($crate::store::quotas::spent(bound, $now));
                break;
            };
            let taken = $crate::store::quotas::taken(bound, used, told, $now);
            if taken.nearing {
                $conn
                    .query($crate::store::quotas::TOLD)
                    .bind(&*$owner.application_id)
                    .bind(hold.scope.as_str())
                    .bind(&*hold.id)
                    .bind(hold.measure.as_str())
                    .bind(hold.start)
                    .later()
                    .await?;
            }
            all.push(taken);
        }
        match reached {
            Some(spent) => Err(spent),
            None => Ok(all),
        }
    }};
}

/// Settles what a turn took, on a connection inside a transaction, by what it used; done again, that changes nothing.
macro_rules! settle_quotas {
    ($conn:expr, $owner:expr, $turn:expr, $holds:expr, $used:expr) => {{
        let used: Option<$crate::domain::quota::Foreseen> = $used;
        for hold in $holds.iter() {
            $conn
                .query($crate::store::quotas::SETTLE)
                .bind($crate::store::quotas::difference(hold, used))
                .bind(&*$owner.application_id)
                .bind(hold.scope.as_str())
                .bind(&*hold.id)
                .bind(hold.measure.as_str())
                .bind(hold.start)
                .bind($turn.as_str())
                .later()
                .await?;
        }
        $conn.query("update turns set holds = null where id = $1").bind($turn.as_str()).later().await?;
    }};
}

pub(super) use {settle_quotas, take_quotas};

pub(super) fn spent(bound: &Bound, now: Timestamp) -> Box<Spent> {
    let (wait, resets_at) = bound.measure.window(now).rest(now).unzip();
    Box::new(Spent { bound: bound.clone(), resets_at, wait })
}

pub(super) fn taken(bound: &Bound, used: i64, told: i64, now: Timestamp) -> Taken {
    let used = used.unsigned_abs();
    let nearing = told == 0 && bound.soft.is_some_and(|soft| used >= soft);
    Taken { bound: bound.clone(), used, wait: bound.measure.window(now).rest(now).map(|(wait, _)| wait), nearing }
}

/// What is to be added to a counter of which a turn has taken `hold`, when it has used so much; nothing for one that is undone.
pub(super) fn difference(hold: &Hold, used: Option<Foreseen>) -> i64 {
    let used = match (hold.measure, used) {
        (Measure::Turns, _) | (_, None) => 0,
        (measure, Some(used)) => used.of(measure),
    };
    used.cast_signed().saturating_sub(hold.taken.cast_signed())
}

/// What a turn's calls used.
pub(super) fn used(calls: &[Record]) -> Foreseen {
    let mut all = Foreseen::default();
    for usage in calls.iter().map(|call| &call.counted.usage) {
        let tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
        all.tokens = all.tokens.saturating_add(tokens);
        all.nano_usd = all.nano_usd.saturating_add(usage.cost_nano_usd.unwrap_or(0));
    }
    all
}

impl Store {
    /// Drops up to `limit` counters that nobody needs any more at `now`; says how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_quotas(&self, now: Timestamp, limit: u32) -> Result<u64> {
        // One may be taken of at this moment.
        let free = self.unless_locked();
        write!(self, conn => {
            let gone = conn.query(AssertSqlSafe(format!(
                "delete from quota_counters where (application_id, scope, scope_id, measure, start) in \
                 (select application_id, scope, scope_id, measure, start from quota_counters \
                 where until < $1 and (measure <> 'turns' or used <= 0) limit $2 {free})"
            )))
            .bind(now.as_micros())
            .bind(i64::from(limit))
            .changes()
            .await?;
            Ok(Done::Commit(gone))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quota::{Quotas, Scope};

    #[test]
    fn a_turn_alone_takes_all_of_a_bound_at_most_and_is_settled_by_what_it_used() {
        let quotas =
            Quotas { tokens_per_minute: 100, concurrent_turns: 3, budget_day_nano_usd: 7, ..Quotas::default() };
        let bounds = quotas.bounds([(Scope::Application, "".into())]);
        let now = Timestamp::from_micros(1_700_000_000_000_000);
        let holds = holds(&bounds, Foreseen { tokens: 5000, nano_usd: 5 }, now);
        let taken: Vec<(Measure, u64)> = holds.iter().map(|(hold, ..)| (hold.measure, hold.taken)).collect();
        assert_eq!(taken, [(Measure::Tokens, 100), (Measure::Turns, 1), (Measure::Day, 5)]);
        let settled = |used| holds.iter().map(|(hold, ..)| difference(hold, used)).collect::<Vec<_>>();
        assert_eq!(settled(Some(Foreseen { tokens: 130, nano_usd: 2 })), [30, -1, -3]);
        assert_eq!(settled(None), [-100, -1, -5]);
    }
}
