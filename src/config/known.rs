//! Well-known models: what they cost and how much they read, from a file that is built in. It says where its figures are from, and of which day.

use serde::Deserialize;
use toml::Table;

use crate::domain::price::Price;

const FILE: &str = include_str!("known.toml");

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    pages: Vec<Page>,
}

/// Models of one maker's page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), expect(dead_code, reason = "where figures are from is for people"))]
struct Page {
    page: String,
    as_of: String,
    seen: String,
    models: Vec<Table>,
}

/// How many tokens a model reads.
const CONTEXT: &str = "context_tokens";

fn file() -> File {
    // A test reads it.
    toml::from_str(FILE).unwrap_or_default()
}

/// What they cost.
pub fn prices() -> Vec<Price> {
    let models = file().pages.into_iter().flat_map(|page| page.models);
    let priced = models.filter_map(|mut model| {
        model.remove(CONTEXT);
        Price::deserialize(model).ok()
    });
    priced.collect()
}

/// How many tokens they read, where that is known, by pattern.
pub fn windows() -> Vec<(String, u64)> {
    let models = file().pages.into_iter().flat_map(|page| page.models);
    let known = models.filter_map(|model| {
        let tokens = u64::try_from(model.get(CONTEXT)?.as_integer()?).ok()?;
        Some((model.get("model")?.as_str()?.to_owned(), tokens))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::price::{DEAREST, Prices};

    #[test]
    fn every_model_has_a_price_that_can_be_read_and_a_page_and_a_day() {
        let file: File = toml::from_str(FILE).unwrap();
        let models: usize = file.pages.iter().map(|page| page.models.len()).sum();
        assert_eq!(prices().len(), models);
        assert_eq!(windows().len(), models - 1, "all but the demo");
        for page in &file.pages {
            assert!(page.page == "built in" || page.page.starts_with("https://"), "{}", page.page);
            assert!(page.as_of.parse::<jiff::civil::Date>().is_ok(), "{}", page.as_of);
            assert!(["itself", "by others"].contains(&page.seen.as_str()), "{}", page.seen);
        }
        for price in prices() {
            assert!(globset::Glob::new(&price.model).is_ok(), "{}", price.model);
            assert!(price.prompt_nano_usd_per_mtok <= price.completion_nano_usd_per_mtok, "{}", price.model);
            assert!(price.completion_nano_usd_per_mtok <= DEAREST, "{}", price.model);
            assert!(price.cached_nano_usd_per_mtok.is_none_or(|cached| cached < price.prompt_nano_usd_per_mtok));
        }
    }

    #[test]
    fn a_dated_name_costs_what_the_model_costs_and_a_sibling_does_not() {
        let prices = Prices::new(&[], &prices());
        let now = serde_json::from_str("\"2026-11-28T00:00:00Z\"").unwrap();
        let prompt = |name: &str| prices.of(&[name], now).map(|price| price.prompt_nano_usd_per_mtok);
        assert_eq!(prompt("gpt-4o"), Some(2_500_000_000));
        assert_eq!(prompt("gpt-4o-2024-08-06"), Some(2_500_000_000));
        assert_eq!(prompt("gpt-4o-mini-2024-07-18"), Some(150_000_000));
        assert_eq!(prompt("claude-sonnet-4-5-20250929"), Some(3_000_000_000));
        assert_eq!((prompt("demo"), prompt("gpt-4o-audio-preview"), prompt("llama")), (Some(0), None, None));
    }
}
