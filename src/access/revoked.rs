//! What open streams are told when what let them in is revoked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::domain::caller::{Caller, Credential};

/// Who watches for which credential. Bounded by the open streams, each of which has three at most.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<Mutex<Seats>>);

#[derive(Debug, Default)]
struct Seats {
    known: HashMap<Credential, Seat>,
    /// How many there have been.
    number: u64,
}

#[derive(Debug)]
struct Seat {
    /// What tells it from one that the same credential had before it was revoked.
    number: u64,
    token: CancellationToken,
    watchers: usize,
}

/// Somebody who waits for a revocation; one who goes is forgotten.
#[derive(Debug)]
pub struct Watch {
    seats: Vec<(Credential, u64, CancellationToken)>,
    revocations: Revocations,
}

impl Revocations {
    /// Watches for all that lets this caller in; `None` for one who needs nothing.
    pub fn watch(&self, caller: &Caller) -> Option<Watch> {
        if caller.credentials.is_empty() {
            return None;
        }
        let Seats { known, number } = &mut *self.0.lock();
        let seats = caller.credentials.iter().map(|credential| {
            let seat = known.entry(credential.clone()).or_insert_with(|| {
                *number += 1;
                Seat { number: *number, token: CancellationToken::new(), watchers: 0 }
            });
            seat.watchers += 1;
            (credential.clone(), seat.number, seat.token.clone())
        });
        Some(Watch { seats: seats.collect(), revocations: self.clone() })
    }

    /// Tells all who watch for it. Whoever comes later finds it as it then is.
    pub fn revoke(&self, credential: &Credential) {
        let seat = self.0.lock().known.remove(credential);
        if let Some(seat) = seat {
            seat.token.cancel();
        }
    }

    /// Tells all who watch for one that is not good any more.
    pub fn keep(&self, good: impl Fn(&Credential) -> bool) {
        let gone: Vec<Seat> =
            self.0.lock().known.extract_if(|credential, _| !good(credential)).map(|(_, seat)| seat).collect();
        for seat in gone {
            seat.token.cancel();
        }
    }

    /// Whether nobody watches.
    pub fn is_idle(&self) -> bool {
        self.0.lock().known.is_empty()
    }
}

impl Watch {
    /// Whether one of them has been revoked.
    pub fn is_revoked(&self) -> bool {
        self.seats.iter().any(|(_, _, token)| token.is_cancelled())
    }

    /// Until one of them is revoked.
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let tokens = self.seats.iter().map(|(_, _, token)| token.clone());
        let waits: Vec<_> = tokens.map(|token| Box::pin(token.cancelled_owned())).collect();
        async move {
            if waits.is_empty() {
                std::future::pending::<()>().await;
            }
            futures::future::select_all(waits).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut seats = self.revocations.0.lock();
        for (credential, number, _) in self.seats.drain(..) {
            if let Entry::Occupied(mut seat) = seats.known.entry(credential)
                && seat.get().number == number
            {
                seat.get_mut().watchers -= 1;
                if seat.get().watchers == 0 {
                    seat.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::domain::owner::Owner;

    #[test]
    fn those_who_watch_are_told_and_nobody_else() {
        let (key, other) = (Credential::Key("key_1".into()), Credential::Key("key_2".into()));
        let caller = |credentials: &[&Credential]| Caller {
            credentials: credentials.iter().map(|one| (*one).clone()).collect(),
            ..Caller::local()
        };
        let revocations = Revocations::default();
        assert!(revocations.watch(&Caller::local()).is_none() && revocations.is_idle());
        let person = Credential::Person(Owner::local());
        let both = revocations.watch(&caller(&[&person, &key])).unwrap();
        let one = revocations.watch(&caller(&[&other])).unwrap();
        revocations.revoke(&key);
        assert!(both.revoked().now_or_never().is_some() && one.revoked().now_or_never().is_none());
        let later = revocations.watch(&caller(&[&key])).unwrap();
        drop((both, one));
        assert!(later.revoked().now_or_never().is_none() && !revocations.is_idle(), "others' going is not its own");
        let kept = revocations.watch(&caller(&[&person])).unwrap();
        revocations.keep(|credential| *credential != key);
        assert!(later.revoked().now_or_never().is_some() && kept.revoked().now_or_never().is_none());
        drop((later, kept));
        assert!(revocations.is_idle(), "who has gone is forgotten");
    }
}
