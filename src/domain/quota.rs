//! What an application's limits bound: requests, tokens, turns, money and streams, by who asks.
//!
//! To add a limit of what is bounded already, for another scope: its field in the scope's struct, its line in `Quotas::of`, its
//! key in `config/keys.rs`. To add something that is bounded: 1. a [`Measure`], with what the compiler then asks for; 2. its
//! fields, lines and keys, as above; 3. where it is taken: what turns use goes into [`Measure::OF_TURNS`], [`Foreseen::of`] and
//! `store/quotas.rs`, by which it is reserved and settled; what requests or streams use is counted in `access/`; 4. its rows in
//! docs/limits.md, and a story of what is refused beyond it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;

/// Whom a bound is for: all of an application, or each one of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of the application.
    Application,
    /// An API key.
    Key,
    /// A signed-in user.
    User,
    /// A visitor.
    Visitor,
    /// A client's address.
    Address,
}

impl Scope {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Key => "key",
            Self::User => "user",
            Self::Visitor => "visitor",
            Self::Address => "address",
        }
    }
}

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Requests of a minute.
    Requests,
    /// Tokens of a minute.
    Tokens,
    /// Turns that are open: running, or queued.
    Turns,
    /// Nano-USD of a day.
    Day,
    /// Nano-USD of a month.
    Month,
    /// Streams that are open.
    Streams,
}

impl Measure {
    /// Those of turns: the record counts them. The others are counted in memory, or in what replicas share.
    pub const OF_TURNS: [Self; 4] = [Self::Tokens, Self::Turns, Self::Day, Self::Month];

    /// Its name, in the record and in the name of a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Turns => "turns",
            Self::Day => "day",
            Self::Month => "month",
            Self::Streams => "streams",
        }
    }

    /// The setting it is of in most scopes.
    fn setting(self) -> &'static str {
        match self {
            Self::Requests => "requests_per_minute",
            Self::Tokens => "tokens_per_minute",
            Self::Turns => "concurrent_turns",
            Self::Day => "budget_day_nano_usd",
            Self::Month => "budget_month_nano_usd",
            Self::Streams => "streams",
        }
    }

    /// Its setting for a scope: the section under the application's limits, with its dot, and the name.
    fn place(self, scope: Scope) -> (&'static str, &'static str) {
        match (scope, self) {
            (Scope::Visitor, Self::Streams) => ("", "streams_per_visitor"),
            (Scope::Application, _) => ("", self.setting()),
            (Scope::Key, _) => ("per_key.", self.setting()),
            (Scope::User, _) => ("per_user.", self.setting()),
            (Scope::Visitor, _) => ("per_visitor.", self.setting()),
            (Scope::Address, _) => ("per_address.", self.setting()),
        }
    }

    /// What is bounded, in words, as in `The application may have 5 …`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Requests => "requests a minute",
            Self::Tokens => "tokens a minute",
            Self::Turns => "open turns",
            Self::Day => "nano-USD a day",
            Self::Month => "nano-USD a month",
            Self::Streams => "open streams",
        }
    }

    /// Whether it is money.
    pub fn is_budget(self) -> bool {
        matches!(self, Self::Day | Self::Month)
    }

    /// The span of time, in UTC, over which what is taken at `now` is summed up; all of time where it is not.
    pub fn window(self, now: Timestamp) -> Window {
        const MINUTE: i64 = 60_000_000;
        const DAY: i64 = 86_400_000_000;
        let now = now.as_micros();
        let of = |span: i64| {
            let start = now - now.rem_euclid(span);
            Window { start, end: start + span }
        };
        match self {
            Self::Requests | Self::Tokens => of(MINUTE),
            Self::Day => of(DAY),
            Self::Month => month(now).unwrap_or_else(|| of(DAY)),
            Self::Turns | Self::Streams => Window { start: 0, end: i64::MAX },
        }
    }
}

/// A calendar month in UTC. `None` beyond the calendar's years.
fn month(now: i64) -> Option<Window> {
    let day = jiff::Timestamp::from_microsecond(now).ok()?.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
    let next = day.checked_add(jiff::Span::new().months(1)).ok()?;
    let micros =
        |day: jiff::civil::Date| Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond());
    Some(Window { start: micros(day)?, end: micros(next)? })
}

/// A span of time in microseconds of Unix time, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment.
    pub start: i64,
    /// The first moment after it.
    pub end: i64,
}

impl Window {
    /// How long until its end, and when that is; `None` for one without.
    pub fn rest(self, now: Timestamp) -> Option<(Duration, Timestamp)> {
        let left = u64::try_from(self.end - now.as_micros()).ok().filter(|_| self.end < i64::MAX)?;
        Some((Duration::from_micros(left), Timestamp::from_micros(self.end)))
    }
}

