//! Readers that wait for more: where they leave their wakers.

use std::task::Waker;

/// Where one reader leaves its waker; `armed` while it wants to be woken.
#[derive(Debug, Default)]
struct Place {
    waker: Option<Waker>,
    armed: bool,
    is_new: bool,
}

/// The waiting readers of one log. A place is reused once its reader has left.
#[derive(Debug, Default)]
pub struct Waiting {
    places: Vec<Place>,
    free: Vec<usize>,
    newcomers: usize,
}

impl Waiting {
    /// A place for a reader, who may be a newcomer.
    pub fn join(&mut self, is_new: bool) -> usize {
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(Place::default());
        }
        self.places[place].is_new = is_new;
        self.newcomers += usize::from(is_new);
        place
    }

    /// Whether the reader is a newcomer.
    pub fn is_new(&self, place: usize) -> bool {
        self.places.get(place).is_some_and(|place| place.is_new)
    }

    /// Whether any is.
    pub fn has_newcomers(&self) -> bool {
        self.newcomers > 0
    }

    /// From now on none of those who are here is a newcomer.
    pub fn welcome(&mut self) {
        self.places.iter_mut().for_each(|place| place.is_new = false);
        self.newcomers = 0;
    }

    /// Gives the place back.
    pub fn part(&mut self, place: usize) {
        if let Some(left) = self.places.get_mut(place) {
            self.newcomers -= usize::from(left.is_new);
            *left = Place::default();
            self.free.push(place);
        }
    }

    /// Has the reader woken once.
    pub fn arm(&mut self, place: usize, waker: &Waker) {
        if let Some(place) = self.places.get_mut(place) {
            place.armed = true;
            if !place.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                place.waker = Some(waker.clone());
            }
        }
    }

    /// Wakes whoever waits. Wakers stay where they are, so that nothing is allocated for it.
    pub fn wake(&mut self) {
        for place in self.places.iter_mut().filter(|place| place.armed) {
            place.armed = false;
            if let Some(waker) = &place.waker {
                waker.wake_by_ref();
            }
        }
    }
}
