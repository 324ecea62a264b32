//! What a turn may come to use, before it has asked: an upper bound, as far as there is one.

use super::price::Price;
use super::quota::Foreseen;

/// What is known of a turn's call when it is admitted. No token is shorter than a byte, so bytes bound the prompt's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Foresight {
    /// Tokens of the prompt, without what was said before.
    pub prompt: u64,
    /// Tokens that stand around each message of what was said before.
    pub per_message: u64,
    /// Whether what was said before is read from the record.
    pub reads: bool,
    /// At most so many bytes of it.
    pub most_bytes: u64,
    /// The prompt has no more tokens than this.
    pub room: u64,
    /// Tokens of the answer.
    pub answer: u64,
    /// What the models cost that may be asked; the dearest counts.
    pub prices: Vec<Price>,
}

impl Foresight {
    /// What it comes to, after so many messages of so many bytes.
    pub fn of(&self, messages: u64, bytes: u64) -> Foreseen {
        let before = bytes.min(self.most_bytes).saturating_add(messages.saturating_mul(self.per_message));
        let prompt = self.prompt.saturating_add(before).min(self.room);
        let costs = self.prices.iter().map(|price| price.most(prompt, self.answer));
        Foreseen { tokens: prompt.saturating_add(self.answer), nano_usd: costs.max().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_no_more_tokens_than_bytes_and_than_there_is_room() {
        let foresight = Foresight {
            prompt: 100,
            per_message: 4,
            reads: true,
            most_bytes: 1000,
            room: 700,
            answer: 50,
            prices: Vec::new(),
        };
        assert_eq!(foresight.of(0, 0).tokens, 150);
        assert_eq!(foresight.of(10, 500).tokens, 100 + 500 + 40 + 50);
        assert_eq!(foresight.of(10, 5000).tokens, 700 + 50);
        assert_eq!(foresight.of(u64::MAX, u64::MAX).tokens, 750);
        assert_eq!(foresight.of(0, 0).nano_usd, 0, "what nobody knows the price of costs nothing");
    }
}
