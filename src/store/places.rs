//! Places for those who read long: searches, sums, lists of a whole application. There are few, since others want to read too;
//! and of an owner's requests one at a time stands in line for them, so that nobody's crowd keeps others waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{Error, Result};
use crate::domain::owner::Owner;

/// How many read long at once.
const PLACES: usize = 2;

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    all: Semaphore,
    /// The lines of owners, each as long as somebody is in it.
    lines: Mutex<HashMap<Owner, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    _place: SemaphorePermit<'a>,
    // Dropped in this order: the last to leave a line takes it away.
    _front: OwnedSemaphorePermit,
    _in_line: InLine<'a>,
}

#[derive(Debug)]
struct InLine<'a> {
    places: &'a Places,
    owner: Owner,
    line: Arc<Semaphore>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut lines = self.places.lines.lock();
        // This one's, and that of the map: all others are made under the lock.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.owner);
        }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Semaphore::new(PLACES), lines: Mutex::default() }
    }
}

impl Places {
    /// A place for a request of this owner's.
    ///
    /// # Errors
    /// [`Error::Crowded`] when there is none within `patience`.
    pub(super) async fn take(&self, owner: &Owner, patience: Duration) -> Result<Place<'_>> {
        let taken = async {
            let line = self.lines.lock().entry(owner.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
            let in_line = InLine { places: self, owner: owner.clone(), line };
            let front = in_line.line.clone().acquire_owned().await.ok()?;
            let place = self.all.acquire().await.ok()?;
            Some(Place { _place: place, _front: front, _in_line: in_line })
        };
        tokio::time::timeout(patience, taken).await.ok().flatten().ok_or(Error::Crowded)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::domain::owner::Kind;

    #[tokio::test]
    async fn one_of_an_owners_requests_stands_in_line_for_all() {
        let places = Places::default();
        let person = |id: &str| Owner::person(&"shop".into(), Kind::User, id);
        let (anna, bert, carl) = (person("anna"), person("bert"), person("carl"));
        let long = Duration::from_secs(60);
        let first = places.take(&anna, long).await.unwrap();
        let mut more: Vec<_> = (0..100).map(|_| Box::pin(places.take(&anna, long))).collect();
        for waiting in &mut more {
            assert!(waiting.now_or_never().is_none(), "one of hers at a time");
        }
        let other = places.take(&bert, long).now_or_never().unwrap().unwrap();
        assert!(matches!(places.take(&carl, Duration::from_millis(1)).await, Err(Error::Crowded)));
        let mut third = Box::pin(places.take(&carl, long));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        let third = third.now_or_never().unwrap().unwrap();
        drop((other, third, more));
        assert!(places.lines.lock().is_empty(), "a line goes with the last in it");
    }
}
