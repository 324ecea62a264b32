//! Open streams of visitors and users: counted here, and once for all replicas where these share something.
//!
//! What a replica counts of its own it counts all the time, so that it goes on by that while Redis is away; what it opened
//! meanwhile is made known by the next renewal.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::cluster::places::Seat;
use crate::domain::quota::{Bound, Scope};
use crate::lifecycle::Lifecycle;

/// How often places are renewed: before one lapses, two renewals may fail.
const RENEW: Duration = Duration::from_secs(3);

/// Whom streams are counted of: the application, and one of a scope in it.
type Reader = (Arc<str>, Scope, Arc<str>);

/// The streams that are open here. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<House>);

#[derive(Debug, Default)]
struct House {
    /// How many each reader has. There are no more entries than open streams.
    here: Mutex<HashMap<Reader, u64>>,
    shared: Option<Shared>,
}

/// What replicas share of them.
#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    seats: Mutex<Seats>,
    /// There is something to give back.
    left: Notify,
}

/// The seats of the streams that are open here, and of those that are not any more. Each is in one of the two, once it is known
/// whether it was taken.
#[derive(Debug, Default)]
struct Seats {
    number: u64,
    taken: HashMap<u64, Seat>,
    left: Vec<Seat>,
}

/// An open stream: counted while it lives.
#[derive(Debug)]
pub struct Place {
    streams: Streams,
    reader: Reader,
    seat: Seated,
}

/// How a stream stands with the other replicas.
#[derive(Debug)]
enum Seated {
    /// It is counted here alone.
    Here,
    /// Its seat is being taken.
    Perhaps(Seat),
    /// Its seat is taken, or is to be as soon as can be.
    Taken(u64),
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut all = self.streams.0.here.lock();
            if let Some(open) = all.get_mut(&self.reader) {
                *open -= 1;
                if *open == 0 {
                    all.remove(&self.reader);
                }
            }
        }
        let Some(shared) = &self.streams.0.shared else { return };
        let mut seats = shared.seats.lock();
        let left = match std::mem::replace(&mut self.seat, Seated::Here) {
            Seated::Here => None,
            Seated::Perhaps(seat) => Some(seat),
            Seated::Taken(number) => seats.taken.remove(&number),
        };
        if let Some(seat) = left {
            seats.left.push(seat);
            shared.left.notify_one();
        }
    }
}

impl Streams {
    /// Starts what renews places and gives them back, where replicas share something.
    pub fn open(cluster: Option<Cluster>, life: &Lifecycle) -> Self {
        let shared = cluster.map(|cluster| Shared { cluster, seats: Mutex::default(), left: Notify::new() });
        let is_shared = shared.is_some();
        let streams = Self(Arc::new(House { here: Mutex::default(), shared }));
        if is_shared {
            life.spawn("streams", streams.clone().run(life.clone()));
        }
        streams
    }

    /// Counts one more; `None` where the reader has as many as may be.
    pub async fn place(&self, application: &Arc<str>, bound: &Bound) -> Option<Place> {
        let mut place = self.place_here(application, bound)?;
        let Some(shared) = &self.0.shared else { return Some(place) };
        let seat = Seat::new(&[application, bound.scope.as_str(), &bound.id]);
        place.seat = Seated::Perhaps(seat.clone());
        match shared.cluster.open_place(&seat, bound.most).await {
            Ok(false) => {
                place.seat = Seated::Here;
                return None;
            }
            // Whether it was taken, where nobody knows, is so with the next renewal.
            Ok(true) | Err(_) => {
                let mut seats = shared.seats.lock();
                seats.number += 1;
                let number = seats.number;
                seats.taken.insert(number, seat);
                place.seat = Seated::Taken(number);
            }
        }
        Some(place)
    }

    fn place_here(&self, application: &Arc<str>, bound: &Bound) -> Option<Place> {
        let reader = (application.clone(), bound.scope, bound.id.clone());
        let mut all = self.0.here.lock();
        let open = all.entry(reader.clone()).or_default();
        if *open >= bound.most {
            return None;
        }
        *open += 1;
        drop(all);
        Some(Place { streams: self.clone(), reader, seat: Seated::Here })
    }

    /// The task. It ends with the lifecycle's hard token, and gives back what is left before.
    async fn run(self, life: Lifecycle) {
        let Some(shared) = &self.0.shared else { return };
        let mut due = Instant::now() + RENEW;
        loop {
            let over = tokio::select! {
                () = life.hard().cancelled() => true,
                () = shared.left.notified() => false,
                () = sleep_until(due) => false,
            };
            // What is renewed after this has not been left before.
            let is_due = !over && Instant::now() >= due;
            let (left, taken) = {
                let mut seats = shared.seats.lock();
                let taken: Vec<Seat> = if is_due { seats.taken.values().cloned().collect() } else { Vec::new() };
                (std::mem::take(&mut seats.left), taken)
            };
            // Redis' silence is told where it is noticed; what is not given back lapses.
            if !left.is_empty() {
                let _lapses = shared.cluster.close_places(&left).await;
            }
            if over {
                return;
            }
            if is_due {
                let _later = shared.cluster.renew_places(&taken).await;
                due = Instant::now() + RENEW;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::domain::quota::Measure;

    #[test]
    fn a_stream_counts_until_it_is_dropped() {
        let streams = Streams::default();
        let bound =
            |id: &str| Bound { scope: Scope::Visitor, id: id.into(), measure: Measure::Streams, most: 2, soft: None };
        let place = |application: &str, id: &str| {
            streams.place(&application.into(), &bound(id)).now_or_never().expect("nobody is asked")
        };
        let first = place("shop", "vis_1").unwrap();
        let second = place("shop", "vis_1").unwrap();
        assert!(place("shop", "vis_1").is_none());
        assert!(place("shop", "vis_2").is_some());
        assert!(place("bank", "vis_1").is_some());
        drop(first);
        let third = place("shop", "vis_1").unwrap();
        drop((second, third));
        assert!(streams.0.here.lock().is_empty());
    }
}
