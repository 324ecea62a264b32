//! Every bound of the program, by the name it has in the settings.

use std::time::Duration;

use serde::Deserialize;

/// Every bound of the program. Sizes are in bytes, times in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest request body.
    pub max_body_bytes: usize,
    /// The longest answer, reasoning included; then the turn ends as `length`.
    pub max_answer_bytes: u64,
    /// The longest turn; then it ends as `timeout`.
    pub max_turn_s: u64,
    /// The longest an upstream's connection may take to open.
    pub connect_s: u64,
    /// The longest an upstream may think before its first token.
    pub first_token_s: u64,
    /// The longest an upstream may be silent after that.
    pub idle_s: u64,
    /// Live turns of the process, queued ones included; beyond: 503 `too_many_turns`.
    pub max_live_turns: usize,
    /// Queued turns of a conversation; beyond: 429 `queue_full`.
    pub queued_turns: u32,
    /// Readers of a turn that has not ended, and followers of a conversation, on each replica; half of them at most may only read.
    /// Beyond: 503 `too_many_readers`.
    pub readers_per_turn: usize,
    /// A reader that takes no byte for so long is gone.
    pub reader_stall_s: u64,
    /// A turn's log and fold in memory; what is older and saved is read from the journal.
    pub turn_memory_bytes: usize,
    /// The longest an event may stay unsaved; then the turn ends as `failed`.
    pub unsaved_s: u64,
    /// Unsaved events of the whole process; beyond, turns end as `failed`.
    pub unsaved_bytes: usize,
    /// How long turns may go on after the process is told to stop.
    pub grace_s: u64,
    /// Between `/readyz` 503 and the closing of the listener.
    pub drain_delay_s: u64,
    /// The largest `metadata`, as JSON.
    pub metadata_bytes: usize,
    /// The largest `context`, as JSON.
    pub context_bytes: usize,
    /// The longest `config.instructions` of a conversation.
    pub instructions_bytes: usize,
    /// The most of a conversation, newest first, that is sent to a model.
    pub history_bytes: usize,
    /// The longest any one use of the database may take.
    pub database_s: u64,
    /// The longest event of an upstream's stream; beyond: `upstream_protocol`.
    pub upstream_event_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            max_answer_bytes: 32 << 20,
            max_turn_s: 1800,
            connect_s: 10,
            first_token_s: 120,
            idle_s: 60,
            max_live_turns: 10_000,
            queued_turns: 8,
            readers_per_turn: 2000,
            reader_stall_s: 60,
            turn_memory_bytes: 1 << 20,
            unsaved_s: 30,
            unsaved_bytes: 64 << 20,
            grace_s: 30,
            drain_delay_s: 0,
            metadata_bytes: 16 << 10,
            context_bytes: 64 << 10,
            instructions_bytes: 64 << 10,
            history_bytes: 4 << 20,
            database_s: 5,
            upstream_event_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// [`Limits::database_s`] as a duration.
    pub fn database(&self) -> Duration {
        Duration::from_secs(self.database_s)
    }

    /// [`Limits::unsaved_s`] as a duration.
    pub fn unsaved(&self) -> Duration {
        Duration::from_secs(self.unsaved_s)
    }
}
