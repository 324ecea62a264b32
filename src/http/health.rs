//! `/healthz`, `/readyz`, `/metrics`: for whoever runs it.

use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::answer::json;
use super::app::App;
use crate::domain::clock::Timestamp;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

/// Whether the process lives: it does, if it answers.
pub async fn live() -> Response {
    json(StatusCode::OK, &Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    version: &'static str,
    time: Timestamp,
    uptime_ms: u64,
    components: Components,
}

#[derive(Serialize)]
struct Components {
    store: Component,
    turns: Component,
}

#[derive(Serialize)]
struct Component {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<usize>,
}

/// Whether it can do its work, by component: 200, or 503.
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

/// What is counted, as OpenMetrics text.
pub async fn metrics(State(app): State<App>) -> Response {
    let text = app.turns.meter.text(app.turns.registry.len(), app.turns.journal.unsaved());
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
