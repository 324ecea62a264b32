//! Calls of models, by OpenTelemetry's conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai:
//! `gen_ai.client.operation.duration`, `…time_to_first_chunk`, `gen_ai.client.token.usage`).

use std::collections::HashSet;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{Histograms, escaped};
use crate::domain::called::{CHAT, Called, OTHER};

/// Models that are counted by name. Where an upstream serves a pattern, clients make the names up: further ones are
/// counted as [`OTHER`]. A name takes a place when an upstream has taken a call by it.
pub const MODELS: usize = 200;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    upstream: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    #[prometheus(flatten)]
    labels: Labels,
    error_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Tokens {
    #[prometheus(flatten)]
    labels: Labels,
    gen_ai_token_type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Error {
    upstream: String,
    kind: &'static str,
}

/// The calls of one server.
pub(super) struct Calls {
    duration: Histograms<Ended>,
    first_chunk: Histograms<Labels>,
    tokens: Histograms<Tokens>,
    cost: Family<Labels, Counter>,
    unpriced: Family<Labels, Counter>,
    errors: Family<Error, Counter>,
    models: Mutex<HashSet<String>>,
}

/// The buckets the conventions advise for durations, in seconds.
fn seconds() -> Histogram {
    Histogram::new([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92])
}

/// From a millisecond to ten seconds.
fn first_seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0])
}

/// The buckets the conventions advise for tokens: powers of four.
fn counts() -> Histogram {
    Histogram::new((0..14).map(|power| 4_f64.powi(power)))
}

impl Calls {
    #[rustfmt::skip] // A table: one line each.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let calls = Self {
            duration: Family::new_with_constructor(seconds),
            first_chunk: Family::new_with_constructor(first_seconds),
            tokens: Family::new_with_constructor(counts),
            cost: Family::default(),
            unpriced: Family::default(),
            errors: Family::default(),
            models: Mutex::default(),
        };
        registry.register_with_unit("gen_ai_client_operation_duration", "From a model call's request to its end", Unit::Seconds, calls.duration.clone());
        registry.register_with_unit("gen_ai_client_operation_time_to_first_chunk", "From a model call's request to its first delta or reasoning", Unit::Seconds, calls.first_chunk.clone());
        registry.register("gen_ai_client_token_usage", "Tokens of a model call, by type", calls.tokens.clone());
        registry.register("tidegate_cost_nano_usd", "What model calls cost whose price is known", calls.cost.clone());
        registry.register("tidegate_unpriced_calls", "Model calls whose price is not known", calls.unpriced.clone());
        registry.register("tidegate_upstream_errors", "Calls that an upstream refused or broke off, by kind", calls.errors.clone());
        calls
    }

    pub(super) fn count(&self, call: &Called<'_>) {
        let upstream = escaped(call.upstream);
        if let Some(kind) = call.fault {
            self.errors.get_or_create(&Error { upstream: upstream.clone(), kind }).inc();
        }
        let labels = Labels {
            gen_ai_operation_name: CHAT,
            gen_ai_provider_name: call.provider,
            gen_ai_request_model: escaped(self.known(call)),
            upstream,
        };
        if let Some(first_chunk) = call.first_chunk {
            self.first_chunk.get_or_create(&labels).observe(first_chunk.as_secs_f64());
        }
        if let Some(usage) = call.usage {
            // Both are there for every model, so that a rate of either can be asked for from the beginning.
            self.cost.get_or_create(&labels).inc_by(usage.cost_nano_usd.unwrap_or(0));
            self.unpriced.get_or_create(&labels).inc_by(u64::from(usage.cost_nano_usd.is_none()));
            for (gen_ai_token_type, tokens) in [("input", usage.prompt_tokens), ("output", usage.completion_tokens)] {
                let tokens_of = Tokens { labels: labels.clone(), gen_ai_token_type };
                self.tokens.get_or_create(&tokens_of).observe(tokens as f64);
            }
        }
        let ended = Ended { labels, error_type: call.error.unwrap_or_default() };
        self.duration.get_or_create(&ended).observe(call.duration.as_secs_f64());
    }

    /// The model's label: its name, as long as there are few.
    fn known<'a>(&self, call: &Called<'a>) -> &'a str {
        let mut models = self.models.lock();
        if models.contains(call.model) {
            return call.model;
        }
        if call.usage.is_none() || models.len() >= MODELS {
            return OTHER;
        }
        models.insert(call.model.to_owned());
        call.model
    }
}

