//! Stories that need a browser. `scripts/test` installs one.
#![cfg(test)]

mod event_source;
mod page;
#[path = "../support/mod.rs"]
mod support;
mod tools;

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Sqlite;
