//! What the gateway promises, told once and run on each database.
//!
//! To add a story: 1. a file here, named after what it is about; 2. a line below; 3. if it needs the machine to
//! itself, its name in `.config/nextest.toml`.
//! One that only one of the databases can tell is named in that target's `main.rs` in place of 2.

mod database;
mod faults;
mod kill;
mod readers;
mod replay;
mod windows;
