//! Lines: those who ask for the same thing wait here one behind the other, in the order they came, and take no connection
//! meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lines, each as long as somebody is in it.
#[derive(Debug)]
pub(super) struct Lines<Key: Eq + Hash>(Mutex<HashMap<Key, Arc<Semaphore>>>);

/// The front of a line, until it is dropped.
#[derive(Debug)]
pub(super) struct Front<'a, Key: Eq + Hash> {
    // Dropped in this order: the last to leave a line takes it away.
    _front: OwnedSemaphorePermit,
    _in_line: InLine<'a, Key>,
}

#[derive(Debug)]
struct InLine<'a, Key: Eq + Hash> {
    lines: &'a Lines<Key>,
    key: Key,
    /// There until it is dropped.
    line: Option<Arc<Semaphore>>,
}

impl<Key: Eq + Hash> Drop for InLine<'_, Key> {
    fn drop(&mut self) {
        let mut lines = self.lines.0.lock();
        drop(self.line.take());
        // All others' are made and dropped under the lock as well.
        if lines.get(&self.key).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.key);
        }
    }
}

impl<Key: Eq + Hash> Default for Lines<Key> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Key: Clone + Eq + Hash> Lines<Key> {
    /// Waits for the front of the line for `key`.
    pub(super) async fn wait(&self, key: Key) -> Option<Front<'_, Key>> {
        let line = self.0.lock().entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        let in_line = InLine { lines: self, key, line: Some(line.clone()) };
        let front = line.acquire_owned().await.ok()?;
        Some(Front { _front: front, _in_line: in_line })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_is_at_the_front_of_each_line_and_a_line_goes_with_the_last_in_it() {
        let lines = Lines::default();
        let first = lines.wait("a").await.unwrap();
        let (mut second, mut third) = (Box::pin(lines.wait("a")), Box::pin(lines.wait("a")));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        let other = lines.wait("b").now_or_never().unwrap();
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "who came later waits longer");
        let second = second.now_or_never().unwrap();
        drop(second);
        drop(third);
        assert_eq!(lines.0.lock().len(), 1);
        drop(other);
        assert!(lines.0.lock().is_empty());
    }
}
