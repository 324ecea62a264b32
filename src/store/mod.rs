//! The record. sqlx lives here only.
//!
//! SQL is written once for both databases. They differ in how they are opened (`pool.rs`), in how a transaction is sent
//! (`transaction.rs`; on SQLite several statements at once, `writer.rs`), in how many rows are inserted (`journal.rs`), in
//! what an end takes first (`ending.rs`), in how words are asked for (`search.rs`); and SQLite alone has a tail (`tail.rs`) and checkpoints (`checkpoint.rs`).
//! PostgreSQL alone has many writers: what they lock, wait for or pass over is behind `is_shared` (`conversations.rs`, `journal.rs`,
//! `leases.rs`, `withdrawal.rs`, `indexing.rs`, `line` and `unless_locked` in `pool.rs`).
//! Every function that a request reaches with an id of its own takes the [`crate::domain::owner::Owner`].
//!
//! To add a table: 1. a migration of the same number and name in `migrations/sqlite` and
//! `migrations/postgres`, and in [`migrate`]; 2. a file here named for its noun: what reads does so on a connection of sqlx's (`read!`), what writes
//! in a transaction of ours (`write!`), where `later` is for a statement whose answer nothing hangs on; 3. a step in the
//! story test.

pub mod admission;
pub mod audit;
pub mod checkpoint;
pub mod context;
pub mod conversations;
pub mod ending;
pub mod feedback;
pub mod forgetting;
pub mod idempotency;
pub mod indexing;
pub mod journal;
pub mod keys;
pub mod leases;
mod lines;
pub mod listing;
pub mod lives;
pub mod messages;
pub mod migrate;
pub mod people;
mod places;
pub mod pool;
pub mod quotas;
pub mod search;
pub mod summaries;
pub mod tail;
mod thread;
pub mod tickets;
mod transaction;
pub mod turns;
pub mod usage;
pub mod whose;
pub mod withdrawal;
mod writer;

use std::time::Duration;

pub use pool::{OpenError, Store};

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away, full, locked or too slow. What was asked may or may not have been done.
    #[error("the database did not do it: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// It did not answer in time. What was asked may or may not have been done.
    #[error("the database did not answer within {0:?}")]
    Slow(Duration),
    /// There was no connection to write with in time. Nothing was done.
    #[error("the database could not be written to: {0}")]
    NotBegun(sqlx::Error),
    /// As many search or write the same as may, and none of them came to its end in time. Nothing was done.
    #[error("too many search, or write the same")]
    Crowded,
    /// A row that had to change is gone, or another's; nothing was written.
    #[error("a row that had to change did not")]
    Unchanged,
    /// A row holds what this program never writes.
    #[error("column `{0}` holds what it should not")]
    Corrupt(&'static str),
}

/// What the store gives.
pub type Result<T> = std::result::Result<T, Error>;
