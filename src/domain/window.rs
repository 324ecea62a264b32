//! How much a model reads: the settings under `[window]`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use serde::Deserialize;

use super::pattern::narrowness;

/// How much of a conversation a model is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// The tokens of a call, prompt and answer together, of a model of which nothing else is known.
    pub tokens: u64,
    /// The same by model: a name or a glob.
    pub models: BTreeMap<String, u64>,
    /// Of these, what is kept free for an answer that has no `max_tokens`; at most a quarter of them.
    pub answer_tokens: u64,
    /// The model that summarises what is not sent any more; absent: it is left out without.
    pub summary_model: Option<String>,
}

impl Default for Window {
    fn default() -> Self {
        Self { tokens: 128_000, models: BTreeMap::new(), answer_tokens: 4096, summary_model: None }
    }
}

/// The windows of models, as the settings and what is known of them tell.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// Which tell first comes first.
    patterns: Vec<(GlobMatcher, u64)>,
    usual: u64,
    answer: u64,
}

impl Windows {
    /// Those of the settings, before those of well-known models. A pattern that is no glob fits nothing.
    pub fn new(window: &Window, known: &[(String, u64)]) -> Self {
        let own = window.models.iter().map(|(pattern, tokens)| (pattern, *tokens));
        let known = known.iter().map(|(pattern, tokens)| (pattern, *tokens));
        let mut all: Vec<_> = own.map(|own| (true, own)).chain(known.map(|known| (false, known))).collect();
        all.sort_by_key(|(own, (pattern, _))| Reverse((*own, narrowness(pattern))));
        let patterns = all
            .into_iter()
            .filter_map(|(_, (pattern, tokens))| Some((Glob::new(pattern).ok()?.compile_matcher(), tokens)));
        Self { patterns: patterns.collect(), usual: window.tokens, answer: window.answer_tokens }
    }

    /// The tokens of a call of a model, by the first of its `names` of which there is anything.
    pub fn of(&self, names: &[&str]) -> u64 {
        let of = |name: &&str| self.patterns.iter().find(|(glob, _)| glob.is_match(name)).map(|(_, tokens)| *tokens);
        names.iter().find_map(of).unwrap_or(self.usual)
    }

    /// What of them there is for the prompt, beside an answer of at most `max_tokens`.
    pub fn room(&self, names: &[&str], max_tokens: Option<u32>) -> u64 {
        let window = self.of(names);
        let answer = max_tokens.map_or(self.answer.min(window / 4), u64::from);
        window.saturating_sub(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_pattern_tells_and_the_settings_before_what_is_known() {
        let models = [("gpt-*", 10), ("gpt-4o", 20), ("theirs", 30)].map(|(name, tokens)| (name.to_owned(), tokens));
        let window = Window { tokens: 1000, models: models.into(), answer_tokens: 100, summary_model: None };
        let windows = Windows::new(&window, &[("{gpt-4o,llama}".to_owned(), 40), ("gpt-5".to_owned(), 50)]);
        for (names, tokens) in [
            (["gpt-4o", ""], 20),
            (["gpt-5", ""], 10),
            (["llama", ""], 40),
            (["ours", "theirs"], 30),
            (["other", "other"], 1000),
        ] {
            assert_eq!(windows.of(&names), tokens, "{names:?}");
        }
    }

    #[test]
    fn an_answer_without_a_length_has_at_most_a_quarter() {
        let windows = Windows::new(&Window { tokens: 1000, answer_tokens: 300, ..Window::default() }, &[]);
        assert_eq!(windows.room(&["m"], None), 750);
        assert_eq!(windows.room(&["m"], Some(900)), 100);
        assert_eq!(windows.room(&["m"], Some(5000)), 0);
    }
}
