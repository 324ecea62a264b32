//! A call of a model that is over, as it is counted and traced.

use std::time::Duration;

use super::usage::Usage;

/// The one operation there is, by OpenTelemetry's name (`gen_ai.operation.name`).
pub const CHAT: &str = "chat";

/// Stands for what has no name of its own, as in OpenTelemetry's conventions.
pub const OTHER: &str = "_OTHER";

/// One call of a model, from the request to its end.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// The upstream's name in the settings.
    pub upstream: &'a str,
    /// Which provider it speaks as, by OpenTelemetry's name (`gen_ai.provider.name`).
    pub provider: &'static str,
    /// The model, by our name for it.
    pub model: &'a str,
    /// How long it took.
    pub duration: Duration,
    /// From the request to the first delta or reasoning.
    pub first_chunk: Option<Duration>,
    /// What it used, where it was taken.
    pub usage: Option<Usage>,
    /// How the upstream failed: a name from a fixed list.
    pub fault: Option<&'static str>,
    /// What went wrong, with the upstream or here: the same, or another name from a fixed list.
    pub error: Option<&'static str>,
}
