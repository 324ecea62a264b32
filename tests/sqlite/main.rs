//! The stories, told on SQLite. Needs nothing but the built program.
#![cfg(test)]

mod docs;
#[path = "../stories/file.rs"]
mod file;
mod readme;
mod reload;
#[path = "../stories/mod.rs"]
mod stories;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod tls;
mod tools;

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Sqlite;
