//! Two gateways that share a database, and perhaps a Redis.

use super::{Client, Gateway, Outage, Redis, Setup, Upstream};

/// Two gateways on one fresh database, a client of each, and what they share; `R` is their Redis, or none.
pub struct Pair<R = Redis> {
    /// The one.
    pub one: Gateway,
    /// The other.
    pub other: Gateway,
    /// A client of the one.
    pub a: Client,
    /// A client of the other.
    pub b: Client,
    /// Their upstream.
    pub upstream: Upstream,
    /// Their database, which can go away.
    pub outage: Outage,
    /// Their Redis.
    pub redis: R,
}

impl Pair {
    /// With a Redis of their own. A replica that is silent for a second loses its turns.
    pub async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    /// The same, with other settings.
    pub async fn with(settings: impl Fn(Setup) -> Setup) -> Self {
        let redis = Redis::start();
        let url = redis.url();
        Self::start(redis, |setup| settings(setup.set("cluster.redis_url", &*url))).await
    }
}

impl Pair<()> {
    /// Without one.
    pub async fn without_redis() -> Self {
        Self::start((), |setup| setup).await
    }
}

impl<R> Pair<R> {
    async fn start(redis: R, settings: impl Fn(Setup) -> Setup) -> Self {
        let (outage, upstream) = (Outage::fresh().await, Upstream::start().await);
        let start = || settings(Setup::new(&outage.url()).upstream(&upstream).set("cluster.lease_s", 1)).start();
        let (one, other) = (start().await, start().await);
        Self { a: one.client(), b: other.client(), one, other, upstream, outage, redis }
    }
}
