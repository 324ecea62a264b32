//! Leases: showing that this replica lives, seeing which others do not, hearing what others want of its turns.
//!
//! Time counts only while the database answers: an outage is no death.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::live::Cut;
use super::{Turns, recover};
use crate::domain::ids::ReplicaId;
use crate::store::Result;
use crate::store::leases::Peer;
use crate::store::tail::Tail;

/// How often other replicas' requests are looked for.
const POLL: Duration = Duration::from_millis(250);

/// On a database that one process has for itself: every other replica there was is dead. Ends what they left.
///
/// # Errors
/// The store's.
pub async fn inherit(turns: &Turns) -> Result<()> {
    let me = turns.replica();
    for peer in turns.store.peers(&me).await? {
        turns.store.fence(&peer, turns.now()).await?;
    }
    turns.store.recall().await?;
    turns.store.adopt(&me).await?;
    recover::all(turns).await.map(drop)
}

/// A peer whose beat has not moved.
struct Still {
    beat: u64,
    /// For how long the database has answered without a new beat.
    answered: Duration,
}

/// The task. On a database that one process has for itself there is only something to hear. It ends when the process
/// signs off, or with the lifecycle's hard token.
pub async fn run(turns: Turns) {
    let over = turns.signed_off.clone();
    let (lease, taken) = (Duration::from_secs(turns.settings.lease_s), Notify::new());
    let period = POLL.min(lease / 4);
    let work = async {
        if turns.store.is_shared() {
            // Beside each other: whoever has much to pick up must not seem dead meanwhile.
            tokio::join!(
                listen(&turns, period),
                keep(&turns, lease, period),
                look(&turns, lease, period, &taken),
                pick_up(&turns, period, &taken),
            );
        } else {
            listen(&turns, period).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = over.cancelled() => {}
    }
}

/// Does what others want, and what is due.
async fn listen(turns: &Turns, period: Duration) {
    loop {
        if let Err(error) = hear(turns).await {
            tracing::warn!(%error, "what others want waits for the database");
        }
        tokio::time::sleep(period).await;
    }
}

/// Renews the lease, so often that a slow beat does not cost it.
async fn keep(turns: &Turns, lease: Duration, period: Duration) {
    loop {
        let pause = match renew(turns).await {
            Ok(()) => {
                turns.awake.answered();
                lease / 5
            }
            Err(error) => {
                tracing::warn!(%error, "the lease waits for the database");
                period
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = turns.doubt.notified() => {}
        }
    }
}

/// Takes the turns of those who are silent; `taken` is told. A database that answers and takes nothing down lets nobody show that it lives,
/// as this one notices by its own lease.
async fn look(turns: &Turns, lease: Duration, period: Duration, taken: &Notify) {
    let mut peers: HashMap<ReplicaId, Still> = HashMap::new();
    let mut answered_at: Option<Instant> = None;
    // Never a whole lease: whoever wakes beside this one shows itself before it is taken for dead.
    let longest = (period * 4).min(lease / 2);
    loop {
        let round = async {
            let seen = turns.store.peers(&turns.replica()).await?;
            let now = Instant::now();
            let gap = answered_at.map_or(Duration::ZERO, |at| now - at).min(longest);
            let gap = if turns.awake.was_answered_within(lease / 2) { gap } else { Duration::ZERO };
            answered_at = Some(now);
            for peer in watch(&mut peers, seen, gap, lease) {
                fence(turns, &peer).await?;
                peers.remove(&peer.id);
            }
            let adopted = turns.store.adopt(&turns.replica()).await;
            // Where the answer is lost, it may be done.
            if !matches!(adopted, Ok(0)) {
                taken.notify_one();
            }
            adopted.map(drop)
        };
        let done: Result<()> = round.await;
        if let Err(error) = done {
            tracing::warn!(%error, "what other replicas do waits for the database");
            answered_at = None;
        }
        tokio::time::sleep(period).await;
    }
}

/// Picks up the turns that were taken, however long that takes.
async fn pick_up(turns: &Turns, period: Duration, taken: &Notify) {
    loop {
        taken.notified().await;
        loop {
            match recover::all(turns).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "turns of a dead replica wait for the database"),
            }
            tokio::time::sleep(period).await;
        }
    }
}

