//! How much of what they may a caller may: requests a minute ([`super::rates`]) and open streams ([`super::streams`]). What a turn
//! takes of an application is counted where it is admitted.

use std::net::IpAddr;

use super::Access;
use super::rates::{Counted, Reached, stranger};
use super::streams::Place;
use crate::domain::caller::Caller;
use crate::domain::quota::{Bound, Measure, Scope};

impl Access {
    /// Counts a request of a caller who is let in, and says what bounds them from then on: what is left of it.
    ///
    /// # Errors
    /// The bound that is reached; then it is counted nowhere.
    pub async fn count(&self, caller: &mut Caller, address: Option<IpAddr>) -> Result<Vec<Counted>, Box<Reached>> {
        let applications = self.0.applications.get();
        let application = applications.get(&caller.owner.application_id);
        let Some((application, quotas)) = application.and_then(|one| Some((one, one.quotas.as_ref()?))) else {
            return Ok(Vec::new());
        };
        let address = address.map(|address| (Scope::Address, address.to_string().into()));
        caller.bounds = quotas.bounds(caller.scopes().into_iter().chain(address));
        self.0.rates.take(&application.name, caller.bounds.on(&[Measure::Requests])).await
    }

    /// Counts a request that showed something that is not good, for its address.
    ///
    /// # Errors
    /// The bound that is reached.
    pub async fn count_stranger(&self, address: Option<IpAddr>) -> Result<(), Box<Reached>> {
        let Some(bound) = self.stranger(address) else { return Ok(()) };
        match self.0.rates.count_stranger(&bound).await {
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
    pub async fn open_stream(&self, caller: &Caller) -> Result<Option<Place>, Bound> {
        let Some(bound) = caller.bounds.on(&[Measure::Streams]).next() else { return Ok(None) };
        let place = self.0.streams.place(&caller.owner.application_id, bound).await;
        place.map(Some).ok_or_else(|| bound.clone())
    }
}
