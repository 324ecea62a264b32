//! The heart: a turn is an append-only log that one task writes and everybody else reads.
//!
//! [`start`] admits, [`run`] writes, [`log`] holds, [`journal`] saves, [`finish`] ends, [`reader`] and [`feed`]
//! show, [`recover`] picks up what a dead process left, [`withdrawal`] undoes what nobody was told of, [`lease`] keeps replicas
//! out of each other's turns, [`awake`] sees that this one has slept; [`relay`] passes on to other replicas what runs here,
//! [`mirror`] shows what runs there, [`departures`] sends readers to them; [`audience`] counts who reads, [`visits`] tells other
//! replicas of those who hold a turn of theirs.
//!
//! To add a step of a turn: 1. a function in a file of its own that takes the [`live::Live`] and appends what it
//! does; 2. its call in [`run`]; 3. its kind among those the README names.

pub mod ask;
pub mod audience;
pub mod awake;
pub mod calls;
pub mod cold;

pub mod conversations;
pub mod departures;
pub mod ends;
pub mod expiry;
pub mod export;
pub mod feed;
pub mod finish;
pub mod fold;
pub mod forget;
pub mod index;
pub mod journal;
pub mod lease;
pub mod live;
pub mod log;
pub mod mirror;
pub mod prompt;
pub mod reader;
pub mod recover;
pub mod registry;
pub mod relay;
pub mod retention;
pub mod run;
pub mod segments;
pub mod start;
pub mod stop;
pub mod summary;
pub mod sweep;
pub mod view;
pub mod visits;
pub mod waiting;
pub mod window;
pub mod withdrawal;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::ids::{ConversationId, ReplicaId, TurnId};
use crate::domain::limits::Limits;
use crate::domain::price::Prices;
use crate::domain::stream::Stream;
use crate::domain::window::Windows;
use crate::identity::applications::Applications;
use crate::latest::Latest;
use crate::lifecycle::Lifecycle;
use crate::meter::Meter;
use crate::store::{Store, checkpoint};
use crate::trace::Tracer;
use crate::upstream::Upstreams;
use crate::upstream::tokens::Counts;
use audience::Audience;
use awake::Awake;
use departures::Departures;
use forget::Leaving;
use journal::Journal;
use live::Hearing;
use log::Appended;
use mirror::Mirrors;
use registry::Registry;
use relay::Relay;
use visits::Visits;
use withdrawal::Suspects;

/// So many news of other replicas may wait. Beyond, they are left out, and feeds look by themselves.
const NEWS: usize = 1024;

/// How turns are run, shown and kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The model where nobody names one.
    pub default_model: String,
    /// The system prompt where a conversation has none of its own.
    pub instructions: String,
    /// How turns are shown and kept.
    pub stream: Stream,
    /// Every bound.
    pub limits: Limits,
    /// How long a replica may be silent, in seconds, before its turns are taken.
    pub lease_s: u64,
    /// What calls cost. They may be replaced: a call costs what holds when it is made.
    pub prices: Latest<Prices>,
    /// How much models read.
    pub windows: Windows,
    /// The model that summarises what they do not read any more.
    pub summary_model: Option<String>,
    /// How long a conversation may be silent, in seconds, before it has ended; 0 = for ever.
    pub expire_after_s: u64,
    /// Whose conversations they are, and for how long they are kept. They may be replaced.
    pub applications: Latest<Applications>,
}

/// What turns are made of besides their settings; see [`House`].
pub struct Parts {
    /// See [`House::store`].
    pub store: Store,
    /// See [`House::cluster`].
    pub cluster: Option<Cluster>,
    /// See [`House::upstreams`].
    pub upstreams: Latest<Upstreams>,
    /// See [`House::clock`].
    pub clock: Clock,
    /// See [`House::lifecycle`].
    pub lifecycle: Lifecycle,
    /// See [`House::meter`].
    pub meter: Meter,
    /// See [`House::tracer`].
    pub tracer: Tracer,
}

/// All turns of the process, and what they need. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Arc<House>);

/// What all turns of the process share.
pub struct House {
    /// How turns are run, shown and kept.
    pub settings: Settings,
    /// The record.
    pub store: Store,
    /// What is shared with other replicas besides it, if anything is.
    pub cluster: Option<Cluster>,
    /// The models. They may be replaced: a turn takes them when it asks, and keeps those.
    pub upstreams: Latest<Upstreams>,
    /// The time.
    pub clock: Clock,
    /// Where tasks live.
    pub lifecycle: Lifecycle,
    /// What is counted.
    pub meter: Meter,
    /// Where traces go.
    pub tracer: Tracer,
    /// The turns that live here.
    pub registry: Registry,
    /// What saves their events.
    pub journal: Journal,
    /// What passes them on to other replicas.
    relay: Relay,
    /// The turns of other replicas that are read here.
    mirrors: Mirrors,
    audience: Audience<TurnId>,
    followers: Audience<ConversationId>,
    visits: Visits,
    departures: Departures,
    /// How many tokens messages have.
    pub counts: Counts,
    replica: RwLock<ReplicaId>,
    /// Held while the process takes a new name.
    renaming: tokio::sync::Mutex<()>,
    /// Held by whoever picks up turns that are left over: two at once would each find the same.
    picking_up: tokio::sync::Mutex<()>,
    /// Told when there is reason to think that this process was fenced.
    doubt: Notify,
    awake: Awake,
    hearing: Hearing,
    /// Cancelled when the process signs off: nothing is saved here any more, and no lease renewed.
    signed_off: CancellationToken,
    places: Arc<Semaphore>,
    suspects: Suspects,
    leaving: Leaving,
}

