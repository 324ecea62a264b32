//! What is counted by scripts, each of them one thing that happens in Redis at once: they are few, run within microseconds, and
//! go by Redis' own clock.

use std::time::Instant;

use parking_lot::Mutex;
use redis::{FromRedisValue, Script, ScriptInvocation, Value};
use sha2::{Digest, Sha256};

use super::{CONNECT, Cluster, Error, Failure, PATIENCE, REST, Result, places, rates};

/// The scripts, and whether anybody counts by them at present.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) take: Script,
    pub(super) open: Script,
    pub(super) renew: Script,
    /// Nothing is counted until then.
    until: Mutex<Option<Instant>>,
}

impl Default for Counting {
    fn default() -> Self {
        let [take, open, renew] = [rates::TAKE, places::OPEN, places::RENEW].map(Script::new);
        Self { take, open, renew, until: Mutex::default() }
    }
}

/// The key of what is kept of somebody: whoever reads keys is not told of whom.
pub(super) fn key(kind: &str, of: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in of {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("tidegate:{kind}:{hash}")
}

impl Cluster {
    /// What a script says. While Redis is away one asks now and then, and everybody else is told at once that it is.
    ///
    /// # Errors
    /// Redis does not answer in time; what it was asked may have been done.
    pub(super) async fn evaluate<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T> {
        let counting = &self.0.counting;
        let was_away = {
            let mut until = counting.until.lock();
            let now = Instant::now();
            match *until {
                Some(later) if later > now => return Err(Error::of("it did not answer a moment ago")),
                Some(_) => {
                    *until = Some(now + REST);
                    true
                }
                None => false,
            }
        };
        let connected = self.0.line.lock().connection.is_some();
        let patience = if connected { PATIENCE } else { CONNECT + PATIENCE };
        let asked = async {
            let mut connection = self.connection().await?;
            script.invoke_async::<Value>(&mut connection).await.map_err(Failure::from)
        };
        let error = match tokio::time::timeout(patience, asked).await {
            Ok(Ok(value)) => {
                if was_away {
                    *counting.until.lock() = None;
                    tracing::info!("requests and streams are counted over all replicas again");
                }
                return T::from_redis_value(value).map_err(Error::of);
            }
            Ok(Err(Failure::Answer(error))) => error,
            Ok(Err(Failure::Line(error))) => {
                // It may be the line alone: whoever asks next makes another.
                self.0.line.lock().connection = None;
                error
            }
            Err(_) => {
                self.leave_alone();
                Error::of("it does not answer in time")
            }
        };
        let had = counting.until.lock().replace(Instant::now() + REST);
        if had.is_none() {
            tracing::warn!(%error, "requests and streams are counted by this replica alone: Redis does not do it");
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_says_what_is_kept_and_not_of_whom() {
        let key = |of: &[&str]| key("rate", of);
        assert_eq!(key(&["shop", "user", "anna"]), "tidegate:rate:e860fe5aeee901aebd3b5b3eadc6859d");
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }
}
