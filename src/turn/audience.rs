//! The audience: who reads a turn that has not ended through this process, wherever the turn runs, out of memory or the record.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::ids::TurnId;
use crate::domain::owner::Owner;

/// How many read which turn. The owner is part of the name, so that nobody keeps others out of somebody else's turn.
type Readers = Mutex<HashMap<(Owner, TurnId), usize>>;

/// The audience of every turn that is read here.
#[derive(Debug)]
pub struct Audience {
    readers: Arc<Readers>,
    /// So many may read one turn.
    most: usize,
}

impl Audience {
    /// Of at most so many for each turn.
    pub fn new(most: usize) -> Self {
        Self { readers: Arc::default(), most }
    }

    /// One more reader of the owner's turn; `None` when it has as many as it may.
    pub fn join(&self, owner: &Owner, turn: &TurnId) -> Option<Attendance> {
        let of = (owner.clone(), turn.clone());
        let mut readers = self.readers.lock();
        let count = readers.entry(of.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Attendance { readers: self.readers.clone(), of })
    }
}

/// That somebody reads a turn, until it is dropped.
#[derive(Debug)]
pub struct Attendance {
    readers: Arc<Readers>,
    of: (Owner, TurnId),
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let of = (self.of.0.clone(), self.of.1.clone());
        if let Entry::Occupied(mut count) = self.readers.lock().entry(of) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;

    #[test]
    fn a_turn_has_so_many_readers_and_those_of_another_owner_take_nothing_from_it() {
        let (audience, turn) = (Audience::new(2), TurnId::new(Timestamp::from_micros(1)));
        let (owner, stranger) = (Owner::local(), Owner::service(&Arc::from("shop")));
        let (first, second) = (audience.join(&owner, &turn).unwrap(), audience.join(&owner, &turn).unwrap());
        assert!(audience.join(&owner, &turn).is_none());
        let other = audience.join(&stranger, &turn).unwrap();
        drop(first);
        let third = audience.join(&owner, &turn).unwrap();
        assert!(audience.join(&owner, &turn).is_none());
        drop((second, third, other));
        assert!(audience.readers.lock().is_empty());
    }
}
