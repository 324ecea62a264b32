//! What a model call used, and where the figures come from.

use serde::{Deserialize, Serialize};

/// Where a usage comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The upstream said so.
    Reported,
    /// Counted here with a tokenizer, because the upstream did not say.
    Estimated,
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
