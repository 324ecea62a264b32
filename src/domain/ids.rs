//! Ids: a prefix that names the kind, then a UUIDv7 (RFC 9562, section 5.7) in lower-case hex.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::{NoContext, Timestamp as UuidTime, Uuid};

use super::clock::Timestamp;

fn text(prefix: &str, now: Timestamp) -> Arc<str> {
    let micros = now.as_micros().unsigned_abs();
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000;
    let uuid = Uuid::new_v7(UuidTime::from_unix(NoContext, micros / 1_000_000, nanos));
    format!("{prefix}_{}", uuid.simple()).into()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new id, made at `now`.
            pub fn new(now: Timestamp) -> Self {
                Self(text($prefix, now))
            }

            /// The id of this number.
            pub fn of(number: Uuid) -> Self {
                Self(format!(concat!($prefix, "_{}"), number.simple()).into())
            }

            /// The number in it; `None` for an id that this program did not make.
            pub fn uuid(&self) -> Option<Uuid> {
                Uuid::try_parse(self.0.strip_prefix(concat!($prefix, "_"))?).ok()
            }

            /// When it was made, to the millisecond; `None` for an id that this program did not make.
            pub fn made_at(&self) -> Option<Timestamp> {
                let (seconds, nanos) = self.uuid()?.get_timestamp()?.to_unix();
                let micros = seconds.checked_mul(1_000_000)?.checked_add(u64::from(nanos) / 1000)?;
                i64::try_from(micros).ok().map(Timestamp::from_micros)
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A conversation: `conv_…`.
    ConversationId = "conv";
    /// A turn: `turn_…`.
    TurnId = "turn";
    /// A message: `msg_…`.
    MessageId = "msg";
    /// A step of a turn: `step_…`.
    StepId = "step";
    /// A source of an answer: `src_…`.
    SourceId = "src";
    /// A visualization: `viz_…`.
    VisualizationId = "viz";
    /// An API key: `key_…`.
    KeyId = "key";
    /// A visitor: `vis_…`.
    VisitorId = "vis";
    /// One life of one process, as the leases know it: `rep_…`.
    ReplicaId = "rep";
    /// One HTTP request: `req_…`.
    RequestId = "req";
    /// The record of one call of a model: `use_…`.
    UsageId = "use";
    /// A row of the audit log: `aud_…`.
    AuditId = "aud";
    /// Who a person was, once they are forgotten: `gone_…`.
    GoneId = "gone";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_prefix_and_a_uuid_of_version_7() {
        let id = TurnId::new(Timestamp::from_micros(1_700_000_000_000_000));
        let uuid = id.uuid().unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(id.as_str(), format!("turn_{}", uuid.simple()));
        assert_eq!(id.made_at(), Some(Timestamp::from_micros(1_700_000_000_000_000)));
        assert_eq!((TurnId::from("turn_x").uuid(), TurnId::from("turn_x").made_at()), (None, None));
    }
}
