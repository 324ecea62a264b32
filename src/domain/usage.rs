//! What a model call used, and where the figures come from.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{StepId, UsageId};
use super::turn::Status;

/// No call uses more tokens of a kind: a figure beyond is none, and sums of figures stay far from where a database's
/// integers end.
pub const MOST_TOKENS: u64 = 100_000_000;

/// Where a usage comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The upstream said so.
    Reported,
    /// Counted here with a tokenizer, because the upstream did not say.
    Estimated,
}

impl Basis {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Estimated => "estimated",
        }
    }
}

/// Tokens of one model call, or the sums over a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of the completion, reasoning included.
    pub completion_tokens: u64,
    /// Of the prompt's, those read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Of the prompt's, those written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Of the completion's, those spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Cost in nano-USD; absent where no price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_nano_usd: Option<u64>,
    /// Where the figures come from.
    pub basis: Basis,
}

impl Usage {
    /// Whether a call can have used so much. What an upstream says is not always so.
    pub fn is_believable(&self) -> bool {
        let parts = [self.cached_tokens, self.cache_write_tokens, self.reasoning_tokens];
        let all = [self.prompt_tokens, self.completion_tokens].into_iter().chain(parts.into_iter().flatten());
        all.into_iter().all(|tokens| tokens <= MOST_TOKENS)
    }

    /// The sum of two: `estimated` if either is, without a cost if either has none.
    pub fn plus(self, other: Self) -> Self {
        let either = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self.completion_tokens.saturating_add(other.completion_tokens),
            cached_tokens: either(self.cached_tokens, other.cached_tokens),
            cache_write_tokens: either(self.cache_write_tokens, other.cache_write_tokens),
            reasoning_tokens: either(self.reasoning_tokens, other.reasoning_tokens),
            cost_nano_usd: self.cost_nano_usd.zip(other.cost_nano_usd).map(|(a, b)| a.saturating_add(b)),
            basis: if self.basis == Basis::Reported { other.basis } else { Basis::Estimated },
        }
    }
}

/// What one call of a model used, as its event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The call.
    pub step_id: StepId,
    /// The model that was asked.
    pub model: String,
    /// The figures.
    pub usage: Usage,
}

/// One call of a model that an upstream took, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: UsageId,
    /// What it used.
    pub counted: Counted,
    /// The model that answered, by the upstream's name for it, if it said so.
    pub answered_by: Option<String>,
    /// The upstream's name in the settings; unknown after a crash.
    pub upstream: Option<String>,
    /// How it ended, as a turn does.
    pub ended: Status,
    /// From the request to the first delta or reasoning, in milliseconds; unknown after a crash.
    pub first_token_ms: Option<u64>,
    /// From the request to its end, in milliseconds; unknown where a crash cut it.
    pub duration_ms: Option<u64>,
    /// When it was made: it costs what holds then, and counts in that day.
    pub created_at: Timestamp,
}
