//! Connections that wait for another request.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::socket::Socket;
use crate::upstream::transport::IDLE_CONNECTIONS;

/// A connection that has waited longer is closed rather than used: most servers and what stands before them give up
/// somewhere above a minute.
const IDLE_FOR: Duration = Duration::from_secs(90);

/// Connections whose last answer was read to its end, those that came last at the back. Beyond
/// [`IDLE_CONNECTIONS`] the oldest goes; what has waited for too long goes whenever one comes or is asked for.
#[derive(Debug)]
pub struct Pool<S = Socket> {
    idle: Mutex<VecDeque<(Instant, S)>>,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<S> Pool<S> {
    /// Keeps a connection for the next request.
    pub fn put(&self, connection: S) {
        self.put_at(Instant::now(), connection);
    }

    fn put_at(&self, now: Instant, connection: S) {
        let mut idle = self.idle.lock();
        while idle.front().is_some_and(|(since, _)| now - *since > IDLE_FOR) || idle.len() >= IDLE_CONNECTIONS {
            idle.pop_front();
        }
        idle.push_back((now, connection));
    }

    /// The connection that came last, if it has not waited for too long.
    pub(super) fn last(&self, now: Instant) -> Option<S> {
        let mut idle = self.idle.lock();
        match idle.pop_back() {
            Some((since, connection)) if now - since <= IDLE_FOR => Some(connection),
            Some(_) => {
                // The others have waited longer still.
                idle.clear();
                None
            }
            None => None,
        }
    }
}

impl Pool {
    /// A connection that is open and on which nothing has come, if there is one.
    pub fn take(&self) -> Option<Socket> {
        let now = Instant::now();
        std::iter::from_fn(|| self.last(now)).find(Socket::is_quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_that_came_is_used_first_and_none_waits_for_ever() {
        let (pool, start) = (Pool::default(), Instant::now());
        pool.put_at(start, 1);
        let later = start + IDLE_FOR / 2;
        pool.put_at(later, 2);
        pool.put_at(later, 3);
        assert_eq!(pool.last(later), Some(3));
        let late = later + IDLE_FOR * 3 / 4;
        assert_eq!(pool.last(late), Some(2));
        assert_eq!((pool.last(late), pool.idle.lock().len()), (None, 0));
        pool.put_at(start, 1);
        pool.put_at(start + IDLE_FOR * 2, 2);
        assert_eq!(pool.idle.lock().len(), 1);
    }

    #[test]
    fn there_is_a_bound() {
        let pool = Pool::default();
        (0..IDLE_CONNECTIONS + 3).for_each(|n| pool.put(n));
        assert_eq!(pool.idle.lock().len(), IDLE_CONNECTIONS);
        assert_eq!(pool.idle.lock().front().map(|(_, n)| *n), Some(3));
    }
}
