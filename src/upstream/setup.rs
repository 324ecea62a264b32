//! Why an upstream cannot be set up.

use std::fmt;

/// A setting that is wrong or impossible. Its `Display` is one line that names the setting, such as
/// `upstreams.0.base_url: …`, and never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    setting: String,
    problem: String,
}

impl SetupError {
    /// What is wrong with a setting of one upstream, by its name below `upstreams.N`.
    pub(super) fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }

    /// The same, for the upstream at `index`.
    pub(super) fn of(self, index: usize) -> Self {
        Self { setting: format!("upstreams.{index}.{}", self.setting), problem: self.problem }
    }

    /// The setting, such as `upstreams.0.base_url`.
    pub fn setting(&self) -> &str {
        &self.setting
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.problem.replace(['\n', '\r'], " ");
        write!(f, "{}: {problem}", self.setting)
    }
}

impl std::error::Error for SetupError {}