/// The limits of an application: `[applications.limits]`. 0 is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Requests a minute of the whole application.
    pub requests_per_minute: u64,
    /// Its tokens a minute.
    pub tokens_per_minute: u64,
    /// Its open turns.
    pub concurrent_turns: u64,
    /// Its nano-USD a day.
    pub budget_day_nano_usd: u64,
    /// Its nano-USD a month.
    pub budget_month_nano_usd: u64,
    /// The share of a budget, in percent, from which on a turn says so; of every scope's.
    pub budget_soft_percent: u64,
    /// Open streams of each visitor.
    pub streams_per_visitor: u64,
    /// For each API key.
    pub per_key: Quota,
    /// For each signed-in user.
    pub per_user: UserQuota,
    /// For each visitor.
    pub per_visitor: Quota,
    /// For each client's address.
    pub per_address: AddressQuota,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            requests_per_minute: 0,
            tokens_per_minute: 0,
            concurrent_turns: 0,
            budget_day_nano_usd: 0,
            budget_month_nano_usd: 0,
            budget_soft_percent: 80,
            streams_per_visitor: 0,
            per_key: Quota::default(),
            per_user: UserQuota::default(),
            per_visitor: Quota::default(),
            per_address: AddressQuota::default(),
        }
    }
}

/// The limits of each one of something. 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Tokens a minute.
    pub tokens_per_minute: u64,
    /// Open turns.
    pub concurrent_turns: u64,
    /// Nano-USD a day.
    pub budget_day_nano_usd: u64,
    /// Nano-USD a month.
    pub budget_month_nano_usd: u64,
}

/// The limits of each user. 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserQuota {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Tokens a minute.
    pub tokens_per_minute: u64,
    /// Open turns.
    pub concurrent_turns: u64,
    /// Nano-USD a day.
    pub budget_day_nano_usd: u64,
    /// Nano-USD a month.
    pub budget_month_nano_usd: u64,
    /// Open streams.
    pub streams: u64,
}

/// The limits of each address. 0 is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AddressQuota {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Tokens a minute.
    pub tokens_per_minute: u64,
    /// Open turns.
    pub concurrent_turns: u64,
}

impl Quotas {
    /// The bounds of one scope, without those that are none.
    fn of(&self, scope: Scope) -> impl Iterator<Item = (Measure, u64)> {
        use Measure::{Day, Month, Requests, Streams, Tokens, Turns};
        let plain = |quota: &Quota| {
            [
                (Requests, quota.requests_per_minute),
                (Tokens, quota.tokens_per_minute),
                (Turns, quota.concurrent_turns),
                (Day, quota.budget_day_nano_usd),
                (Month, quota.budget_month_nano_usd),
            ]
        };
        let (five, streams) = match scope {
            Scope::Application => {
                let own = [
                    (Requests, self.requests_per_minute),
                    (Tokens, self.tokens_per_minute),
                    (Turns, self.concurrent_turns),
                    (Day, self.budget_day_nano_usd),
                    (Month, self.budget_month_nano_usd),
                ];
                (own, 0)
            }
            Scope::Key => (plain(&self.per_key), 0),
            Scope::Visitor => (plain(&self.per_visitor), self.streams_per_visitor),
            Scope::User => {
                let own = [
                    (Requests, self.per_user.requests_per_minute),
                    (Tokens, self.per_user.tokens_per_minute),
                    (Turns, self.per_user.concurrent_turns),
                    (Day, self.per_user.budget_day_nano_usd),
                    (Month, self.per_user.budget_month_nano_usd),
                ];
                (own, self.per_user.streams)
            }
            Scope::Address => {
                let AddressQuota { requests_per_minute, tokens_per_minute, concurrent_turns } = self.per_address;
                let own = [(Requests, requests_per_minute), (Tokens, tokens_per_minute), (Turns, concurrent_turns)];
                let [requests, tokens, turns] = own;
                ([requests, tokens, turns, (Day, 0), (Month, 0)], 0)
            }
        };
        five.into_iter().chain([(Streams, streams)]).filter(|(_, most)| *most > 0)
    }

    /// Those that are set: whom each is for, and its setting within the application's limits.
    pub fn set(&self) -> Vec<(Scope, String)> {
        let scopes = [Scope::Application, Scope::Key, Scope::User, Scope::Visitor, Scope::Address];
        let named = scopes.into_iter().flat_map(|scope| {
            self.of(scope).map(move |(measure, _)| {
                let (section, name) = measure.place(scope);
                (scope, format!("{section}{name}"))
            })
        });
        named.collect()
    }

    /// What bounds somebody who is all of these, in the order in which it is taken everywhere.
    pub fn bounds(&self, scopes: impl IntoIterator<Item = (Scope, Arc<str>)>) -> Bounds {
        let mut all: Vec<Bound> = Vec::new();
        for (scope, id) in scopes {
            let soft = |measure: Measure, most: u64| {
                let share = u128::from(most) * u128::from(self.budget_soft_percent) / 100;
                let is_share = measure.is_budget() && (1..=100).contains(&self.budget_soft_percent);
                is_share.then(|| u64::try_from(share).unwrap_or(most).max(1))
            };
            let bounds = self.of(scope);
            all.extend(bounds.map(|(measure, most)| Bound {
                scope,
                id: id.clone(),
                measure,
                most,
                soft: soft(measure, most),
            }));
        }
        all.sort_by(|a, b| a.key().cmp(&b.key()));
        Bounds(all.into())
    }
}

