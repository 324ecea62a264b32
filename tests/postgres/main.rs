//! The stories, told on PostgreSQL. `scripts/test` starts a server for them.
#![cfg(test)]

mod at_once;
#[path = "../stories/counted.rs"]
mod counted;
mod leaving;
#[path = "../stories/migrations.rs"]
mod migrations;
#[path = "../stories/mirror.rs"]
mod mirror;
#[path = "../stories/outages.rs"]
mod outages;
#[path = "../stories/relay.rs"]
mod relay;
#[path = "../stories/replicas.rs"]
mod replicas;
#[path = "../stories/rolling.rs"]
mod rolling;
#[path = "../stories/server.rs"]
mod server;
#[path = "../stories/mod.rs"]
mod stories;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod unsure;

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Postgres;
