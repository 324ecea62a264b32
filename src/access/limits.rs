//! How much of what they may a caller may: requests a minute and open streams, as this replica counts them. What a turn takes
//! of an application is counted where it is admitted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Access;
use super::rates::{Counted, Reached, stranger};
use crate::domain::caller::Caller;
use crate::domain::quota::{Bound, Measure, Scope};

/// Whom streams are counted of: the application, and one of a scope in it.
type Reader = (Arc<str>, Scope, Arc<str>);

/// How many streams readers have open here. There are no more entries than open streams.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<HashMap<Reader, u64>>>);

/// An open stream: counted while it lives.
#[derive(Debug)]
pub struct Place {
    streams: Streams,
    reader: Reader,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.streams.0.lock();
        if let Some(open) = all.get_mut(&self.reader) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.reader);
            }
        }
    }
}

impl Streams {
    fn open(&self, application: &Arc<str>, bound: &Bound) -> Option<Place> {
        let reader = (application.clone(), bound.scope, bound.id.clone());
        let mut all = self.0.lock();
        let open = all.entry(reader.clone()).or_default();
        if *open >= bound.most {
            return None;
        }
        *open += 1;
        drop(all);
        Some(Place { streams: self.clone(), reader })
    }
}

impl Access {
    /// Counts a request of a caller who is let in, and says what bounds them from then on: what is left of it.
    ///
    /// # Errors
    /// The bound that is reached; then it is counted nowhere.
    pub fn count(&self, caller: &mut Caller, address: Option<IpAddr>) -> Result<Vec<Counted>, Box<Reached>> {
        let applications = self.0.applications.get();
        let application = applications.get(&caller.owner.application_id);
        let Some((application, quotas)) = application.and_then(|one| Some((one, one.quotas.as_ref()?))) else {
            return Ok(Vec::new());
        };
        let address = address.map(|address| (Scope::Address, address.to_string().into()));
        caller.bounds = quotas.bounds(caller.scopes().into_iter().chain(address));
        self.0.rates.take(&application.name, caller.bounds.on(&[Measure::Requests]))
    }

    /// Counts a request that showed something that is not good, for its address.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn count_stranger(&self, address: Option<IpAddr>) -> Result<(), Box<Reached>> {
        let Some(bound) = self.stranger(address) else { return Ok(()) };
        match self.0.rates.count_stranger(&bound) {
            None => Ok(()),
            Some(wait) => Err(Box::new(Reached { counted: Vec::new(), bound, wait })),
        }
    }

    fn stranger(&self, address: Option<IpAddr>) -> Option<Bound> {
        Some(stranger(address?, self.0.applications.get().strangers()?))
    }

    /// Counts a stream that a caller opens; `None` where nothing bounds them.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn open_stream(&self, caller: &Caller) -> Result<Option<Place>, Bound> {
        let Some(bound) = caller.bounds.on(&[Measure::Streams]).next() else { return Ok(None) };
        let place = self.0.streams.open(&caller.owner.application_id, bound);
        place.map(Some).ok_or_else(|| bound.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_counts_until_it_is_dropped() {
        let streams = Streams::default();
        let bound =
            |id: &str| Bound { scope: Scope::Visitor, id: id.into(), measure: Measure::Streams, most: 2, soft: None };
        let shop = Arc::from("shop");
        let first = streams.open(&shop, &bound("vis_1")).unwrap();
        let second = streams.open(&shop, &bound("vis_1")).unwrap();
        assert!(streams.open(&shop, &bound("vis_1")).is_none());
        assert!(streams.open(&shop, &bound("vis_2")).is_some());
        assert!(streams.open(&Arc::from("bank"), &bound("vis_1")).is_some());
        drop(first);
        let third = streams.open(&shop, &bound("vis_1")).unwrap();
        drop((second, third));
        assert!(streams.0.lock().is_empty());
    }
}
