//! A database that can go away and come back.

use super::database::Block;
use super::{Database, Kind, Proxy};

/// A database that can go away: on PostgreSQL every connection is cut, on SQLite an outside process holds the write
/// lock of the file.
pub struct Outage {
    /// The database, past the outage.
    pub database: Database,
    proxy: Option<Proxy>,
    lock: Option<Block>,
}

impl Outage {
    /// A fresh database, there for now.
    pub async fn fresh() -> Self {
        let database = Database::fresh().await;
        let proxy = match database.kind() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Proxy::to(database.server()).await),
        };
        Self { database, proxy, lock: None }
    }

    /// What goes into `database.url`.
    pub fn url(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.database.url(), |proxy| self.database.through(proxy))
    }

    /// It is away.
    pub async fn begin(&mut self) {
        match &self.proxy {
            Some(proxy) => proxy.cut(),
            None => self.lock = Some(self.database.block().await),
        }
    }

    /// It is back.
    pub fn end(&mut self) {
        match &self.proxy {
            Some(proxy) => proxy.heal(),
            None => drop(self.lock.take().unwrap()),
        }
    }
}
