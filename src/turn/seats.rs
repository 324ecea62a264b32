//! Seats: how many read a turn through this process, wherever the turn runs and however they are told of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::ids::TurnId;
use crate::domain::owner::Owner;

/// Who reads which turn. The owner is part of the name, so that nobody takes the seats of somebody else's turn.
type Taken = Mutex<HashMap<(Owner, TurnId), usize>>;

/// The seats of all turns that are read here.
#[derive(Debug)]
pub struct Seats {
    taken: Arc<Taken>,
    /// So many has a turn.
    each: usize,
}

impl Seats {
    /// So many for each turn.
    pub fn new(each: usize) -> Self {
        Self { taken: Arc::default(), each }
    }

    /// A seat at the owner's turn; `None` when all are taken.
    pub fn take(&self, owner: &Owner, turn: &TurnId) -> Option<Seat> {
        let at = (owner.clone(), turn.clone());
        let mut taken = self.taken.lock();
        let count = taken.entry(at.clone()).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Seat { taken: self.taken.clone(), at })
    }
}

/// A reader's seat, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    taken: Arc<Taken>,
    at: (Owner, TurnId),
}

impl Drop for Seat {
    fn drop(&mut self) {
        let at = (self.at.0.clone(), self.at.1.clone());
        if let Entry::Occupied(mut entry) = self.taken.lock().entry(at) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;

    #[test]
    fn a_turn_has_so_many_seats_and_nobody_takes_those_of_another_owner() {
        let (seats, turn) = (Seats::new(2), TurnId::new(Timestamp::from_micros(1)));
        let (owner, stranger) = (Owner::local(), Owner::service(&Arc::from("shop")));
        let (first, _second) = (seats.take(&owner, &turn).unwrap(), seats.take(&owner, &turn).unwrap());
        assert!(seats.take(&owner, &turn).is_none());
        let other = seats.take(&stranger, &turn).unwrap();
        drop(first);
        let third = seats.take(&owner, &turn).unwrap();
        assert!(seats.take(&owner, &turn).is_none());
        drop((third, _second, other));
        assert!(seats.taken.lock().is_empty());
    }
}