#[cfg(test)]
mod tests {
    use super::super::Meter;
    use super::*;
    use std::time::Duration;

    use crate::domain::usage::{Basis, Usage};

    fn call(model: &str) -> Called<'_> {
        Called {
            upstream: "local",
            provider: "openai",
            model,
            duration: Duration::from_millis(70),
            first_chunk: Some(Duration::from_millis(30)),
            usage: Some(USAGE),
            fault: None,
            error: None,
        }
    }

    const USAGE: Usage = Usage {
        prompt_tokens: 5,
        completion_tokens: 70,
        cached_tokens: None,
        cache_write_tokens: None,
        reasoning_tokens: None,
        cost_nano_usd: Some(1200),
        basis: Basis::Reported,
    };

    fn text(meter: &Meter) -> String {
        meter.text(0, 0, Duration::ZERO, true)
    }

    #[test]
    fn a_call_is_counted_by_the_names_of_the_conventions() {
        let meter = Meter::default();
        meter.called(&Called { fault: Some("truncated"), error: Some("truncated"), ..call("a") });
        meter.called(&Called { usage: Some(Usage { cost_nano_usd: None, ..USAGE }), ..call("b") });
        let text = text(&meter);
        let who =
            r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="a",upstream="local""#;
        for line in [
            format!(r#"gen_ai_client_operation_duration_seconds_bucket{{le="0.08",{who},error_type="truncated"}} 1"#),
            format!(r#"gen_ai_client_operation_duration_seconds_bucket{{le="0.04",{who},error_type="truncated"}} 0"#),
            format!(r#"gen_ai_client_operation_time_to_first_chunk_seconds_count{{{who}}} 1"#),
            format!(r#"gen_ai_client_token_usage_sum{{{who},gen_ai_token_type="input"}} 5.0"#),
            format!(r#"gen_ai_client_token_usage_sum{{{who},gen_ai_token_type="output"}} 70.0"#),
            format!("tidegate_cost_nano_usd_total{{{who}}} 1200"),
            format!("tidegate_unpriced_calls_total{{{}}} 1", who.replace(r#""a""#, r#""b""#)),
            r#"tidegate_upstream_errors_total{upstream="local",kind="truncated"} 1"#.to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn models_that_clients_make_up_do_not_fill_the_memory() {
        let meter = Meter::default();
        // Names that no upstream took take no place.
        for number in 0..MODELS {
            meter.called(&Called { usage: None, fault: Some("rejected"), ..call(&format!("refused-{number}")) });
        }
        for number in 0..MODELS + 50 {
            meter.called(&call(&format!("model-{number}")));
        }
        meter.called(&call("model-0"));
        let text = text(&meter);
        let count = |model: &str| {
            let label = format!("gen_ai_request_model=\"{model}\"");
            let mut lines = text.lines().filter(|line| line.contains("operation_duration_seconds_count"));
            lines.find(|line| line.contains(&label)).and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        };
        assert_eq!((count("model-0"), count(OTHER)), (Some(2), Some(MODELS as u64 + 50)));
        assert_eq!(count(&format!("model-{MODELS}")), None);
    }

    #[test]
    fn a_name_with_quotes_is_one_label() {
        let meter = Meter::default();
        meter.called(&call(r#"a"b\c",upstream="forged"#));
        let text = text(&meter);
        assert!(text.contains(r#"gen_ai_request_model="a\"b\\c\",upstream=\"forged""#), "{text}");
    }
}
