//! What is known in a conversation: what its creator and others say, and what is kept by itself.

use serde::Serialize;
use serde_json::{Map, Value};

use super::clock::Timestamp;

/// What is kept by itself, and nobody may say.
pub const KEPT: [&str; 4] = ["application_id", "user_id", "message_count", "last_message_at"];

/// What is known in a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Context {
    /// The application it is in.
    pub application_id: String,
    /// Whose it is.
    pub user_id: Option<String>,
    /// How many messages there are, in all branches.
    pub message_count: u64,
    /// When the last one came.
    pub last_message_at: Timestamp,
    /// What somebody said.
    #[serde(flatten)]
    pub said: Map<String, Value>,
}
