//! Well-known models: what they cost and how much they read, from a file that is built in. It says where its figures are from, and of which day.

use serde::Deserialize;
use toml::Table;

use crate::domain::price::Price;

const FILE: &str = include_str!("known.toml");

#[derive(Deserialize)]
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

/// What is known of well-known models.
#[derive(Debug)]
pub struct Known {
    /// What they cost.
    pub prices: Vec<Price>,
    /// How many tokens they read, where that is known, by pattern.
    pub windows: Vec<(String, u64)>,
}

impl Known {
    /// Reads the file.
    ///
    /// # Errors
    /// A line that names the file's line, or the model, that cannot be read: nothing starts with it.
    pub fn read() -> Result<Self, String> {
        Self::of(FILE)
    }

    fn of(text: &str) -> Result<Self, String> {
        let wrong = |at: &str, what: &str| format!("known.toml: {at}: {what}");
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            wrong(&format!("line {}", before.matches('\n').count() + 1), error.message())
        })?;
        let mut known = Self { prices: Vec::new(), windows: Vec::new() };
        for mut model in file.pages.into_iter().flat_map(|page| page.models) {
            let name = model.get("model").and_then(toml::Value::as_str).unwrap_or("a model without a name").to_owned();
            if let Some(tokens) = model.remove(CONTEXT) {
                let tokens = tokens.as_integer().and_then(|tokens| u64::try_from(tokens).ok());
                let tokens = tokens.ok_or_else(|| wrong(&name, "`context_tokens` is no number of tokens"))?;
                known.windows.push((name.clone(), tokens));
            }
            known.prices.push(Price::deserialize(model).map_err(|error| wrong(&name, error.message()))?);
        }
        Ok(known)
    }
}

/// What they cost. The settings were checked with the file, and would have been refused.
pub fn prices() -> Vec<Price> {
    Known::read().map(|known| known.prices).unwrap_or_default()
}

/// How many tokens they read. The same is true of it.
pub fn windows() -> Vec<(String, u64)> {
    Known::read().map(|known| known.windows).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::price::{DEAREST, Prices};

    #[test]
    fn every_model_has_a_price_that_can_be_read_and_a_page_and_a_day() {
        let file: File = toml::from_str(FILE).unwrap();
        let models: usize = file.pages.iter().map(|page| page.models.len()).sum();
        let Known { prices, windows } = Known::read().unwrap();
        assert_eq!((prices.len(), windows.len()), (models, models - 1), "all but the demo have a window");
        for page in &file.pages {
            assert!(page.page == "built in" || page.page.starts_with("https://"), "{}", page.page);
            assert!(page.as_of.parse::<jiff::civil::Date>().is_ok(), "{}", page.as_of);
            assert!(["itself", "by others"].contains(&page.seen.as_str()), "{}", page.seen);
        }
        for price in prices {
            assert!(globset::Glob::new(&price.model).is_ok(), "{}", price.model);
            assert!(price.prompt_nano_usd_per_mtok <= price.completion_nano_usd_per_mtok, "{}", price.model);
            assert!(price.completion_nano_usd_per_mtok <= DEAREST, "{}", price.model);
            assert!(price.cached_nano_usd_per_mtok.is_none_or(|cached| cached < price.prompt_nano_usd_per_mtok));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line_or_its_model() {
        let wrong = |text: &str| Known::of(text).unwrap_err();
        assert!(wrong("[[pages]]\npage = \"p\"\nsaw = 1\n").starts_with("known.toml: line 3: unknown field `saw`"));
        let page = "[[pages]]\npage = \"p\"\nas_of = \"d\"\nseen = \"itself\"\n[[pages.models]]\nmodel = \"m\"\n";
        assert!(wrong(page).starts_with("known.toml: m: missing field"), "{}", wrong(page));
        assert!(wrong(&format!("{page}context_tokens = -1\n")).starts_with("known.toml: m: `context_tokens`"));
    }

    #[test]
    fn a_dated_name_costs_what_the_model_costs_and_a_sibling_does_not() {
        let prices = Prices::new(&[], &Known::read().unwrap().prices);
        let now = serde_json::from_str("\"2026-11-28T00:00:00Z\"").unwrap();
        let prompt = |name: &str| prices.of(&[name], now).map(|price| price.prompt_nano_usd_per_mtok);
        assert_eq!(prompt("gpt-4o"), Some(2_500_000_000));
        assert_eq!(prompt("gpt-4o-2024-08-06"), Some(2_500_000_000));
        assert_eq!(prompt("gpt-4o-mini-2024-07-18"), Some(150_000_000));
        assert_eq!(prompt("claude-sonnet-4-5-20250929"), Some(3_000_000_000));
        assert_eq!((prompt("demo"), prompt("gpt-4o-audio-preview"), prompt("llama")), (Some(0), None, None));
    }
}
