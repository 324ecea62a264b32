//! What the gateway promises, told once and run on each database.
//!
//! To add a story: 1. a file here, named after what it is about; 2. a line below; 3. if it needs the machine to
//! itself, its name in `.config/nextest.toml`.
//! One that only one of the databases can tell is named in that target's `main.rs` in place of 2.

mod access;
mod answers;
mod application;
mod audit;
mod branches;
mod budgets;
mod busy;
mod chat;
mod context;
mod conversations;
mod database;
mod disconnect;
mod drain;
mod export;
mod faults;
mod feed;
mod foreign;
mod forgetting;
mod golden;
mod kill;
mod limits;
mod lives;
mod once;
mod operations;
mod outlived;
mod readers;
mod refusals;
mod replay;
mod retention;
mod revoked;
mod search;
mod stop;
mod store;
mod tokens;
mod traces;
pub mod usage;
mod walk;
mod window;
mod windows;
