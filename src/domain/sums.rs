//! What calls of models used together.

use super::usage::{Basis, Usage};

/// The sums over calls. Unlike a turn's usage they go on where a cost is not known, and say of how many calls it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many calls.
    pub calls: u64,
    /// Tokens of the prompts, cached and written ones included.
    pub prompt_tokens: u64,
    /// Tokens of the completions, reasoning included.
    pub completion_tokens: u64,
    /// Of the prompts', those read from a provider's cache.
    pub cached_tokens: u64,
    /// Of the prompts', those written to a provider's cache.
    pub cache_write_tokens: u64,
    /// Of the completions', those spent on reasoning.
    pub reasoning_tokens: u64,
    /// What the calls cost whose price is known.
    pub cost_nano_usd: u64,
    /// Calls whose price is not known.
    pub unpriced_calls: u64,
    /// Calls whose figures were counted here.
    pub estimated_calls: u64,
}

impl Sums {
    /// The names of the fields, in their order: what they are called in the tables and in what is told.
    pub const NAMES: [&str; 9] = [
        "calls",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "cost_nano_usd",
        "unpriced_calls",
        "estimated_calls",
    ];

    /// The sums over one call.
    pub fn of(usage: &Usage) -> Self {
        Self {
            calls: 1,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cached_tokens: usage.cached_tokens.unwrap_or(0),
            cache_write_tokens: usage.cache_write_tokens.unwrap_or(0),
            reasoning_tokens: usage.reasoning_tokens.unwrap_or(0),
            cost_nano_usd: usage.cost_nano_usd.unwrap_or(0),
            unpriced_calls: u64::from(usage.cost_nano_usd.is_none()),
            estimated_calls: u64::from(usage.basis == Basis::Estimated),
        }
    }

    /// As a list, in the order of the fields.
    pub fn to_list(self) -> [u64; 9] {
        let Self {
            calls,
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens,
            cost_nano_usd,
            unpriced_calls,
            estimated_calls,
        } = self;
        [
            calls,
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens,
            cost_nano_usd,
            unpriced_calls,
            estimated_calls,
        ]
    }

    /// From such a list.
    pub fn from_list(list: [u64; 9]) -> Self {
        let [
            calls,
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens,
            cost_nano_usd,
            unpriced_calls,
            estimated_calls,
        ] = list;
        Self {
            calls,
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens,
            cost_nano_usd,
            unpriced_calls,
            estimated_calls,
        }
    }

    /// These and those.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sums = self.to_list();
        for (sum, part) in sums.iter_mut().zip(other.to_list()) {
            *sum = sum.saturating_add(part);
        }
        Self::from_list(sums)
    }
}