/// Who has been still for a whole lease, by what the database has said since it last was silent. `gap` is how long it has answered
/// since the look before; to whoever was not there then, or had another beat, it does not count.
fn watch(peers: &mut HashMap<ReplicaId, Still>, seen: Vec<Peer>, gap: Duration, lease: Duration) -> Vec<Peer> {
    peers.retain(|id, _| seen.iter().any(|peer| peer.id == *id));
    let mut dead = Vec::new();
    for peer in seen {
        match peers.get_mut(&peer.id).filter(|still| still.beat == peer.beat) {
            Some(still) => {
                still.answered += gap;
                if still.answered >= lease {
                    dead.push(peer);
                }
            }
            None => {
                peers.insert(peer.id, Still { beat: peer.beat, answered: Duration::ZERO });
            }
        }
    }
    dead
}

async fn renew(turns: &Turns) -> Result<()> {
    let me = turns.replica();
    if !turns.store.append_journal(&me, &Tail::default(), &[]).await? {
        fenced(turns, &me).await;
    }
    Ok(())
}

async fn fence(turns: &Turns, peer: &Peer) -> Result<()> {
    if turns.store.fence(peer, turns.now()).await? {
        tracing::warn!(replica = %peer.id, "a replica is silent: its turns are taken over");
    }
    Ok(())
}

/// This replica was silent for too long: its turns are another's now. It lives on under a new name, which it takes
/// once the others can see it. Whoever finds out does it; the rest wait.
pub async fn fenced(turns: &Turns, me: &ReplicaId) {
    let _alone = turns.renaming.lock().await;
    if turns.replica() != *me {
        return;
    }
    tracing::warn!(replica = %me, "this replica was silent for too long and has lost its turns");
    lose(turns, me);
    let anew = ReplicaId::new(turns.now());
    while let Err(error) = turns.store.enter(&anew, turns.now()).await {
        tracing::warn!(%error, "the replica's new name waits for the database");
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = turns.signed_off.cancelled() => return,
        }
    }
    turns.rename(anew);
    // Those that were entered meanwhile; who comes later sees the new name (`Turns::run`).
    lose(turns, me);
}

/// The turns that have a lease of this name are another's.
fn lose(turns: &Turns, name: &ReplicaId) {
    for live in turns.registry.all().iter().filter(|live| live.lease.replica_id == *name) {
        live.cut(Cut::Lost);
    }
}

/// Does what other replicas want of our turns.
async fn hear(turns: &Turns) -> Result<()> {
    let asked = Instant::now();
    for request in turns.store.requests(&turns.replica()).await? {
        let Some(live) = turns.registry.any(&request.turn_id) else { continue };
        if request.due {
            live.due.cancel();
        }
        live.seen_elsewhere(request.read_at);
        if let Some(by) = request.stop {
            live.cut(Cut::Stop(by));
        }
    }
    turns.hearing.heard(asked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    /// How many of the peers with these beats are dead at this look.
    fn dead(peers: &mut HashMap<ReplicaId, Still>, beats: &[(&str, u64)], gap_ms: u64) -> Vec<String> {
        let seen = beats.iter().map(|&(id, beat)| Peer { id: id.to_owned().into(), beat }).collect();
        watch(peers, seen, Duration::from_millis(gap_ms), LEASE).into_iter().map(|peer| peer.id.to_string()).collect()
    }

    #[test]
    fn a_peer_is_still_from_the_look_that_saw_its_last_beat() {
        let mut peers = HashMap::new();
        // However long nobody has looked.
        assert_eq!(dead(&mut peers, &[("a", 1)], 1000), [""; 0]);
        assert_eq!(dead(&mut peers, &[("a", 1), ("b", 1)], 999), [""; 0]);
        assert_eq!(dead(&mut peers, &[("a", 2), ("b", 1)], 999), [""; 0]);
        assert_eq!(dead(&mut peers, &[("a", 2), ("b", 1)], 1), ["b"]);
        assert_eq!(dead(&mut peers, &[("a", 2)], 999), ["a"]);
    }

    #[test]
    fn a_peer_that_was_away_is_seen_for_the_first_time_again() {
        let mut peers = HashMap::new();
        dead(&mut peers, &[("a", 1)], 0);
        dead(&mut peers, &[("a", 1)], 999);
        dead(&mut peers, &[], 1);
        assert_eq!(dead(&mut peers, &[("a", 1)], 999), [""; 0]);
    }
}
