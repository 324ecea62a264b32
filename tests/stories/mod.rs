//! What the gateway promises, told once and run on each database.
//!
//! To add a story: 1. a file here, named after what it is about; 2. a line below; 3. if it needs the machine to
//! itself, its name in `.config/nextest.toml`.

mod faults;
mod kill;
mod readers;
mod replay;