/// A bound, for one of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Whom it is for.
    pub scope: Scope,
    /// Which of them; empty for the application itself.
    pub id: Arc<str>,
    /// What is bounded.
    pub measure: Measure,
    /// The most there may be, at least one.
    pub most: u64,
    /// From so much on a turn says so.
    pub soft: Option<u64>,
}

impl Bound {
    fn key(&self) -> (Scope, &str, Measure) {
        (self.scope, &self.id, self.measure)
    }

    /// The name of the setting it is of, without its section.
    pub fn setting(&self) -> &'static str {
        self.measure.place(self.scope).1
    }

    /// The name of its policy: of the limit alone, and never of whom it is for.
    pub fn policy(&self) -> String {
        format!("{}-{}", self.scope.as_str(), self.measure.as_str())
    }
}

/// What bounds somebody, in the order in which it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds(Arc<[Bound]>);

impl Default for Bounds {
    fn default() -> Self {
        Self([].into())
    }
}

impl Bounds {
    /// Those of some measures.
    pub fn on<'a>(&'a self, measures: &'a [Measure]) -> impl Iterator<Item = &'a Bound> + Clone {
        self.0.iter().filter(|bound| measures.contains(&bound.measure))
    }
}

/// What of a bound a turn has taken, until it is settled: kept with the turn, so that whoever ends it gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whom the bound is for.
    pub scope: Scope,
    /// Which of them.
    pub id: Arc<str>,
    /// What is bounded.
    pub measure: Measure,
    /// The first moment of the window it was taken in, in microseconds.
    pub start: i64,
    /// How much.
    pub taken: u64,
}

/// What a turn may come to use, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Tokens, of all its calls.
    pub tokens: u64,
    /// What they cost, in nano-USD.
    pub nano_usd: u64,
}

impl Foreseen {
    /// Of it, what counts towards a measure.
    pub fn of(self, measure: Measure) -> u64 {
        match measure {
            Measure::Tokens => self.tokens,
            Measure::Day | Measure::Month => self.nano_usd,
            Measure::Turns => 1,
            Measure::Requests | Measure::Streams => 0,
        }
    }
}

/// What of a bound is used, once a turn has taken its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The bound.
    pub bound: Bound,
    /// How much of it is used, or reserved.
    pub used: u64,
    /// How long until it begins anew, where time alone says so.
    pub wait: Option<Duration>,
    /// It is the turn that says that most of it is used.
    pub nearing: bool,
}

/// A bound that has been reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Which.
    pub bound: Bound,
    /// When there is some again, where the time alone says so.
    pub resets_at: Option<Timestamp>,
    /// The same, as the time until then.
    pub wait: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_value(serde_json::json!(text)).unwrap()
    }

    fn window(measure: Measure, now: &str) -> (String, String) {
        let window = measure.window(at(now));
        let text = |micros| Timestamp::from_micros(micros).to_string();
        (text(window.start), text(window.end))
    }

    #[test]
    fn a_window_is_the_minute_the_day_or_the_month_in_utc() {
        for (measure, now, start, end) in [
            (Measure::Tokens, "2026-02-28T23:59:59.999999Z", "2026-02-28T23:59:00", "2026-03-01T00:00:00"),
            (Measure::Tokens, "2026-03-01T00:00:00.000000Z", "2026-03-01T00:00:00", "2026-03-01T00:01:00"),
            (Measure::Day, "2026-12-31T23:59:59.999999Z", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
            (Measure::Day, "2027-01-01T00:00:00.000000Z", "2027-01-01T00:00:00", "2027-01-02T00:00:00"),
            (Measure::Month, "2028-02-29T12:00:00.000000Z", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
            (Measure::Month, "2026-12-31T23:59:59.999999Z", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
            (Measure::Month, "2027-01-01T00:00:00.000000Z", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
        ] {
            let whole = |text: &str| format!("{text}.000000Z");
            assert_eq!(window(measure, now), (whole(start), whole(end)), "{measure:?} {now}");
        }
    }

    #[test]
    fn bounds_are_those_that_are_set_in_one_order_for_all() {
        let quotas = Quotas {
            budget_day_nano_usd: 1000,
            streams_per_visitor: 2,
            per_key: Quota { tokens_per_minute: 5, concurrent_turns: 6, ..Quota::default() },
            per_address: AddressQuota { requests_per_minute: 7, ..AddressQuota::default() },
            ..Quotas::default()
        };
        let scopes = [(Scope::Address, "1"), (Scope::Key, "k"), (Scope::Application, "")];
        let bounds = quotas.bounds(scopes.map(|(scope, id)| (scope, id.into())));
        let named: Vec<String> = bounds.0.iter().map(Bound::policy).collect();
        assert_eq!(named, ["application-day", "key-tokens", "key-turns", "address-requests"]);
        assert_eq!((bounds.0[0].soft, bounds.0[1].soft), (Some(800), None));
        assert_eq!(quotas.bounds([(Scope::Visitor, "v".into())]).0[0].most, 2);
        let unset = Quotas::default();
        assert_eq!(unset.bounds([(Scope::Application, "".into()), (Scope::User, "u".into())]), Bounds::default());
    }
}
