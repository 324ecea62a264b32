//! A gateway as one of several, with ways of its own to what they share.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Mutex;

use super::calamities::Calamities;
use super::fault::{Fault, LEASE, Server, Trouble};
use super::schedule::Schedule;
use crate::support::{Client, Database, Gateway, Proxy, Upstream};

/// A gateway, its number, and its ways.
pub struct Replica {
    /// From 0.
    pub number: usize,
    /// Where it listens, whatever becomes of it.
    pub address: SocketAddr,
    gateway: Mutex<Gateway>,
    postgres: Proxy,
    redis: Option<Proxy>,
}

impl Replica {
    /// Starts one, and waits until it is ready.
    pub async fn start(
        number: usize,
        schedule: &Schedule,
        database: &Database,
        redis: Option<SocketAddr>,
        upstream: &Upstream,
    ) -> Self {
        let postgres = Proxy::to(database.server()).await;
        let redis = match redis {
            Some(server) => Some(Proxy::to(server).await),
            None => None,
        };
        let lease_s = i64::try_from(LEASE.as_secs()).unwrap();
        let setup = Gateway::at(&database.through(&postgres)).upstream(upstream).set("cluster.lease_s", lease_s);
        let setup = setup.set("stream.heartbeat_s", 1).set("limits.grace_s", 1).set("limits.database_s", 2);
        // However often a conversation has been asked, a question stays small. Some turns are read from the record while they run.
        let setup = setup.set("limits.history_bytes", 2048);
        let setup = if schedule.seed.is_multiple_of(2) { setup } else { setup.set("limits.turn_memory_bytes", 8192) };
        let setup = match &redis {
            Some(proxy) => setup.set("cluster.redis_url", format!("redis://{}", proxy.address())),
            None => setup,
        };
        let gateway = setup.start().await;
        Self { number, address: gateway.address(), gateway: Mutex::new(gateway), postgres, redis }
    }

    /// A client of it and of no other.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// What it has logged.
    pub async fn log(&self) -> String {
        self.gateway.lock().await.log()
    }

    /// Lets something happen to it, and comes back when it is as before.
    pub async fn suffer(&self, fault: Fault, calamities: &Calamities) {
        let mut gateway = self.gateway.lock().await;
        let calamity = calamities.begin(Some(self.number), format!("{fault:?}"), fault.may_cost());
        match fault {
            Fault::Kill { down } => {
                gateway.kill();
                wait(down).await;
                revive(&mut gateway).await;
            }
            Fault::Drain { down } => {
                gateway.terminate();
                gateway.exit().await;
                wait(down).await;
                revive(&mut gateway).await;
            }
            Fault::Freeze { lasts } => {
                gateway.freeze();
                wait(lasts).await;
                gateway.thaw();
            }
            Fault::Way(server, trouble) => {
                let proxy = match server {
                    Server::Postgres => Some(&self.postgres),
                    Server::Redis => self.redis.as_ref(),
                };
                trouble_on(proxy.expect("a way to trouble"), trouble).await;
            }
        }
        calamities.end(calamity);
    }
}

async fn trouble_on(proxy: &Proxy, trouble: Trouble) {
    match trouble {
        Trouble::Cut { .. } => proxy.cut(),
        Trouble::Mute { .. } => proxy.pause(),
        Trouble::Slow { by, .. } => proxy.delay(Duration::from_millis(by)),
        Trouble::Drop => proxy.drop_connections(),
    }
    wait(trouble.lasts()).await;
    proxy.heal();
}

/// Starts it until it stays: while the database is away it may end at once, and whoever looks after it starts it again.
async fn revive(gateway: &mut Gateway) {
    gateway.relaunch();
    while gateway.try_ready().await.is_err() {
        wait(100).await;
        gateway.relaunch();
    }
}

async fn wait(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
