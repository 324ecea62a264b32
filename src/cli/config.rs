//! `tidegate config check` and `tidegate config example`

use std::env;
use std::io::{self, Write};
use std::path::Path;

use super::Failure;
use super::print::print;
use crate::config::example::example as settings;
use crate::config::load::File;
use crate::config::{Flags, load};
use crate::upstream::Ticks;

pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let file = File::read(path)?;
    let loaded = load(Some(&file), env::vars_os(), Flags::default())?;
    // What only shows when it is set up, such as a file of authorities that cannot be read.
    crate::upstreams(&loaded.config, Ticks::default())?;
    crate::certificate(&loaded.config)?;
    crate::applications(&loaded.config)?;
    let mut stderr = io::stderr().lock();
    for warning in loaded.warnings {
        let _ = writeln!(stderr, "warning: {warning}");
    }
    print(format!("{}: good\n", file.name).as_bytes())
}

pub(super) fn example() -> Result<(), Failure> {
    print(settings().as_bytes())
}
