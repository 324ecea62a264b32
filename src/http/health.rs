//! `/healthz`, `/readyz`, `/metrics`: for whoever runs it.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::schema::refusals;
use crate::domain::clock::Timestamp;

/// That the process lives.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    status: &'static str,
    /// The gateway's version.
    version: &'static str,
}

/// Liveness
///
/// Whether the process lives: it does, if it answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "Operation",
    operation_id = "get_health",
    responses((status = 200, description = "It lives.", body = Health), refusals::OfAny)
)]
pub async fn live() -> Response {
    json(StatusCode::OK, &Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether the gateway can do its work.
#[derive(Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// The gateway's version.
    version: &'static str,
    /// Its time.
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    /// How long it has been up, in milliseconds.
    uptime_ms: u64,
    /// What it is made of.
    components: Components,
}

/// What the gateway is made of.
#[derive(Serialize, ToSchema)]
#[schema(as = ReadinessComponents)]
struct Components {
    /// The database.
    store: Component,
    /// The turns.
    turns: Component,
}

/// How a part of the gateway stands.
#[derive(Serialize, ToSchema)]
#[schema(as = ReadinessComponent)]
struct Component {
    /// `ok`, `unavailable` or `draining`.
    status: &'static str,
    /// Which database it is: `sqlite` or `postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<&'static str>,
    /// How long it took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency_ms: Option<u64>,
    /// How many of them live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    live: Option<usize>,
}

/// Readiness
///
/// Whether it can do its work, by component.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operation",
    operation_id = "get_readiness",
    responses((status = 200, description = "It can.", body = Readiness), refusals::OfReadiness)
)]
pub async fn ready(State(app): State<App>) -> Response {
    let begun = Instant::now();
    let store = app.turns.store.ping().await;
    if let Err(error) = &store {
        tracing::warn!(%error, "the database is not ready");
    }
    let draining = app.turns.lifecycle.soft().is_cancelled();
    let ready = store.is_ok() && !draining;
    let readiness = Readiness {
        status: if ready { "ready" } else { "not_ready" },
        version: env!("CARGO_PKG_VERSION"),
        time: app.turns.now(),
        uptime_ms: u64::try_from(app.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        components: Components {
            store: Component {
                status: if store.is_ok() { "ok" } else { "unavailable" },
                kind: Some(app.turns.store.kind()),
                latency_ms: Some(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)),
                live: None,
            },
            turns: Component {
                status: if draining { "draining" } else { "ok" },
                kind: None,
                latency_ms: None,
                live: Some(app.turns.registry.len()),
            },
        },
    };
    json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &readiness)
}

/// Metrics
///
/// What is counted, as OpenMetrics text for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operation",
    operation_id = "get_metrics",
    responses(
        (status = 200, description = "The figures.", body = String, content_type = "application/openmetrics-text"),
        refusals::OfAny
    )
)]
pub async fn metrics(State(app): State<App>) -> Response {
    let lives = app.turns.registry.all();
    let oldest = lives.iter().filter_map(|live| live.log.oldest_unsaved()).min();
    let lag = oldest.map_or(Duration::ZERO, |since| since.elapsed());
    let text = app.turns.meter.text(lives.len(), app.turns.journal.unsaved(), lag);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
