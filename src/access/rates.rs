//! Requests a minute: counted once for all replicas where these share something, and by this one in its own memory where they
//! do not, or while that is away.
//!
//! All that one request counts towards is looked at and taken at once, by one script of Redis or under one lock, or not at all: who
//! is refused by one bound has used up nothing of the others. [`Rates::take`] is the only way in.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cluster::Cluster;
use crate::cluster::rates::Share;
use crate::domain::quota::{Bound, Scope};
use crate::domain::rate::{Left, Rate};

/// Of so many is something kept, some 32 bytes each. Beyond, those go who have taken least: to them it makes the least
/// difference.
const MOST: usize = 1 << 18;

/// Who has taken what. A clone would be another count.
#[derive(Debug)]
pub struct Rates {
    begun: Instant,
    hasher: RandomState,
    /// By a hash of whom it is kept of: two with the same share a bound, which is as likely as a wrong key's being right.
    taken: Mutex<HashMap<u64, u64>>,
    shared: Option<Cluster>,
}

/// One count, and how many there may be of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The bound.
    pub bound: Bound,
    /// What is left of it.
    pub left: Left,
}

/// A bound that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What is left of all of them; this one is among them.
    pub counted: Vec<Counted>,
    /// Which.
    pub bound: Bound,
    /// How long until there is one again.
    pub wait: Duration,
}

impl Default for Rates {
    fn default() -> Self {
        Self { begun: Instant::now(), hasher: RandomState::new(), taken: Mutex::default(), shared: None }
    }
}

impl Rates {
    /// Counted with the other replicas, where there is something to share.
    pub fn new(shared: Option<Cluster>) -> Self {
        Self { shared, ..Self::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn place(&self, application: &str, bound: &Bound) -> u64 {
        // A limit that is changed begins anew.
        self.hasher.hash_one((application, bound.scope, &*bound.id, bound.most))
    }

    /// Takes one of each: what is left of them then.
    ///
    /// # Errors
    /// The first that is reached; then nothing is taken.
    pub async fn take<'a>(
        &self,
        application: &str,
        bounds: impl Iterator<Item = &'a Bound> + Clone + Send,
    ) -> Result<Vec<Counted>, Box<Reached>> {
        if bounds.clone().next().is_none() {
            return Ok(Vec::new());
        }
        if let Some(cluster) = &self.shared
            && let Some(judged) = take_shared(cluster, application, bounds.clone().collect()).await
        {
            if judged.is_ok() {
                // While Redis is away the replica goes on by what it let in itself.
                let _never_more = self.take_here(application, bounds);
            }
            return judged;
        }
        self.take_here(application, bounds)
    }

    fn take_here<'a>(
        &self,
        application: &str,
        bounds: impl Iterator<Item = &'a Bound> + Clone,
    ) -> Result<Vec<Counted>, Box<Reached>> {
        let now = self.now();
        let mut all = self.taken.lock();
        let mut next = Vec::new();
        for bound in bounds.clone() {
            let place = self.place(application, bound);
            let rate = Rate::new(bound.most);
            match rate.take(all.get(&place).copied().unwrap_or(0), now) {
                Ok(taken) => next.push((place, taken, Counted { bound: bound.clone(), left: rate.left(taken, now) })),
                Err(wait) => {
                    let left = |bound: &Bound| {
                        let taken = all.get(&self.place(application, bound)).copied().unwrap_or(0);
                        Counted { bound: bound.clone(), left: Rate::new(bound.most).left(taken, now) }
                    };
                    let counted = bounds.map(left).collect();
                    return Err(Box::new(Reached { counted, bound: bound.clone(), wait }));
                }
            }
        }
        let counted = next
            .into_iter()
            .map(|(place, taken, counted)| {
                all.insert(place, taken);
                counted
            })
            .collect();
        if all.len() > MOST {
            forget(&mut all, now);
        }
        Ok(counted)
    }

    /// Counts a request that showed nothing good: how long until there is one again, where there was none for it.
    pub async fn count_stranger(&self, bound: &Bound) -> Option<Duration> {
        self.take(STRANGERS, std::iter::once(bound)).await.err().map(|reached| reached.wait)
    }
}

