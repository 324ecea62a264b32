//! The gateways that are driven: how each is started, asked, and watched.

pub mod api;
pub mod child;
pub mod nginx;
pub mod postgres;
pub mod redis;
pub mod tidegate;

use std::net::SocketAddr;

use ::tidegate::domain::stream::Durability;
use api::Api;
use child::Child;

use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::process::Tree;

/// Lines of a gateway's log that are told when a run is void.
const WORDS: usize = 5;

/// Where a gateway keeps its record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its database.
    pub url: String,
    /// Another one of the same kind, which is empty and nobody's.
    pub spare: String,
    /// How surely it keeps it.
    pub durability: Durability,
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is asked.
    pub api: Api,
    /// Its processes, if they are known.
    pub tree: Option<Tree>,
    /// Its database's processes, if it has one.
    pub database: Option<Tree>,
    /// Its record, if it keeps one.
    pub record: Option<Record>,
    /// Ends it when dropped.
    pub child: Option<Child>,
}

impl Gateway {
    /// The fake model itself, asked without a gateway.
    pub fn none(model: SocketAddr) -> Self {
        let api = Api::completions("/v1/chat/completions");
        Self { address: model, api, tree: None, database: None, record: None, child: None }
    }

    /// The last it logged.
    pub fn last_words(&self) -> String {
        let log = self.child.as_ref().map(|child| child.printed("stderr")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(r#""level":"INFO""#)).collect();
        lines[lines.len().saturating_sub(WORDS)..].join("\n")
    }

    /// A user who asks for this once.
    pub fn visit(&self, plan: Plan, group: usize) -> Visit {
        Visit {
            to: self.address,
            request: self.api.question(self.address, plan),
            deltas: plan.deltas,
            marks: self.api.marks(),
            group,
            start: 0,
            times: Times::Just(1),
            fresh: false,
            pause: 0,
            traced: false,
        }
    }
}
