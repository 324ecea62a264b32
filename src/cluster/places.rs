//! Open streams of somebody, counted once for all replicas.
//!
//! Each has a place in a sorted set of theirs, by when it lapses. Whoever has it renews it; what a dead replica had lapses.

use std::time::Duration;

use super::script::key;
use super::{Cluster, Result};

/// A place lapses so long after it was taken or renewed.
const LAPSES: Duration = Duration::from_secs(10);
/// So many are renewed or given back at once.
const AT_ONCE: usize = 256;

/// Takes a place where there is room: the most there may be, the place, and when it lapses in milliseconds.
pub(super) const OPEN: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
-- Taken before the clock was set back: those that are still there are back with their next renewal.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%d', now + ARGV[3]), '+inf')
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
    return 0
end
redis.call('ZADD', KEYS[1], string.format('%d', now + ARGV[3]), ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
";

/// Renews places, also those that Redis has lost: when they lapse in milliseconds, and for each key one.
pub(super) const RENEW: &str = r"
local time = redis.call('TIME')
local lapses = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
for i, key in ipairs(KEYS) do
    redis.call('ZADD', key, lapses, ARGV[i + 1])
    redis.call('PEXPIRE', key, ARGV[1])
end
return 0
";

/// A place of somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    key: String,
    /// Nobody else, here or elsewhere, has one of that name.
    name: String,
}

impl Seat {
    /// One of whom `of` names, in all its parts.
    pub fn new(of: &[&str]) -> Self {
        Self { key: key("places", of), name: format!("{:032x}", fastrand::u128(..)) }
    }
}

fn lapses() -> u64 {
    u64::try_from(LAPSES.as_millis()).unwrap_or(u64::MAX)
}

impl Cluster {
    /// Takes a place, unless `most` are taken.
    ///
    /// # Errors
    /// Redis does not answer: it may have been taken or not.
    pub async fn open_place(&self, seat: &Seat, most: u64) -> Result<bool> {
        let mut script = self.0.counting.open.prepare_invoke();
        script.key(&seat.key).arg(most).arg(&seat.name).arg(lapses());
        Ok(self.evaluate::<u64>(&script).await? == 1)
    }

    /// Renews places.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn renew_places(&self, seats: &[Seat]) -> Result<()> {
        for some in seats.chunks(AT_ONCE) {
            let mut script = self.0.counting.renew.prepare_invoke();
            script.arg(lapses());
            for Seat { key, name } in some {
                script.key(key).arg(name);
            }
            self.evaluate::<u64>(&script).await?;
        }
        Ok(())
    }

    /// Gives places back, whether they were taken or not.
    ///
    /// # Errors
    /// Redis does not answer; then they lapse.
    pub async fn close_places(&self, seats: &[Seat]) -> Result<()> {
        for some in seats.chunks(AT_ONCE) {
            let mut requests = redis::pipe();
            for Seat { key, name } in some {
                requests.cmd("ZREM").arg(key).arg(name).ignore();
            }
            self.ask::<()>(&requests).await?;
        }
        Ok(())
    }
}
