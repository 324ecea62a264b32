//! Places for those who read long: searches, sums, lists of a whole application. There are few, since others want to read too;
//! and of an owner's requests one at a time stands in line for them, so that nobody's crowd keeps others waiting.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::lines::{Front, Lines};
use super::{Error, Result};
use crate::domain::owner::Owner;

/// How many read long at once.
const PLACES: usize = 2;

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    all: Semaphore,
    /// Of each owner.
    lines: Lines<Owner>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    _place: SemaphorePermit<'a>,
    _front: Front<'a, Owner>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Semaphore::new(PLACES), lines: Lines::default() }
    }
}

impl Places {
    /// A place for a request of this owner's.
    ///
    /// # Errors
    /// [`Error::Crowded`] when there is none within `patience`.
    pub(super) async fn take(&self, owner: &Owner, patience: Duration) -> Result<Place<'_>> {
        let taken = async {
            let front = self.lines.wait(owner.clone()).await?;
            let place = self.all.acquire().await.ok()?;
            Some(Place { _place: place, _front: front })
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
    }
}
