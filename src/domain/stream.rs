//! How turns are shown and kept: the settings under `[stream]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::turn::{IfBusy, OnDisconnect};

/// When an event may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// At once; it is saved within 100 ms.
    Relaxed,
    /// Once it is saved, power cut or not.
    Strict,
}

/// How turns are shown and kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// When an event may be shown.
    pub durability: Durability,
    /// What becomes of a turn when its last reader leaves, where a request does not say.
    #[serde(deserialize_with = "on_disconnect")]
    pub on_disconnect: OnDisconnect,
    /// What becomes of a message to a busy conversation, where a request does not say.
    pub if_busy: IfBusy,
    /// Seconds between two signs of life on an open stream.
    pub heartbeat_s: u64,
    /// Seconds after a turn's end for which its events, and its idempotency key, are kept.
    pub retention_s: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            durability: Durability::Relaxed,
            on_disconnect: OnDisconnect::Continue,
            if_busy: IfBusy::Reject,
            heartbeat_s: 10,
            retention_s: 86_400,
        }
    }
}

impl Stream {
    /// [`Stream::heartbeat_s`] as a duration.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_s)
    }
}

fn on_disconnect<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OnDisconnect, D::Error> {
    let text = String::deserialize(deserializer)?;
    OnDisconnect::parse(&text)
        .ok_or_else(|| serde::de::Error::custom("must be `continue`, `cancel` or `grace:SECONDS`"))
}
