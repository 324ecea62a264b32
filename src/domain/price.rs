//! What a model's tokens cost. Money is whole nano-USD: there is no float on the way from a price to a cost.

use std::collections::HashMap;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer};

use super::clock::Timestamp;
use super::pattern::narrowness;
use super::usage::Usage;

/// The dearest price that can be set: with it the greatest cost of one call ([`super::usage::MOST_TOKENS`]) is far from
/// where sums over a day overflow.
pub const DEAREST: u64 = 10_000_000_000_000;

const MILLION: u128 = 1_000_000;

/// What a million tokens of a model cost from a day on, in nano-USD.
///
/// Providers count cached tokens, and those written to the cache, among the prompt's, and reasoning among the
/// completion's (`prompt_tokens_details`, `completion_tokens_details`: platform.openai.com/docs/api-reference/chat/object;
/// reasoning is billed as output: platform.openai.com/docs/guides/reasoning). So each token has one class here: the
/// prompt's price is for what is left of the prompt without its cached and written ones, the completion's for what is left
/// of the completion without reasoning.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The models it is for: a name, or a glob.
    pub model: String,
    /// The day from whose beginning, in UTC, it holds.
    #[serde(deserialize_with = "day")]
    pub valid_from: Timestamp,
    /// Of the prompt.
    pub prompt_nano_usd_per_mtok: u64,
    /// Of the completion.
    pub completion_nano_usd_per_mtok: u64,
    /// Of what is read from the provider's cache; the prompt's when absent.
    pub cached_nano_usd_per_mtok: Option<u64>,
    /// Of what is written to the provider's cache; the prompt's when absent.
    pub cache_write_nano_usd_per_mtok: Option<u64>,
    /// Of reasoning; the completion's when absent.
    pub reasoning_nano_usd_per_mtok: Option<u64>,
}

impl Price {
    /// What a call costs, in nano-USD. The classes are added up first, and rounded once: half of a nano-USD goes up.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let cached = usage.cached_tokens.unwrap_or(0).min(usage.prompt_tokens);
        let written = usage.cache_write_tokens.unwrap_or(0).min(usage.prompt_tokens - cached);
        let reasoning = usage.reasoning_tokens.unwrap_or(0).min(usage.completion_tokens);
        let (prompt, completion) = (self.prompt_nano_usd_per_mtok, self.completion_nano_usd_per_mtok);
        let classes = [
            (usage.prompt_tokens - cached - written, prompt),
            (cached, self.cached_nano_usd_per_mtok.unwrap_or(prompt)),
            (written, self.cache_write_nano_usd_per_mtok.unwrap_or(prompt)),
            (usage.completion_tokens - reasoning, completion),
            (reasoning, self.reasoning_nano_usd_per_mtok.unwrap_or(completion)),
        ];
        let parts = classes.into_iter().map(|(tokens, price)| u128::from(tokens) * u128::from(price));
        let whole = parts.fold(MILLION / 2, u128::saturating_add) / MILLION;
        // What the databases hold.
        u64::try_from(whole).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
    }
}

impl Price {
    /// What a call costs at most that has so many tokens, whatever class they turn out to be of, in nano-USD.
    pub fn most(&self, prompt: u64, completion: u64) -> u64 {
        let dearest = |plain: u64, others: &[Option<u64>]| others.iter().flatten().copied().fold(plain, u64::max);
        let of_prompt = dearest(
            self.prompt_nano_usd_per_mtok,
            &[self.cached_nano_usd_per_mtok, self.cache_write_nano_usd_per_mtok],
        );
        let of_completion = dearest(self.completion_nano_usd_per_mtok, &[self.reasoning_nano_usd_per_mtok]);
        let parts = [(prompt, of_prompt), (completion, of_completion)];
        let parts = parts.into_iter().map(|(tokens, price)| u128::from(tokens) * u128::from(price));
        let whole = parts.fold(0, u128::saturating_add);
        u64::try_from(whole.div_ceil(MILLION)).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
    }
}

