//! What a work has at hand: one gateway, just started, and the fake model with its users.

use std::ops::Range;

use crate::clock::MILLISECOND;
use crate::drive::Void;
use crate::drive::engine::{Engine, Word};
use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::gateway::Gateway;
use crate::gateway::redis::Redis;

/// What stands beside a gateway that is one of several replicas.
#[derive(Debug)]
pub struct Peers {
    /// A gateway of the same kind that shares nothing.
    pub alone: Gateway,
    /// Another replica, on the same record.
    pub other: Gateway,
    /// What the two share.
    pub redis: Redis,
}

/// One gateway and its load.
#[derive(Debug)]
pub struct Stage {
    /// The fake model and its users.
    pub engine: Engine,
    /// The gateway.
    pub gateway: Gateway,
    /// Its peers, until a work takes them.
    pub peers: Option<Peers>,
    /// The gateway's core.
    pub core: usize,
    /// Whether everything is a tenth.
    pub quick: bool,
}

impl Stage {
    /// So many, or a tenth of it.
    pub fn size(&self, full: u32) -> u32 {
        if self.quick { (full / 10).max(1) } else { full }
    }

    /// What every gateway does before it is measured: connections are made, code and memory are touched.
    pub fn warm(&mut self, users: u32) -> Result<(), Void> {
        let group = self.engine.group(1000);
        let visit = self.gateway.visit(Plan::paced(20, 1000), group);
        self.add(&Visit { times: Times::Just(2), ..visit }, users, 20 * MILLISECOND);
        self.engine.run(|_| Word::Go)
    }

    /// Adds so many users who do the same and begin one after the other within that time; gives their places.
    pub fn add(&mut self, visit: &Visit, users: u32, within: u64) -> Range<usize> {
        let first = self.engine.visitors.len();
        for user in 0..users {
            let start = visit.start + within * u64::from(user) / u64::from(users);
            self.engine.add(Visit { start, ..visit.clone() });
        }
        first..self.engine.visitors.len()
    }
}
