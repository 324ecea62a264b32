//! Visits: readers here of turns that other replicas have and that end with their last reader. Whoever has such a turn is told of them in the
//! record, before they are told anything and for as long as they read: of all such turns in one statement, by one task.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Turns;
use crate::domain::ids::TurnId;
use crate::store::leases::Touched;

/// How often it is told of a turn that somebody here reads it.
const AGAIN: Duration = Duration::from_millis(900);
/// How often it is looked of which turns it is to be told.
const LOOK: Duration = Duration::from_millis(250);
/// The same where some are left.
const SOON: Duration = Duration::from_millis(25);
/// How long a reader waits at most until it is told of its turn. A database that does not answer keeps nobody waiting.
const PATIENCE: Duration = Duration::from_millis(750);
/// So many turns are told of at once: whoever ends one of them waits for the rest.
const MOST: usize = 500;

type Open = Mutex<HashMap<TurnId, Visited>>;

/// The turns that are visited.
#[derive(Debug, Default)]
pub struct Visits {
    open: Arc<Open>,
    /// Told when there is one more.
    begun: Notify,
}

#[derive(Debug)]
struct Visited {
    readers: usize,
    due: watch::Sender<Due>,
}

/// When it is to be told of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Whoever has it does not know yet.
    AtOnce,
    /// Again then.
    At(Instant),
    /// It has ended.
    Never,
}

impl Visits {
    fn begin(&self, turn: &TurnId) -> (Visit, watch::Receiver<Due>) {
        let mut open = self.open.lock();
        let new = || Visited { readers: 0, due: watch::Sender::new(Due::AtOnce) };
        let visited = open.entry(turn.clone()).or_insert_with(new);
        visited.readers += 1;
        let due = visited.due.subscribe();
        drop(open);
        self.begun.notify_one();
        (Visit { open: self.open.clone(), turn: turn.clone() }, due)
    }

    /// The turns of which it is to be told now: those that have waited longest, if there are too many.
    fn due(&self) -> Vec<TurnId> {
        let now = Due::At(Instant::now());
        let open = self.open.lock();
        let due = open.iter().map(|(turn, visited)| (*visited.due.borrow(), turn)).filter(|(due, _)| *due <= now);
        let mut due: Vec<_> = due.collect();
        if due.len() > MOST {
            due.sort_unstable_by_key(|(due, _)| *due);
            due.truncate(MOST);
        }
        due.into_iter().map(|(_, turn)| turn.clone()).collect()
    }

    /// Notes what became of those of which it was to be told.
    fn tell(&self, asked: &[TurnId], touched: &Touched) {
        let again = Due::At(Instant::now() + AGAIN);
        let told: HashSet<_> = touched.told.iter().collect();
        let untold: HashSet<_> = touched.untold.iter().collect();
        let open = self.open.lock();
        for turn in asked.iter().filter(|turn| !untold.contains(turn)) {
            if let Some(visited) = open.get(turn) {
                visited.due.send_replace(if told.contains(turn) { again } else { Due::Never });
            }
        }
    }
}

/// A reader that holds a turn of another replica, until it is dropped.
#[derive(Debug)]
pub struct Visit {
    open: Arc<Open>,
    turn: TurnId,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut visited) = self.open.lock().entry(self.turn.clone()) {
            visited.get_mut().readers -= 1;
            if visited.get().readers == 0 {
                visited.remove();
            }
        }
    }
}

impl Turns {
    /// Counts a reader of a turn that another replica has, if it `holds` the turn; whoever has it can know of the reader then.
    pub(super) async fn visit(&self, turn: &TurnId, holds: bool) -> Option<Visit> {
        if !holds || !self.store.is_shared() {
            return None;
        }
        let (visit, mut due) = self.visits.begin(turn);
        let told = async { due.wait_for(|due| *due != Due::AtOnce).await.is_ok() };
        let _late = tokio::time::timeout(PATIENCE, told).await;
        Some(visit)
    }
}

/// The task. Readers may stay for longer than turns live here: it ends with the lifecycle's hard token.
pub async fn run(turns: Turns) {
    let work = async {
        loop {
            let due = turns.visits.due();
            let mut pause = if due.len() < MOST { LOOK } else { SOON };
            if !due.is_empty() {
                match turns.store.touch(&due, turns.now()).await {
                    Ok(touched) => {
                        turns.visits.tell(&due, &touched);
                        if !touched.untold.is_empty() {
                            pause = SOON;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "other replicas cannot be told of readers"),
                }
            }
            tokio::select! {
                () = turns.visits.begun.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = turns.lifecycle.hard().cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;

    #[test]
    fn a_turn_is_told_of_at_once_and_then_now_and_then_while_it_has_readers() {
        let visits = Visits::default();
        let turn = |at| TurnId::new(Timestamp::from_micros(at));
        let (one, other) = (vec![turn(1)], vec![turn(2)]);
        let touched = |told: &[TurnId], untold: &[TurnId]| Touched { told: told.to_vec(), untold: untold.to_vec() };
        let (first, due) = visits.begin(&one[0]);
        assert_eq!((visits.due(), *due.borrow()), (one.clone(), Due::AtOnce));
        visits.tell(&one, &touched(&one, &[]));
        assert!(*due.borrow() > Due::At(Instant::now() + LOOK), "in a while");
        assert!(visits.due().is_empty());
        // Whoever comes besides has nothing to wait for.
        let (second, due) = visits.begin(&one[0]);
        assert_ne!(*due.borrow(), Due::AtOnce);
        let (_third, due) = visits.begin(&other[0]);
        assert_eq!(visits.due(), other);
        visits.tell(&other, &touched(&[], &other));
        assert_eq!((visits.due(), *due.borrow()), (other.clone(), Due::AtOnce), "somebody had its row");
        visits.tell(&other, &touched(&[], &[]));
        assert_eq!((visits.due(), *due.borrow()), (Vec::new(), Due::Never), "it has ended");
        drop(first);
        assert!(visits.open.lock().contains_key(&one[0]));
        drop(second);
        assert!(!visits.open.lock().contains_key(&one[0]));
    }

    #[test]
    fn of_too_many_those_come_first_that_have_waited_longest() {
        let visits = Visits::default();
        let mut turns: Vec<TurnId> = (0..2 * MOST as i64).map(|at| TurnId::new(Timestamp::from_micros(at))).collect();
        turns.sort();
        let _all: Vec<_> = turns.iter().map(|turn| visits.begin(turn)).collect();
        let mut told = visits.due();
        assert_eq!(told.len(), MOST);
        visits.tell(&told, &Touched { told: told.clone(), untold: Vec::new() });
        let rest = visits.due();
        assert_eq!(rest.len(), MOST);
        told.extend(rest);
        told.sort();
        assert_eq!(told, turns);
    }
}
