//! Visits: readers here of turns that other replicas have and that end with their last reader. Whoever has such a turn is told of them in the
//! record, before they are told anything and for as long as they read: of all such turns in one statement, by one task.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Turns;
use crate::domain::ids::TurnId;

/// How often it is told of a turn that somebody here reads it.
const AGAIN: Duration = Duration::from_millis(900);
/// How often it is looked of which turns it is to be told.
const LOOK: Duration = Duration::from_millis(250);
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
    /// When it is to be told of next; `None` until that has been done once.
    due: watch::Sender<Option<Instant>>,
}

impl Visits {
    fn begin(&self, turn: &TurnId) -> (Visit, watch::Receiver<Option<Instant>>) {
        let mut open = self.open.lock();
        let new = || Visited { readers: 0, due: watch::Sender::new(None) };
        let visited = open.entry(turn.clone()).or_insert_with(new);
        visited.readers += 1;
        let due = visited.due.subscribe();
        drop(open);
        self.begun.notify_one();
        (Visit { open: self.open.clone(), turn: turn.clone() }, due)
    }

    /// The turns of which it is to be told now.
    fn due(&self) -> Vec<TurnId> {
        let now = Instant::now();
        let open = self.open.lock();
        let due = open.iter().filter(|(_, visited)| visited.due.borrow().is_none_or(|at| at <= now));
        due.map(|(turn, _)| turn.clone()).take(MOST).collect()
    }

    /// Notes that all of `asked` were to be told of, and that `told` were. The others have ended, or change at this moment.
    fn tell(&self, asked: &[TurnId], told: &[TurnId]) {
        let now = Instant::now();
        let open = self.open.lock();
        for (turns, pause) in [(asked, LOOK), (told, AGAIN)] {
            for visited in turns.iter().filter_map(|turn| open.get(turn)) {
                visited.due.send_replace(Some(now + pause));
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
        let told = async { due.wait_for(Option::is_some).await.is_ok() };
        let _late = tokio::time::timeout(PATIENCE, told).await;
        Some(visit)
    }
}

/// The task. Readers may stay for longer than turns live here: it ends with the lifecycle's hard token.
pub async fn run(turns: Turns) {
    let work = async {
        loop {
            let due = turns.visits.due();
            if !due.is_empty() {
                match turns.store.touch(&due, turns.now()).await {
                    Ok(told) => turns.visits.tell(&due, &told),
                    Err(error) => tracing::warn!(%error, "other replicas cannot be told of readers"),
                }
            }
            // A full one may have left some out.
            let pause = if due.len() < MOST { LOOK } else { LOOK / 10 };
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
        let (one, other) = ([turn(1)], [turn(2)]);
        let (first, told) = visits.begin(&one[0]);
        assert_eq!(visits.due(), one);
        assert!(told.borrow().is_none());
        visits.tell(&one, &one);
        let next = told.borrow().unwrap();
        assert!(next > Instant::now() + LOOK, "in a while");
        assert!(visits.due().is_empty());
        // Whoever comes besides has nothing to wait for.
        let (second, told) = visits.begin(&one[0]);
        assert!(told.borrow().is_some());
        let (_third, told) = visits.begin(&other[0]);
        assert_eq!(visits.due(), other);
        visits.tell(&other, &[]);
        assert!(told.borrow().unwrap() <= Instant::now() + LOOK, "soon again");
        drop(first);
        assert!(visits.open.lock().contains_key(&one[0]));
        drop(second);
        assert!(!visits.open.lock().contains_key(&one[0]));
    }
}