/// The prices of one server.
#[derive(Debug, Default)]
pub struct Prices {
    own: List,
    known: List,
}

impl Prices {
    /// Those of the settings, and behind them those of well-known models. A pattern that is no glob fits nothing.
    pub fn new(own: &[Price], known: &[Price]) -> Self {
        Self { own: List::new(own), known: List::new(known) }
    }

    /// What holds for a call of a model at a moment, by the first of its `names` for which there is anything.
    ///
    /// The settings come first, then the well-known models; in each, a name comes before globs and a narrower glob before
    /// a wider one. Of the same pattern the latest holds that is valid by then.
    pub fn of(&self, names: &[&str], at: Timestamp) -> Option<&Price> {
        [&self.own, &self.known].into_iter().find_map(|list| names.iter().find_map(|name| list.of(name, at)))
    }
}

/// Prices from one place, the one that holds first.
#[derive(Debug, Default)]
struct List {
    names: HashMap<String, Vec<Price>>,
    globs: GlobSet,
    patterns: Vec<Price>,
}

impl List {
    fn new(prices: &[Price]) -> Self {
        let mut sorted: Vec<&Price> = prices.iter().collect();
        sorted.sort_by_key(|price| std::cmp::Reverse((narrowness(&price.model), price.valid_from)));
        let (mut list, mut globs) = (Self::default(), GlobSetBuilder::new());
        for price in sorted {
            if narrowness(&price.model).0 {
                list.names.entry(price.model.clone()).or_default().push(price.clone());
            } else if let Ok(glob) = Glob::new(&price.model) {
                globs.add(glob);
                list.patterns.push(price.clone());
            }
        }
        list.globs = globs.build().unwrap_or_default();
        list
    }

    fn of(&self, model: &str, at: Timestamp) -> Option<&Price> {
        let by_name = self.names.get(model).into_iter().flatten();
        by_name.chain(self.fitting(model)).find(|price| price.valid_from <= at)
    }

    /// The patterns that fit, by rank. They are looked for only once no name is left to try.
    fn fitting(&self, model: &str) -> impl Iterator<Item = &Price> {
        let model = model.to_owned();
        std::iter::once_with(move || self.globs.matches(model)).flatten().filter_map(|at| self.patterns.get(at))
    }
}

