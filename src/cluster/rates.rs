//! Requests a minute, counted once for all replicas.
//!
//! The algorithm is that of [`crate::domain::rate`]. Redis counts in doubles, which do not hold nanoseconds since 1970: a moment is
//! kept as its second and its nanosecond, and what is owed, a minute at most, is the difference. So both come to the same number.

use super::script::key;
use super::{Cluster, Result};
use crate::domain::clock::Timestamp;
use crate::domain::rate::Rate;

/// For each key what it may owe and what one more is, after a time (empty: Redis' own) as second and microsecond. All are taken of, or
/// none: the answer is the first that is reached, or 0, and what each owes then.
///
/// Somebody who seems to owe more than there is has been counted by a clock that was set back since, and begins anew. A key goes a second after nothing
/// is owed any more.
pub(super) const TAKE: &str = r"
local second, nanosecond = ARGV[1], ARGV[2]
if second == '' then
    local time = redis.call('TIME')
    second, nanosecond = time[1], time[2]
end
second, nanosecond = tonumber(second), tonumber(nanosecond) * 1000
local owed, reached = {}, 0
for i, key in ipairs(KEYS) do
    local each, whole = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
    local kept = redis.call('GET', key)
    owed[i] = 0
    if kept then
        local s, n = string.match(kept, '^(%d+) (%d+)$')
        owed[i] = (tonumber(s) - second) * 1e9 + tonumber(n) - nanosecond
        owed[i] = math.max(owed[i], 0)
        if owed[i] > whole then
            owed[i] = 0
        end
    end
    if reached == 0 and owed[i] + each > whole then
        reached = i
    end
end
if reached == 0 then
    for i, key in ipairs(KEYS) do
        owed[i] = owed[i] + tonumber(ARGV[2 * i + 1])
        local at = nanosecond + owed[i]
        local kept = string.format('%d %d', second + math.floor(at / 1e9), at % 1e9)
        redis.call('SET', key, kept, 'PX', string.format('%d', math.ceil(owed[i] / 1e6) + 1000))
    end
end
table.insert(owed, 1, reached)
return owed
";

/// What is counted of somebody, at which rate.
#[derive(Clone, Debug)]
pub struct Share {
    key: String,
    rate: Rate,
}

impl Share {
    /// Of whom `of` names, in all its parts. One of another rate is another.
    pub fn new(of: &[&str], rate: Rate) -> Self {
        let each = rate.each().to_string();
        Self { key: key("rate", &[of, &[&each]].concat()), rate }
    }
}

/// What became of taking one of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What each owes then, in nanoseconds.
    pub owed: Vec<u64>,
    /// Which was reached; then nothing was taken.
    pub reached: Option<usize>,
}

impl Cluster {
    /// Takes one of each, or of none, at that time; by Redis' clock where it is absent, which is one for all replicas.
    ///
    /// # Errors
    /// Redis does not answer: they may have been taken or not.
    pub async fn take(&self, shares: &[Share], at: Option<Timestamp>) -> Result<Taken> {
        let mut script = self.0.counting.take.prepare_invoke();
        match at.map(Timestamp::as_micros) {
            Some(micros) => script.arg(micros / 1_000_000).arg(micros % 1_000_000),
            None => script.arg("").arg(""),
        };
        for Share { key, rate } in shares {
            script.key(key).arg(rate.each()).arg(rate.whole());
        }
        let mut owed: Vec<u64> = self.evaluate(&script).await?;
        let reached = if owed.is_empty() { 0 } else { owed.remove(0) };
        Ok(Taken { owed, reached: usize::try_from(reached).ok().and_then(|reached| reached.checked_sub(1)) })
    }
}
