//! Why a command failed, as the shell sees it.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::{OpenError, ServeError};

/// Why a command failed: one line for a person, and an exit code for a program.
#[derive(Debug)]
pub struct Failure {
    line: String,
    code: u8,
}

/// A setting stops the start, or the SQLite file belongs to another `serve`. Also clap's code for a bad command line.
const REFUSED: u8 = 2;
/// Anything else.
const FAILED: u8 = 1;

impl Failure {
    /// Anything that is no setting's fault.
    pub fn new(problem: impl fmt::Display) -> Self {
        Self::with_code(problem, FAILED)
    }

    /// What a setting or the command line can mend.
    pub fn setting(problem: impl fmt::Display) -> Self {
        Self::with_code(problem, REFUSED)
    }

    fn with_code(problem: impl fmt::Display, code: u8) -> Self {
        Self { line: problem.to_string().replace(char::is_control, " "), code }
    }

    /// The exit code: 2 for what settings can mend, else 1.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::with_code(error, REFUSED)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::Setting(_) | OpenError::Held(_) => REFUSED,
            OpenError::Metrics(..) | OpenError::Failed(_) => FAILED,
        };
        Self::with_code(error, code)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::new(error)
    }
}