/// The beginning of a day, in UTC.
fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let day: jiff::civil::Date =
        text.parse().map_err(|_| serde::de::Error::custom("must be a day, such as 2026-01-31"))?;
    let begin = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(serde::de::Error::custom)?;
    Ok(Timestamp::from_micros(begin.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::usage::{Basis, MOST_TOKENS};

    fn price(model: &str, valid_from: &str, prompt: u64) -> Price {
        let fields = json!({
            "model": model, "valid_from": valid_from, "prompt_nano_usd_per_mtok": prompt,
            "completion_nano_usd_per_mtok": 10 * prompt,
        });
        serde_json::from_value(fields).unwrap()
    }

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            cached_tokens: None,
            cache_write_tokens: None,
            reasoning_tokens: None,
            cost_nano_usd: None,
            basis: Basis::Reported,
        }
    }

    fn at(day: &str) -> Timestamp {
        serde_json::from_value(json!(format!("{day}T00:00:00Z"))).unwrap()
    }

    #[test]
    fn half_a_nano_goes_up_and_all_classes_are_rounded_as_one() {
        let of = |nano| price("m", "2026-01-01", nano);
        assert_eq!(of(2_500_000_000).cost(&usage(1000, 100)), 2_500_000 + 2_500_000);
        for (nano, tokens, cost) in [(1, 499_999, 0), (1, 500_000, 1), (1, 1_499_999, 1), (3, 500_000, 2), (1, 0, 0)] {
            assert_eq!(of(nano).cost(&usage(tokens, 0)), cost, "{tokens} at {nano}");
        }
        // Four tenths of a nano-USD each, which alone would be none.
        let fractions = Price { completion_nano_usd_per_mtok: 1, ..of(1) };
        assert_eq!(fractions.cost(&usage(400_000, 400_000)), 1);
    }

    #[test]
    fn no_token_is_paid_for_twice() {
        let plain = price("m", "2026-01-01", 1_000_000);
        let dear = Price {
            cached_nano_usd_per_mtok: Some(100_000),
            cache_write_nano_usd_per_mtok: Some(1_250_000),
            reasoning_nano_usd_per_mtok: Some(20_000_000),
            ..plain.clone()
        };
        let whole = Usage {
            cached_tokens: Some(600),
            cache_write_tokens: Some(300),
            reasoning_tokens: Some(40),
            ..usage(1000, 50)
        };
        assert_eq!(dear.cost(&whole), 100 + 60 + 375 + 100 + 800);
        assert!(dear.most(1000, 50) >= dear.cost(&whole) && plain.most(1000, 50) == 1000 + 500);
        assert_eq!(plain.cost(&whole), 1000 + 500, "a class without a price of its own has that of what it is part of");
        // What an upstream counts beyond the whole is not there.
        let odd = Usage { cached_tokens: Some(9000), cache_write_tokens: Some(9), reasoning_tokens: Some(90), ..whole };
        assert_eq!(dear.cost(&odd), 100 + 1000);
    }

    #[test]
    fn the_greatest_cost_fits() {
        let dearest = price("m", "2026-01-01", DEAREST / 10);
        let cost = dearest.cost(&usage(MOST_TOKENS, MOST_TOKENS));
        assert!(cost < i64::MAX.unsigned_abs() / 4000, "{cost}");
        let beyond = Price { prompt_nano_usd_per_mtok: u64::MAX, completion_nano_usd_per_mtok: u64::MAX, ..dearest };
        assert_eq!(beyond.cost(&usage(u64::MAX, u64::MAX)), i64::MAX.unsigned_abs());
    }

    #[test]
    fn the_narrowest_and_then_the_latest_that_is_valid_holds() {
        let own = [
            price("gpt-*", "2026-05-01", 1),
            price("gpt-4o*", "2026-01-01", 2),
            price("gpt-4o*", "2026-03-01", 3),
            price("gpt-4o-mini", "2026-02-01", 4),
        ];
        let known = [price("gpt-4o", "2025-01-01", 5), price("*", "2025-01-01", 6), price("theirs", "2025-01-01", 7)];
        let prices = Prices::new(&own, &known);
        let held = |names: &[&str], day: &str| prices.of(names, at(day)).map(|price| price.prompt_nano_usd_per_mtok);
        assert_eq!(held(&["gpt-4o"], "2025-12-31"), Some(5), "the settings have none that is valid yet");
        assert_eq!(held(&["gpt-4o"], "2026-01-01"), Some(2), "it holds from the day's beginning");
        assert_eq!(held(&["gpt-4o"], "2026-03-01"), Some(3));
        assert_eq!(held(&["gpt-4o"], "2026-06-01"), Some(3), "a later one for more models does not count");
        assert_eq!(held(&["gpt-4o-mini"], "2026-06-01"), Some(4));
        assert_eq!(held(&["gpt-4o-mini"], "2026-01-15"), Some(2));
        assert_eq!(held(&["gpt-5"], "2026-06-01"), Some(1));
        assert_eq!(held(&["ours", "theirs"], "2026-06-01"), Some(6), "our name first, if there is anything for it");
        assert_eq!(held(&["x"], "2024-06-01"), None);
    }

    #[test]
    fn valid_from_is_a_day() {
        let read = |day: &str| {
            serde_json::from_value::<Price>(json!({
                "model": "m", "valid_from": day, "prompt_nano_usd_per_mtok": 1, "completion_nano_usd_per_mtok": 1,
            }))
        };
        assert_eq!(read("2026-01-31").unwrap().valid_from.to_string(), "2026-01-31T00:00:00.000000Z");
        for day in ["2026-02-30", "soon", "", "2026"] {
            assert!(read(day).unwrap_err().to_string().contains("must be a day"), "{day}");
        }
    }
}
