//! What a command was asked for, on standard output.

use std::io::{self, Write};

use super::Failure;

/// A reader that has seen enough, such as `head`, is no failure.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
