//! How many tokens a text is, where no upstream says.
//!
//! Counted with OpenAI's `o200k_base`; other models cut differently, which is why such a usage is `estimated`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Line;

/// Texts up to this many bytes are counted; of longer ones as much is counted, in pieces from all over the text, and
/// the rest taken in proportion.
const COUNTED_BYTES: usize = 1 << 20;
/// The pieces are at least so long, unless there is less to count.
const PIECE_BYTES: usize = 64 << 10;
/// What stands around a message: three marks and the speaker's name (OpenAI cookbook, "How to count tokens with
/// tiktoken").
const TOKENS_PER_LINE: u64 = 4;
/// What leads over to the answer.
const TOKENS_PER_PROMPT: u64 = 3;
/// Texts of fewer bytes are counted in less time than it takes to look them up.
const REMEMBERED_BYTES: usize = 512;
/// Half of how many counts are remembered, some 24 bytes each.
const REMEMBERED: usize = 32_768;

/// The tokens of a text. However long it is this takes a tenth of a second at most (0.14 s for 32 MiB, unoptimised);
/// the first call loads the vocabulary.
pub fn count(text: &str) -> u64 {
    count_within(text, COUNTED_BYTES)
}

/// The tokens of a prompt, marks between its messages included.
pub fn count_prompt(lines: &[Line]) -> u64 {
    let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
    let texts = lines.iter().map(|line| {
        // Each message gets its share of what may be counted.
        let share =
            if bytes <= COUNTED_BYTES { line.text.len() } else { scaled(line.text.len(), COUNTED_BYTES, bytes) };
        count_within(&line.text, share)
    });
    prompt(texts.sum(), lines.len())
}

/// So many lines whose texts have so many tokens.
pub fn lines(tokens: u64, lines: usize) -> u64 {
    tokens.saturating_add(TOKENS_PER_LINE * lines as u64)
}

/// The same as a prompt.
pub fn prompt(tokens: u64, lines: usize) -> u64 {
    self::lines(tokens, lines).saturating_add(TOKENS_PER_PROMPT)
}

/// Counts that are remembered: the messages of a conversation are counted again with each turn. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    hasher: RandomState,
    /// Those of late, and those before: when the first are many they take the place of the second.
    counts: Mutex<(HashMap<Key, u64>, HashMap<Key, u64>)>,
}

/// A text's hash and length.
type Key = (u64, usize);

impl Counts {
    /// The tokens of a text, as [`count`] has them.
    pub fn count(&self, text: &str) -> u64 {
        if text.len() < REMEMBERED_BYTES {
            return count(text);
        }
        let key = (self.0.hasher.hash_one(text), text.len());
        let known = {
            let counts = self.0.counts.lock();
            counts.0.get(&key).or_else(|| counts.1.get(&key)).copied()
        };
        let tokens = known.unwrap_or_else(|| count(text));
        let mut counts = self.0.counts.lock();
        if counts.0.len() >= REMEMBERED {
            counts.1 = std::mem::take(&mut counts.0);
        }
        counts.0.insert(key, tokens);
        tokens
    }
}

fn count_within(text: &str, budget: usize) -> u64 {
    if text.len() <= budget {
        return bpe_openai::o200k_base().count(text) as u64;
    }
    let pieces = (budget / PIECE_BYTES).max(1);
    let (mut bytes, mut tokens) = (0, 0);
    for piece in 0..pieces {
        let start = text.floor_char_boundary(scaled(text.len(), piece, pieces));
        let end = text.ceil_char_boundary((start + budget / pieces).min(text.len()));
        bytes += end - start;
        tokens += bpe_openai::o200k_base().count(&text[start..end]);
    }
    scaled(text.len(), tokens, bytes.max(1)) as u64
}

/// `whole * part / parts` without overflow.
fn scaled(whole: usize, part: usize, parts: usize) -> usize {
    usize::try_from(whole as u128 * part as u128 / parts as u128).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::upstream::Speaker;

    fn line(text: &str) -> Line {
        Line { speaker: Speaker::User, text: text.to_owned() }
    }

    #[test]
    fn a_text_is_counted_as_its_model_would() {
        assert_eq!((count(""), count("hello world"), count("😀")), (0, 2, 1));
        assert_eq!(count_prompt(&[line("hello world"), line("hello")]), 2 + 1 + 2 * 4 + 3);
    }

    #[test]
    fn what_was_counted_is_remembered_and_no_more_than_so_much() {
        let counts = Counts::default();
        let text = "The tide comes in. ".repeat(100);
        assert_eq!(counts.count(&text), count(&text));
        for number in 0..3 * REMEMBERED {
            counts.0.counts.lock().0.insert((number as u64, 0), 1);
            counts.count(&text);
        }
        let held = {
            let (late, before) = &*counts.0.counts.lock();
            late.len() + before.len()
        };
        assert!(held <= 2 * REMEMBERED + 2, "{held}");
        assert_eq!(counts.count(&text), count(&text));
    }

    #[test]
    fn a_huge_text_is_estimated_closely_and_at_once() {
        count("load the vocabulary");
        let sentence = "The tide comes in at 06:42 and carries 12 boats past the gate. Ebbe und Flut, 潮の満ち引き. ";
        let huge = sentence.repeat((32 << 20) / sentence.len());
        let start = Instant::now();
        let counted = count(&huge);
        let took = start.elapsed();
        let exact = count(&sentence.repeat(1000)) * huge.len() as u64 / (1000 * sentence.len() as u64);
        assert!(counted.abs_diff(exact) * 50 < exact, "{counted} is not near {exact}");
        assert!(took < Duration::from_secs(20), "took {took:?}");
        let halves = [line(&huge[..huge.len() / 2]), line("hello"), line(&huge[huge.len() / 2..])];
        assert!(count_prompt(&halves).abs_diff(exact) * 50 < exact);
    }

    #[test]
    fn a_text_without_any_break_is_no_slower() {
        count("load the vocabulary");
        let start = Instant::now();
        assert!(count(&" ".repeat(32 << 20)) > 0);
        assert!(count(&"é".repeat(16 << 20)) > 0);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(20), "took {took:?}");
    }
}
