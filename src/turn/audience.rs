//! The audience: who reads a turn that has not ended through this process, wherever the turn runs, out of memory or the record;
//! and who follows a conversation's feed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::owner::Owner;

/// How many read what. The owner is part of the name, so that nobody keeps others out of somebody else's.
type Readers<Id> = Mutex<HashMap<(Owner, Id), Count>>;

/// How many read one thing.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    /// Those of them who only look on.
    onlookers: usize,
}

/// The audience of everything of a kind that is read here.
#[derive(Debug)]
pub struct Audience<Id: Eq + Hash> {
    readers: Arc<Readers<Id>>,
    /// So many may read one thing.
    most: usize,
}

impl<Id: Clone + Eq + Hash> Audience<Id> {
    /// Of at most so many for each. Half of them, rounded up, may be such as only look on: beyond one seat, those who were given
    /// a ticket keep nobody away who may change something.
    pub fn new(most: usize) -> Self {
        Self { readers: Arc::default(), most }
    }

    /// One more reader of what is the owner's, who may change something or only looks on; `None` when it has as many as it may.
    pub fn join(&self, owner: &Owner, id: &Id, may_change: bool) -> Option<Attendance<Id>> {
        let of = (owner.clone(), id.clone());
        let mut readers = self.readers.lock();
        let count = readers.entry(of.clone()).or_default();
        if count.all >= self.most || !may_change && count.onlookers >= self.most.div_ceil(2) {
            return None;
        }
        count.all += 1;
        count.onlookers += usize::from(!may_change);
        Some(Attendance { readers: self.readers.clone(), of, may_change })
    }
}

/// That somebody reads it, until it is dropped.
#[derive(Debug)]
pub struct Attendance<Id: Clone + Eq + Hash> {
    readers: Arc<Readers<Id>>,
    of: (Owner, Id),
    may_change: bool,
}

impl<Id: Clone + Eq + Hash> Drop for Attendance<Id> {
    fn drop(&mut self) {
        let of = (self.of.0.clone(), self.of.1.clone());
        if let Entry::Occupied(mut entry) = self.readers.lock().entry(of) {
            let count = entry.get_mut();
            count.all -= 1;
            count.onlookers -= usize::from(!self.may_change);
            if count.all == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::TurnId;

    #[test]
    fn a_turn_has_so_many_readers_and_those_of_another_owner_take_nothing_from_it() {
        let (audience, turn) = (Audience::new(2), TurnId::new(Timestamp::from_micros(1)));
        let (owner, stranger) = (Owner::local(), Owner::service(&Arc::from("shop")));
        let (first, second) =
            (audience.join(&owner, &turn, true).unwrap(), audience.join(&owner, &turn, true).unwrap());
        assert!(audience.join(&owner, &turn, true).is_none());
        let other = audience.join(&stranger, &turn, true).unwrap();
        drop(first);
        let third = audience.join(&owner, &turn, true).unwrap();
        assert!(audience.join(&owner, &turn, true).is_none());
        drop((second, third, other));
        assert!(audience.readers.lock().is_empty());
    }

    #[test]
    fn who_only_looks_on_has_half_of_the_seats() {
        let (audience, turn, owner) = (Audience::new(3), TurnId::new(Timestamp::from_micros(1)), Owner::local());
        let join = |may_change| audience.join(&owner, &turn, may_change);
        let (first, second) = (join(false).unwrap(), join(false).unwrap());
        assert!(join(false).is_none());
        let third = join(true).unwrap();
        assert!(join(true).is_none());
        drop(first);
        let fourth = join(true).unwrap();
        drop(second);
        let fifth = join(false).unwrap();
        drop((third, fourth, fifth));
        assert!(audience.readers.lock().is_empty());
    }
}
