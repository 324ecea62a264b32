//! Stories that need a browser. `scripts/test` installs one.
#![cfg(test)]

mod axe;
mod chat;
mod event_source;
mod page;
mod session;
#[path = "../support/mod.rs"]
mod support;
mod thread;
mod tools;

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Sqlite;
