//! Traces: a turn is a span of OpenTelemetry, its steps are spans below it, and a collector gets them by OTLP over HTTP.
//!
//! A span is made when what it tells of is over: a call's from what was measured, a turn's and its other steps' from the
//! record. While a turn streams, its trace costs nothing. A
//! trace is found by its turn, whose id without `turn_` is the trace's, unless the request named a trace of its own
//! (`traceparent`, W3C Trace Context, section 3.2). Names and attributes are those of OpenTelemetry's conventions for
//! generative AI. Nothing that was said is in them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status as SpanStatus, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, Key, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use reqwest::redirect::Policy;
use uuid::Uuid;

use crate::domain::called::{CHAT, Called, OTHER};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{StepId, TurnId};
use crate::domain::message::{Message, Step, StepStatus};
use crate::domain::turn::Status;

/// The request header that names the trace a turn is part of, and the one that an upstream is sent.
pub const HEADER: &str = "traceparent";

/// A header longer than this is none (55 characters, and room for later versions).
const LONGEST: usize = 128;

/// How long the collector may take for one batch (OTLP specification, "Configuration Options").
const EXPORT: Duration = Duration::from_secs(10);

/// Where spans go; nowhere unless it was opened. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    spans: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// A turn, as its spans need it.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// Its id.
    pub id: &'a TurnId,
    /// What the request named as the span it came from.
    pub traceparent: Option<&'a str>,
}

/// Which trace a turn is in, and where.
struct Place {
    trace: TraceId,
    flags: TraceFlags,
    /// The turn's own span.
    span: SpanId,
    /// The span it came from.
    parent: Option<SpanId>,
    /// When it was admitted.
    start: SystemTime,
}

