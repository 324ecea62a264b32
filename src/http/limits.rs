//! Limits as a client reads them: the fields `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), and
//! the refusals.

use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::code::Code;
use super::problem::Problem;
use crate::access::rates::{Counted, Reached};
use crate::domain::clock::Timestamp;
use crate::domain::quota::{Bound, Measure, Scope, Spent, Taken};

/// What is left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Of how much.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The greatest integer of a structured field (RFC 9651, section 3.3.1).
const GREATEST: u64 = 999_999_999_999_999;

/// A policy and what is left of it, as members of the two lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    policy: String,
    left: String,
}

impl Quota {
    /// Of a bound, `remaining` are left, and all of it is there again in `reset`; nobody knows when where that is absent.
    fn new(bound: &Bound, remaining: u64, reset: Option<Duration>) -> Self {
        let (name, most) = (bound.policy(), bound.most.min(GREATEST));
        let window = match bound.measure {
            Measure::Requests | Measure::Tokens => ";w=60",
            Measure::Turns | Measure::Streams => ";qu=\"concurrent-requests\"",
            Measure::Day | Measure::Month => "",
        };
        let reset = reset.map(|reset| format!(";t={}", whole_seconds(reset))).unwrap_or_default();
        let remaining = remaining.min(GREATEST);
        Self { policy: format!("\"{name}\";q={most}{window}"), left: format!("\"{name}\";r={remaining}{reset}") }
    }

    /// Adds these to the lists that an answer has.
    pub fn tell(quotas: &[Self], headers: &mut HeaderMap) {
        let mut add = |name: HeaderName, of: fn(&Self) -> &str| {
            let had = headers.get(&name).and_then(|had| had.to_str().ok()).map(str::to_owned);
            let members: Vec<&str> = had.as_deref().into_iter().chain(quotas.iter().map(of)).collect();
            // One line: not everybody who reads the fields puts several together.
            if let (false, Ok(line)) = (members.is_empty(), HeaderValue::try_from(members.join(", "))) {
                headers.insert(name, line);
            }
        };
        add(RATE_LIMIT_POLICY, |quota| &quota.policy);
        add(RATE_LIMIT, |quota| &quota.left);
    }
}

impl From<&Counted> for Quota {
    fn from(counted: &Counted) -> Self {
        Self::new(&counted.bound, counted.left.remaining, Some(counted.left.whole_in))
    }
}

/// At least one: who asks again in none is refused again.
fn whole_seconds(time: Duration) -> u128 {
    time.as_millis().div_ceil(1000).max(1)
}

/// 429 for what is there again after `wait`, at `resets_at`, so far as time alone tells.
pub fn limited(bound: &Bound, wait: Option<Duration>, resets_at: Option<Timestamp>) -> Problem {
    refusal(bound, wait).limit(bound, resets_at, Some(Quota::new(bound, 0, wait)))
}

fn refusal(bound: &Bound, wait: Option<Duration>) -> Problem {
    let detail = format!("{} may have {} {}.", subject(bound), bound.most, bound.measure.words());
    let problem = Problem::new(Code::RateLimited, detail);
    match wait {
        Some(wait) => problem.retry_after(wait),
        None => problem,
    }
}

/// Whom a bound is for, as a sentence begins. Never who it is.
pub fn subject(bound: &Bound) -> &'static str {
    match bound.scope {
        Scope::Application => "The application",
        Scope::Key => "An API key",
        Scope::User => "A user",
        Scope::Visitor => "A visitor",
        Scope::Address => "An address",
    }
}

impl From<Box<Reached>> for Problem {
    /// What is left of the other bounds is told beside it, with every answer.
    fn from(reached: Box<Reached>) -> Self {
        let Reached { counted, bound, wait } = *reached;
        if counted.is_empty() {
            return limited(&bound, Some(wait), None);
        }
        refusal(&bound, Some(wait)).limit(&bound, None, None)
    }
}

impl From<Box<Spent>> for Problem {
    fn from(spent: Box<Spent>) -> Self {
        let Spent { bound, resets_at, wait } = *spent;
        if !bound.measure.is_budget() {
            return limited(&bound, wait, resets_at);
        }
        let words = bound.measure.words();
        let detail = format!("{} may spend {} {words}; too little is left.", subject(&bound), bound.most);
        Self::new(Code::BudgetExhausted, detail).limit(&bound, resets_at, None)
    }
}

/// What a turn that has begun left of what bounds it; budgets are nobody's rate.
pub fn left(taken: &[Taken]) -> Vec<Quota> {
    let rates = taken.iter().filter(|taken| !taken.bound.measure.is_budget());
    rates.map(|taken| Quota::new(&taken.bound, taken.bound.most.saturating_sub(taken.used), taken.wait)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rate::Left;

    fn bound(scope: Scope, measure: Measure, most: u64) -> Bound {
        Bound { scope, id: "anna, \"q\"".into(), measure, most, soft: None }
    }

    #[test]
    fn the_fields_are_lists_of_names_and_never_say_who() {
        let left = |remaining, millis| Left { remaining, whole_in: Duration::from_millis(millis) };
        let counted = [
            Counted { bound: bound(Scope::Application, Measure::Requests, 50), left: left(49, 1200) },
            Counted { bound: bound(Scope::User, Measure::Requests, u64::MAX), left: left(0, 0) },
        ];
        let mut headers = HeaderMap::new();
        Quota::tell(&[Quota::new(&bound(Scope::Key, Measure::Turns, 3), 0, None)], &mut headers);
        Quota::tell(&counted.iter().map(Quota::from).collect::<Vec<_>>(), &mut headers);
        assert_eq!(
            headers[RATE_LIMIT_POLICY],
            "\"key-turns\";q=3;qu=\"concurrent-requests\", \"application-requests\";q=50;w=60, \
             \"user-requests\";q=999999999999999;w=60"
        );
        assert_eq!(
            headers[RATE_LIMIT],
            "\"key-turns\";r=0, \"application-requests\";r=49;t=2, \"user-requests\";r=0;t=1"
        );
        let mut none = HeaderMap::new();
        Quota::tell(&[], &mut none);
        assert!(none.is_empty());
    }
}
