//! What was refused, on its way into the audit log. Nobody who is refused waits for it, and a flood of the same is two rows a
//! minute: the first, and how often it came again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use crate::domain::audit::{Action, Actor, ActorKind, Deed, Object};
use crate::domain::clock::Clock;
use crate::domain::ids::AuditId;
use crate::lifecycle::Lifecycle;
use crate::store::{Result, Store};

/// So many wait to be written; beyond, they are not, and how many is logged.
const WAITING: usize = 1024;
/// So many different ones are counted at once of all; beyond, they are not written. Visitors, whom anybody becomes at no cost, have
/// half of them, so that they hide nobody else's.
const DIFFERENT: usize = 8192;
/// So many of one actor's; beyond, their objects are not told apart.
const EACH: usize = 32;
/// For so long the same is counted.
const MINUTE: Duration = Duration::from_secs(60);
/// How often it is looked whose minute is over.
const LOOK: Duration = Duration::from_secs(1);

/// A refusal: what was attempted, and the code.
type Refusal = (Deed, &'static str);

/// Where refusals go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Refusals {
    sender: Sender<Refusal>,
    lost: Arc<AtomicU64>,
}

impl Refusals {
    /// Starts what writes them.
    pub fn open(store: Store, clock: Clock, life: &Lifecycle) -> Self {
        let (sender, receiver) = channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counting = Counting {
            store,
            clock,
            known: HashMap::new(),
            each: HashMap::new(),
            visitors: 0,
            lost: lost.clone(),
            told: None,
        };
        life.spawn("refusals", counting.run(receiver, life.clone()));
        Self { sender, lost }
    }

    /// Notes one; nobody waits.
    pub fn note(&self, deed: Deed, code: &'static str) {
        match self.sender.try_send((deed, code)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What makes two refusals the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    application: Arc<str>,
    actor: Actor,
    action: Action,
    object: Option<Object>,
    code: &'static str,
}

struct Counted {
    /// The row that tells of the first.
    first: AuditId,
    since: Instant,
    /// How often it came again.
    again: u64,
}

struct Counting {
    store: Store,
    clock: Clock,
    known: HashMap<Same, Counted>,
    /// How many of them are each actor's, in which application…
    each: HashMap<(Arc<str>, Actor), usize>,
    /// …and how many visitors'.
    visitors: usize,
    /// How many were not taken, and not told of either.
    lost: Arc<AtomicU64>,
    /// When that was told last.
    told: Option<Instant>,
}

impl Counting {
    /// The task. It ends with the lifecycle's hard token, and tells the rest before.
    async fn run(mut self, mut refusals: Receiver<Refusal>, life: Lifecycle) {
        loop {
            tokio::select! {
                () = life.hard().cancelled() => break,
                Some((deed, code)) = refusals.recv() => self.take(deed, code).await,
                () = tokio::time::sleep(LOOK), if !self.known.is_empty() || self.lost.load(Ordering::Relaxed) > 0 => self.tell(MINUTE).await,
            }
            // While they keep coming the sleep never ends.
            self.tell(MINUTE).await;
            self.tell_lost(MINUTE);
        }
        refusals.close();
        while let Ok((deed, code)) = refusals.try_recv() {
            self.take(deed, code).await;
        }
        self.tell(Duration::ZERO).await;
        self.tell_lost(Duration::ZERO);
    }

    /// Logs how many have no row because there were too many at once, unless it did less than `after` ago.
    fn tell_lost(&mut self, after: Duration) {
        if self.told.is_some_and(|told| told.elapsed() < after) {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.told = Some(Instant::now());
            tracing::warn!(lost, "more is refused than is written into the audit log");
        }
    }

    async fn take(&mut self, mut deed: Deed, code: &'static str) {
        let who = (deed.application.clone(), deed.actor.clone());
        let is_visitor = matches!(deed.actor.kind, ActorKind::Visitor | ActorKind::Ticket);
        let overfull = self.known.len() >= DIFFERENT || (is_visitor && self.visitors >= DIFFERENT / 2);
        let same = |deed: &Deed| Same {
            application: deed.application.clone(),
            actor: deed.actor.clone(),
            action: deed.action,
            object: deed.object.clone(),
            code,
        };
        if self.each.get(&who).is_some_and(|many| *many >= EACH) && !self.known.contains_key(&same(&deed)) {
            deed.object = None;
        }
        match self.known.entry(same(&deed)) {
            Entry::Occupied(mut known) => known.get_mut().again += 1,
            Entry::Vacant(_) if overfull => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Vacant(place) => {
                place.insert(Counted { first: deed.id.clone(), since: Instant::now(), again: 0 });
                *self.each.entry(who).or_default() += 1;
                self.visitors += usize::from(is_visitor);
                let written = self.store.note(&deed, code).await;
                warn(written);
            }
        }
    }

    async fn tell(&mut self, after: Duration) {
        let now = self.clock.now();
        let over: Vec<_> = self.known.extract_if(|_, known| known.since.elapsed() >= after).collect();
        for (same, Counted { first, again, .. }) in over {
            self.visitors -= usize::from(matches!(same.actor.kind, ActorKind::Visitor | ActorKind::Ticket));
            let who = (same.application, same.actor);
            if let Some(many) = self.each.get_mut(&who) {
                *many -= 1;
                if *many == 0 {
                    self.each.remove(&who);
                }
            }
            if again == 0 {
                continue;
            }
            let written = self.store.note_again(&first, again, now).await;
            warn(written);
        }
    }
}

fn warn(written: Result<()>) {
    if let Err(error) = written {
        tracing::warn!(%error, "a refusal could not be written into the audit log");
    }
}