/// What becomes of it where all replicas count; `None` while they do not.
async fn take_shared(
    cluster: &Cluster,
    application: &str,
    bounds: Vec<&Bound>,
) -> Option<Result<Vec<Counted>, Box<Reached>>> {
    let share = |bound: &&Bound| Share::new(&[application, bound.scope.as_str(), &bound.id], Rate::new(bound.most));
    let shares: Vec<Share> = bounds.iter().map(share).collect();
    let taken = cluster.take(&shares, None).await.ok()?;
    let left = |(bound, owed): (&&Bound, &u64)| Counted {
        bound: Bound::clone(bound),
        left: Rate::new(bound.most).left(*owed, 0),
    };
    let counted: Vec<Counted> = bounds.iter().zip(&taken.owed).map(left).collect();
    let Some(at) = taken.reached else { return Some(Ok(counted)) };
    let (bound, owed) = (bounds.get(at)?, *taken.owed.get(at)?);
    let wait = Rate::new(bound.most).take(owed, 0).err()?;
    Some(Err(Box::new(Reached { counted, bound: Bound::clone(bound), wait })))
}

/// What stands for an application where nobody is known. No application has this name.
const STRANGERS: &str = "";

/// What an address that shows nothing good is bounded by.
pub fn stranger(address: std::net::IpAddr, most: u64) -> Bound {
    Bound {
        scope: Scope::Address,
        id: address.to_string().into(),
        measure: crate::domain::quota::Measure::Requests,
        most,
        soft: None,
    }
}

/// Forgets who has nothing taken any more, and where that is not half of them, who has taken least.
fn forget(all: &mut HashMap<u64, u64>, now: u64) {
    all.retain(|_, taken| *taken > now);
    if all.len() > MOST / 2 {
        let mut ends: Vec<u64> = all.values().copied().collect();
        let middle = ends.len() / 2;
        let (_, middle, _) = ends.select_nth_unstable(middle);
        let middle = *middle;
        all.retain(|_, taken| *taken > middle);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::domain::quota::{AddressQuota, Bounds, Measure, Quota, Quotas};

    fn bounds(application: u64, key: u64) -> Bounds {
        let per_key = Quota { requests_per_minute: key, ..Quota::default() };
        let quotas = Quotas { requests_per_minute: application, per_key, ..Quotas::default() };
        quotas.bounds([(Scope::Application, "".into()), (Scope::Key, "key_1".into())])
    }

    #[test]
    fn who_is_refused_by_one_bound_uses_up_nothing_of_the_others() {
        let (rates, bounds) = (Rates::default(), bounds(10, 2));
        let take = |application: &str| rates.take_here(application, bounds.on(&[Measure::Requests]));
        assert_eq!(take("shop").unwrap().iter().map(|one| one.left.remaining).collect::<Vec<_>>(), [9, 1]);
        take("shop").unwrap();
        for _ in 0..20 {
            let reached = take("shop").unwrap_err();
            assert_eq!(reached.bound.scope, Scope::Key);
            assert_eq!(reached.counted.iter().map(|one| one.left.remaining).collect::<Vec<_>>(), [8, 0]);
            assert!(reached.wait <= Duration::from_secs(30), "{:?}", reached.wait);
        }
        assert!(take("bank").is_ok(), "what one application counts is not another's");
    }

    #[test]
    fn a_million_addresses_take_little_memory_and_the_busiest_stays_bounded() {
        let rates = Rates::default();
        let of = |most: u64, address: String| {
            let per_address = AddressQuota { requests_per_minute: most, ..AddressQuota::default() };
            Quotas { per_address, ..Quotas::default() }.bounds([(Scope::Address, address.into())])
        };
        // One that has a minute to wait, among others that have taken a sixth of that.
        let busy = of(1, "busy".to_owned());
        rates.take_here("shop", busy.on(&[Measure::Requests])).unwrap();
        for address in 0..1_000_000 {
            rates.take_here("shop", of(6, address.to_string()).on(&[Measure::Requests])).unwrap();
            if address % 1000 == 0 {
                assert!(rates.taken.lock().len() <= MOST);
            }
        }
        assert!(rates.take_here("shop", busy.on(&[Measure::Requests])).is_err());
    }

    #[test]
    fn a_stranger_is_counted_by_address_alone() {
        let (rates, bound) = (Rates::default(), stranger("192.0.2.7".parse().unwrap(), 2));
        let count = |bound: &Bound| rates.count_stranger(bound).now_or_never().expect("nobody is asked");
        assert_eq!((count(&bound), count(&bound)), (None, None));
        assert!(count(&bound).is_some());
        assert!(count(&bound).is_some_and(|wait| wait <= Duration::from_secs(30)));
        assert_eq!(count(&stranger("192.0.2.8".parse().unwrap(), 2)), None);
    }
}