impl Tracer {
    /// Sends spans to the collector at this base URL, to the path `/v1/traces` (OTLP specification, "OTLP/HTTP Request").
    /// What OpenTelemetry's own environment variables say of headers, resource and batches holds too.
    ///
    /// It blocks.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn open(endpoint: &str) -> Result<Self, String> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        // The collector's key goes to the collector alone: no redirect is followed, no proxy taken from the environment.
        let client = reqwest::blocking::Client::builder().redirect(Policy::none()).referer(false).no_proxy();
        let client = client.timeout(EXPORT).build().map_err(|error| error.to_string())?;
        let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(url).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let mut spans = BatchSpanProcessor::builder(exporter).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        spans.set_resource(
            &Resource::builder()
                .with_attribute(KeyValue::new("service.name", service()))
                .with_attribute(version)
                .build(),
        );
        let scope = InstrumentationScope::builder("tidegate").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self(Some(Arc::new(Open { spans, scope }))))
    }

    /// Whether spans go anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The header by which an upstream knows that it works for this step.
    pub fn traceparent(&self, turn: Turn<'_>, step: &StepId) -> Option<String> {
        self.0.as_ref()?;
        let (place, span) = (place(turn)?, span_id(step.uuid()?));
        Some(format!("00-{}-{span}-{:02x}", place.trace, place.flags))
    }

    /// A call of a model is over.
    pub fn call(&self, turn: Turn<'_>, step: &StepId, call: &Called<'_>) {
        let Some(open) = &self.0 else { return };
        let (Some(place), Some(uuid)) = (place(turn), step.uuid()) else { return };
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", CHAT),
            KeyValue::new("gen_ai.provider.name", call.provider),
            KeyValue::new("gen_ai.request.model", call.model.to_owned()),
            KeyValue::new("gen_ai.request.stream", true),
            KeyValue::new("tidegate.upstream", call.upstream.to_owned()),
        ];
        if let Some(usage) = call.usage {
            attributes.push(KeyValue::new("gen_ai.usage.input_tokens", number(usage.prompt_tokens)));
            attributes.push(KeyValue::new("gen_ai.usage.output_tokens", number(usage.completion_tokens)));
            attributes.extend(usage.cost_nano_usd.map(|cost| KeyValue::new("tidegate.cost_nano_usd", number(cost))));
        }
        if let Some(first_chunk) = call.first_chunk {
            attributes.push(KeyValue::new("gen_ai.response.time_to_first_chunk", first_chunk.as_secs_f64()));
        }
        attributes.extend(call.error.map(|kind| KeyValue::new("error.type", kind)));
        let start = moment(uuid);
        open.send(
            &place,
            Span {
                id: span_id(uuid),
                parent: Some(place.span),
                kind: SpanKind::Client,
                name: format!("{CHAT} {}", call.model),
                start,
                end: start + call.duration,
                status: call.error.map_or(SpanStatus::Unset, SpanStatus::error),
                attributes,
            },
        );
    }

    /// A turn ended then, with this message: its span, and those of its steps but for calls of models, which tell of
    /// themselves unless they were cut off with the process.
    pub fn turn(&self, turn: Turn<'_>, message: &Message, ended: Timestamp) {
        let Some(open) = &self.0 else { return };
        let Some(place) = place(turn) else { return };
        for step in message.steps.iter().filter(|step| step.kind != "model" || step.duration_ms.is_none()) {
            open.step(&place, step, ended);
        }
        let failed = match message.status {
            Status::Failed | Status::Truncated | Status::Timeout | Status::Interrupted => true,
            Status::Queued | Status::Running | Status::Completed | Status::Length | Status::Filtered => false,
            Status::Stopped => false,
        };
        let code =
            message.error.as_ref().map_or_else(|| message.status.as_str().to_owned(), |error| error.code.clone());
        let mut attributes = vec![
            KeyValue::new("gen_ai.conversation.id", message.conversation_id.as_str().to_owned()),
            KeyValue::new("tidegate.turn.id", turn.id.as_str().to_owned()),
            KeyValue::new("tidegate.turn.status", message.status.as_str()),
            KeyValue::new("tidegate.turn.events", number(message.seq)),
        ];
        if let Some(model) = &message.model {
            attributes.push(KeyValue::new("gen_ai.request.model", model.clone()));
        }
        if failed {
            attributes.push(KeyValue::new("error.type", code.clone()));
        }
        open.send(
            &place,
            Span {
                id: place.span,
                parent: place.parent,
                kind: SpanKind::Server,
                name: "turn".to_owned(),
                // As its steps', to the millisecond: none begins before it.
                start: place.start,
                end: time(ended),
                status: if failed { SpanStatus::error(code) } else { SpanStatus::Unset },
                attributes,
            },
        );
    }

    /// Sends what is left, for at most `patience`. It blocks.
    pub fn close(&self, patience: Duration) {
        if let Some(open) = &self.0
            && let Err(error) = open.spans.shutdown_with_timeout(patience)
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// What differs from span to span.
struct Span {
    id: SpanId,
    parent: Option<SpanId>,
    kind: SpanKind,
    name: String,
    start: SystemTime,
    end: SystemTime,
    status: SpanStatus,
    attributes: Vec<KeyValue>,
}

impl Open {
    fn step(&self, place: &Place, step: &Step, ended: Timestamp) {
        let Some(uuid) = step.step_id.uuid() else { return };
        let start = moment(uuid);
        let failed = match step.status {
            StepStatus::Error => true,
            StepStatus::Running | StepStatus::Ok | StepStatus::Skipped => false,
        };
        let parent = step.parent_id.as_ref().and_then(|parent| Some(span_id(parent.uuid()?)));
        self.send(
            place,
            Span {
                id: span_id(uuid),
                parent: Some(parent.unwrap_or(place.span)),
                kind: SpanKind::Internal,
                // A call of a model has its model for a label.
                name: if step.kind == "model" { format!("{CHAT} {}", step.label) } else { step.kind.clone() },
                start,
                end: step.duration_ms.map_or(time(ended), |millis| start + Duration::from_millis(millis)),
                status: if failed { SpanStatus::error("") } else { SpanStatus::Unset },
                attributes: failed.then(|| KeyValue::new("error.type", OTHER)).into_iter().collect(),
            },
        );
    }

    fn send(&self, place: &Place, span: Span) {
        if !place.flags.is_sampled() {
            return;
        }
        self.spans.on_end(SpanData {
            span_context: SpanContext::new(place.trace, span.id, place.flags, false, TraceState::NONE),
            parent_span_id: span.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: span.parent.is_some() && span.parent == place.parent,
            span_kind: span.kind,
            name: span.name.into(),
            start_time: span.start,
            end_time: span.end.max(span.start),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// Whether a text is a `traceparent`.
pub fn is_traceparent(text: &str) -> bool {
    read(text).is_some()
}

fn read(text: &str) -> Option<SpanContext> {
    if text.len() > LONGEST || !has_shape(text) {
        return None;
    }
    let carrier = HashMap::from([(HEADER.to_owned(), text.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// Whether it is lower-case hex of 2, 32, 16 and 2 digits, with more behind it only in a later version (W3C Trace Context,
/// section 3.2.2).
fn has_shape(text: &str) -> bool {
    let mut parts = text.split('-');
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_whole = [2, 32, 16, 2].iter().all(|len| parts.next().is_some_and(|part| part.len() == *len && is_hex(part)));
    is_whole && (parts.next().is_none() || !text.starts_with("00"))
}

fn place(turn: Turn<'_>) -> Option<Place> {
    let uuid = turn.id.uuid()?;
    let (span, start) = (span_id(uuid), moment(uuid));
    Some(match turn.traceparent.and_then(read) {
        Some(from) => {
            Place { trace: from.trace_id(), flags: from.trace_flags(), span, parent: Some(from.span_id()), start }
        }
        None => {
            let trace = TraceId::from_bytes(uuid.into_bytes());
            Place { trace, flags: TraceFlags::SAMPLED, span, parent: None, start }
        }
    })
}

/// The half of a UUIDv7 that is random.
fn span_id(uuid: Uuid) -> SpanId {
    SpanId::from_bytes(uuid.as_u64_pair().1.to_be_bytes())
}

/// When an id was made, to the millisecond.
fn moment(uuid: Uuid) -> SystemTime {
    let (seconds, nanos) = uuid.get_timestamp().map_or((0, 0), |time| time.to_unix());
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

fn time(timestamp: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(timestamp.as_micros().unsigned_abs())
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The service's name, unless the environment has another (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`).
fn service() -> Value {
    let found = Resource::builder().build().get(&Key::from_static_str("service.name"));
    found.filter(|name| !name.as_str().starts_with("unknown_service")).unwrap_or_else(|| "tidegate".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn id() -> TurnId {
        TurnId::new(Timestamp::from_micros(1_700_000_000_000_000))
    }

    #[test]
    fn a_trace_is_its_turns_unless_the_request_named_one() {
        let id = id();
        let alone = place(Turn { id: &id, traceparent: None }).unwrap();
        assert_eq!(alone.trace.to_string(), id.as_str().strip_prefix("turn_").unwrap());
        assert_eq!(alone.parent, None);
        let child = place(Turn { id: &id, traceparent: Some(PARENT) }).unwrap();
        assert_eq!(child.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((child.parent.unwrap().to_string(), child.span), ("b7ad6b7169203331".to_owned(), alone.span));
    }

    #[test]
    fn what_is_no_traceparent_is_passed_over() {
        assert!(is_traceparent(PARENT));
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-+af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-01",
            "00-af7-b7-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            &format!("{PARENT}-{}", "x".repeat(200)),
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }

    #[test]
    fn without_a_collector_nothing_is_made() {
        let (id, tracer) = (id(), Tracer::default());
        let step = StepId::new(Timestamp::from_micros(1));
        assert!(!tracer.is_on());
        assert_eq!(tracer.traceparent(Turn { id: &id, traceparent: Some(PARENT) }, &step), None);
    }
}
