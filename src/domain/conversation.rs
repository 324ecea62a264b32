//! A conversation and its configuration.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::Timestamp;
use super::ids::{ConversationId, TurnId};

/// The title of a conversation that has none of its own.
pub const UNTITLED: &str = "New conversation";

/// How a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Takes messages.
    Active,
    /// Takes none until it is resumed.
    Paused,
    /// Over.
    Ended,
}

impl State {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Ended].into_iter().find(|state| state.as_str() == name)
    }
}

/// What is done with a conversation as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is put away, for this reason.
    Archive(Option<String>),
    /// It is fetched back.
    Unarchive,
    /// It takes no messages until it is resumed.
    Pause,
    /// It takes messages again.
    Resume,
    /// It is over.
    End,
}

/// How long a conversation may be silent before it has expired, seen from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    now: Timestamp,
    /// In microseconds; `None` = for ever.
    longest: Option<i64>,
}

impl Silence {
    /// Silence of `longest_s` seconds, seen from `now`; 0 = for ever.
    pub fn new(now: Timestamp, longest_s: u64) -> Self {
        let longest = (longest_s > 0).then(|| i64::try_from(longest_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
        Self { now, longest }
    }

    /// The time it is seen from.
    pub fn now(self) -> Timestamp {
        self.now
    }

    /// What was last active then, or before, has been silent for too long.
    pub fn since(self) -> Timestamp {
        Timestamp::from_micros(self.longest.map_or(0, |longest| self.now.as_micros().saturating_sub(longest)))
    }

    /// When what was last active then will have been silent for too long; `None` = never.
    pub fn ends(self, active_at: Timestamp) -> Option<Timestamp> {
        self.longest.map(|longest| Timestamp::from_micros(active_at.as_micros().saturating_add(longest)))
    }

    /// How a conversation stands by now that stood like this, and when it expires, or did. One with a live turn is not
    /// silent, and one that is paused waits.
    pub fn judge(self, state: State, live: bool, active_at: Timestamp, expired: bool) -> (State, Option<Timestamp>) {
        match state {
            State::Active if live => (State::Active, self.ends(active_at.max(self.now))),
            State::Active => {
                let over = self.longest.is_some() && active_at <= self.since();
                (if over { State::Ended } else { State::Active }, self.ends(active_at))
            }
            State::Paused => (State::Paused, None),
            State::Ended => (State::Ended, if expired { self.ends(active_at) } else { None }),
        }
    }
}

/// What a conversation asks of its models; an absent field is not sent upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model, where a message names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether answers draw on the application's documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_rag: Option<bool>,
    /// The longest a turn may take, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its title.
    pub title: String,
    /// How it stands.
    pub state: State,
    /// When it was put away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<Timestamp>,
    /// Why, where somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_reason: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the last message came; its making, before any.
    pub last_message_at: Timestamp,
    /// When silence ends it, or has ended it; absent where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What it asks of its models.
    pub config: Config,
    /// What the client keeps with it.
    pub metadata: Value,
    /// The turn that has the conversation now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_turn_id: Option<TurnId>,
}

impl Conversation {
    /// Whether it is to its readers what the other is: the same but for what its turns and the time change.
    pub fn reads_like(&self, other: &Self) -> bool {
        let Self { title, state, archived_at, archive_reason, config, metadata, .. } = self;
        (title, state, archived_at, archive_reason, config, metadata)
            == (&other.title, &other.state, &other.archived_at, &other.archive_reason, &other.config, &other.metadata)
    }
}

impl Conversation {
    /// As those see it who may not read what its models are told beforehand, unless `instructed`.
    #[must_use]
    pub fn seen(mut self, instructed: bool) -> Self {
        if !instructed {
            self.config.instructions = None;
        }
        self
    }
}

/// A title made of a message: its first 60 characters.
pub fn title_of(message: &str) -> String {
    let title: String = message.chars().take(60).collect();
    if title.trim().is_empty() { UNTITLED.to_owned() } else { title }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn silence_ends_what_is_active_and_has_no_live_turn() {
        let silence = Silence::new(at(100), 10);
        let judge = |state, live, active| silence.judge(state, live, at(active), false);
        assert_eq!(judge(State::Active, false, 91), (State::Active, Some(at(101))));
        assert_eq!(judge(State::Active, false, 90), (State::Ended, Some(at(100))));
        assert_eq!(judge(State::Active, true, 5), (State::Active, Some(at(110))));
        assert_eq!(judge(State::Paused, false, 5), (State::Paused, None));
        assert_eq!(judge(State::Ended, false, 5), (State::Ended, None));
        assert_eq!(silence.judge(State::Ended, false, at(5), true), (State::Ended, Some(at(15))));
        let never = Silence::new(at(100), 0);
        assert_eq!(never.judge(State::Active, false, at(1), false), (State::Active, None));
        assert_eq!(never.since(), at(0));
        assert_eq!(Silence::new(at(100), u64::MAX).judge(State::Active, false, at(1), false).0, State::Active);
    }
}