impl std::ops::Deref for Turns {
    type Target = House;

    fn deref(&self) -> &House {
        &self.0
    }
}

impl Turns {
    /// Enters this process among the replicas, ends what dead ones left (on SQLite, all there were), and starts
    /// the tasks behind every turn.
    ///
    /// # Errors
    /// The store's, when the database does not do as asked.
    pub async fn open(settings: Settings, parts: Parts) -> Result<Self, crate::store::Error> {
        let Parts { store, cluster, upstreams, clock, lifecycle, meter, tracer } = parts;
        let replica = ReplicaId::new(clock.now());
        let heard = cluster.is_some();
        let lease = if store.is_shared() { Duration::from_secs(settings.lease_s) } else { Duration::MAX };
        let places = Arc::new(Semaphore::new(settings.limits.max_live_turns));
        let signed_off = lifecycle.hard().child_token();
        let hearing = Hearing::new(store.is_shared());
        let (audience, followers) =
            (Audience::new(settings.limits.readers_per_turn), Audience::new(settings.limits.readers_per_turn));
        let turns = Self(Arc::new(House {
            settings,
            store,
            cluster,
            upstreams,
            clock,
            lifecycle,
            meter,
            tracer,
            registry: Registry::new(heard),
            journal: Journal::default(),
            relay: Relay::default(),
            mirrors: Mirrors::default(),
            audience,
            followers,
            visits: Visits::default(),
            departures: Departures::default(),
            counts: Counts::default(),
            replica: RwLock::new(replica),
            renaming: tokio::sync::Mutex::default(),
            picking_up: tokio::sync::Mutex::default(),
            doubt: Notify::new(),
            awake: Awake::new(lease),
            hearing,
            signed_off,
            places,
            suspects: Suspects::default(),
            leaving: Leaving::default(),
        }));
        turns.store.enter(&turns.replica(), turns.now()).await?;
        turns.lifecycle.spawn_vital("journal", journal::run(turns.clone()));
        if !turns.store.is_shared() {
            lease::inherit(&turns).await?;
            let (store, hard) = (turns.store.clone(), turns.lifecycle.hard().clone());
            // Not vital: without it commits do the same, at a longer log.
            turns.lifecycle.spawn("checkpoints", checkpoint::run(store, checkpoint::EVERY, hard));
        }
        if let Some(cluster) = turns.cluster.clone() {
            turns.lifecycle.spawn_vital("relay", relay::run(turns.clone(), cluster.clone()));
            let (hard, (news, heard)) = (turns.lifecycle.hard().clone(), mpsc::channel(NEWS));
            turns.lifecycle.spawn_vital("follow", async move { cluster.run(&news, &hard).await });
            turns.lifecycle.spawn("news", relay::hear(turns.clone(), heard));
            if turns.store.is_shared() {
                turns.lifecycle.spawn("departures", departures::run(turns.clone()));
            }
        }
        if turns.store.is_shared() {
            turns.lifecycle.spawn_vital("awake", awake::run(turns.clone()));
            turns.lifecycle.spawn_vital("visits", visits::run(turns.clone()));
        }
        turns.lifecycle.spawn_vital("leases", lease::run(turns.clone()));
        turns.lifecycle.spawn_vital("withdrawal", withdrawal::run(turns.clone()));
        turns.lifecycle.spawn_vital("sweep", sweep::run(turns.clone()));
        // Not vital: without it searches know nothing new.
        turns.lifecycle.spawn("index", index::run(turns.clone()));
        Ok(turns)
    }

    /// Notes what was appended to a turn's log.
    pub(in crate::turn) fn note(&self, live: &Arc<live::Live>, appended: Appended) {
        self.journal.note(live, appended.bytes, appended.save);
        if appended.pass {
            self.pass_on(live);
        }
    }

    /// Waits until no turn lives here, and none is being admitted.
    pub async fn idle(&self) {
        let places = u32::try_from(self.settings.limits.max_live_turns).unwrap_or(u32::MAX);
        let _all = self.places.acquire_many(places).await;
        while let Some(live) = self.registry.all().first() {
            live.settled.cancelled().await;
        }
    }

    /// Waits until no turn is left after the curfew, or the lifecycle's hard token is cancelled, and signs off.
    pub async fn close(&self) {
        tokio::select! {
            () = self.idle() => {}
            () = self.lifecycle.hard().cancelled() => return,
        }
        self.withdraw_suspects().await;
        // Readers may stay for longer; whoever went on saving then would find the name gone, and take another.
        self.signed_off.cancel();
        // No turn is open: what the tail still has is in the journal too.
        if !self.store.is_shared()
            && let Err(error) = self.store.recall().await
        {
            tracing::warn!(%error, "the tail could not be emptied; the next start does");
        }
        if let Err(error) = self.store.leave(&self.replica()).await {
            tracing::warn!(%error, "the replica could not be signed off; another will find it");
        }
    }
}

impl House {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// This process, as the leases know it.
    pub fn replica(&self) -> ReplicaId {
        self.replica.read().clone()
    }

    /// The name under which this process goes on after it was fenced.
    pub(in crate::turn) fn rename(&self, to: ReplicaId) {
        *self.replica.write() = to;
    }

    /// Until when something that ends now is kept for exact replay.
    pub fn kept_until(&self) -> Timestamp {
        let kept = i64::try_from(self.settings.stream.retention_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.now().as_micros().saturating_add(kept))
    }
}
