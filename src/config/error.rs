//! Why the settings stop the start.

use std::fmt;

/// Why the settings stop the start: one line that names the setting.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was set: a variable, a flag, a file.
    origin: Option<String>,
    path: Option<String>,
    problem: String,
}

impl ConfigError {
    /// What is wrong, where no one setting is at fault.
    pub fn new(problem: impl fmt::Display) -> Self {
        Self { origin: None, path: None, problem: problem.to_string() }
    }

    /// What is wrong with the setting at `path`; `problem` goes on from its name: "must be…".
    pub fn at(path: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self { origin: None, path: Some(path.to_string()), problem: problem.to_string() }
    }

    /// The setting at fault, such as `upstreams.0.base_url`.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The same, where it was set.
    pub fn set_by(self, origin: impl Into<String>) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        if let Some(origin) = &self.origin {
            line.extend([origin, ": "]);
        }
        if let Some(path) = &self.path {
            line.extend(["`", path, "` "]);
        }
        line.push_str(&self.problem);
        // Whatever it quotes, it stays one line.
        f.write_str(&line.replace(char::is_control, " "))
    }
}

impl std::error::Error for ConfigError {}
