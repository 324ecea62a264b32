//! `tidegate config check` and `tidegate config example`

use std::env;
use std::io::{self, Write};
use std::path::Path;

use super::Failure;
use crate::OpenError;
use crate::config::example::example as settings;
use crate::config::load::File;
use crate::config::{Flags, load};
use crate::upstream::Upstreams;

pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let file = File::read(path)?;
    let loaded = load(Some(&file), env::vars_os(), Flags::default())?;
    // What only shows when it is set up, such as a file of authorities that cannot be read.
    Upstreams::new(&loaded.config.upstreams, &loaded.config.limits)
        .map_err(|error| OpenError::Setting(error.to_string()))?;
    let mut stderr = io::stderr().lock();
    for warning in loaded.warnings {
        let _ = writeln!(stderr, "warning: {warning}");
    }
    print(&format!("{}: good\n", file.name))
}

pub(super) fn example() -> Result<(), Failure> {
    print(&settings())
}

/// A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
