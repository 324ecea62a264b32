//! `/healthz`, `/readyz`, `/metrics`: for whoever runs it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::{Asker, forbidden};
use super::code::Code;
use super::problem::Problem;
use super::schema::refusals;
use crate::cluster;
use crate::domain::caller::Standing;
use crate::domain::clock::Timestamp;
use crate::store::Error;
use crate::turn::ask::millis;
use crate::turn::live::Live;

/// How many may read the metrics at once: whoever takes nothing holds all of the text.
pub const SCRAPES: usize = 4;

/// So much of them is handed on at once, in bytes.
const PIECE: usize = 16 << 10;

/// Events that have waited for so long are not saved as they should be; a quarter of a second is much already.
const BEHIND: Duration = Duration::from_secs(3);

/// How long the database may take to be ready: a proxy or a supervisor that asks mostly waits for two seconds.
const STORE: Duration = Duration::from_millis(1500);

/// How long who reads the metrics waits for Redis.
const REDIS: Duration = Duration::from_millis(200);

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
    /// `ready`; `degraded` (it serves, and replicas cannot pass live turns on to each other) or `not_ready`.
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
    /// What saves events.
    journal: Component,
    /// The turns.
    turns: Component,
    /// What replicas share besides the database, where there is something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cluster: Option<Component>,
}

/// How a part of the gateway stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ReadinessComponent)]
struct Component {
    /// `ok`; `unavailable` (it does not answer, or takes nothing down), `behind` (events wait too long to be saved) or `draining`.
    status: &'static str,
    /// What it is: `sqlite`, `postgres` or `redis`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<&'static str>,
    /// The version it says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    version: Option<String>,
    /// How long it took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency_ms: Option<u64>,
    /// How long the oldest event waits that is not saved yet, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lag_ms: Option<u64>,
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
    let Checkup { store, cluster, lag, .. } = app.checkups.next(&app).await;
    let behind = lag > BEHIND;
    let draining = app.turns.lifecycle.soft().is_cancelled();
    let ready = store.status == "ok" && !behind && !draining;
    let readiness = Readiness {
        status: match ready {
            true if cluster.as_ref().is_some_and(|cluster| cluster.status != "ok") => "degraded",
            true => "ready",
            false => "not_ready",
        },
        version: env!("CARGO_PKG_VERSION"),
        time: app.turns.now(),
        uptime_ms: millis(app.since.elapsed()),
        components: Components {
            store,
            journal: Component { lag_ms: Some(millis(lag)), ..Component::of(if behind { "behind" } else { "ok" }) },
            turns: Component {
                live: Some(app.turns.registry.len()),
                ..Component::of(if draining { "draining" } else { "ok" })
            },
            cluster,
        },
    };
    json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &readiness)
}

/// What was found last. One looks at a time, for all who ask by then: anybody may ask, as many as they are.
#[derive(Debug, Default)]
pub struct Checkups(tokio::sync::Mutex<Option<Checkup>>);

/// What the parts of the gateway answered.
#[derive(Clone, Debug)]
struct Checkup {
    ended: Instant,
    store: Component,
    cluster: Option<Component>,
    lag: Duration,
}

impl Checkups {
    /// One that has ended no earlier than now.
    async fn next(&self, app: &App) -> Checkup {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(checkup) = last.as_ref().filter(|checkup| checkup.ended >= asked) {
            return checkup.clone();
        }
        let asked = tokio::time::timeout(STORE, app.turns.store.ping());
        let ((store, took), (redis, cluster_took)) = tokio::join!(timed(asked), timed(redis(app)));
        let store = store.unwrap_or(Err(Error::Slow(STORE)));
        if let Err(error) = &store {
            tracing::warn!(%error, "the database is not ready");
        }
        let store = Component {
            kind: Some(app.turns.store.kind()),
            latency_ms: Some(millis(took)),
            version: store.as_ref().ok().cloned(),
            ..Component::of(if store.is_ok() { "ok" } else { "unavailable" })
        };
        let cluster = redis.map(|answer| shared(answer, cluster_took));
        let lag = lag(&app.turns.registry.all());
        last.insert(Checkup { ended: Instant::now(), store, cluster, lag }).clone()
    }
}

impl Component {
    fn of(status: &'static str) -> Self {
        Self { status, kind: None, version: None, latency_ms: None, lag_ms: None, live: None }
    }
}

/// An answer, and how long it took.
async fn timed<T>(asked: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (asked.await, begun.elapsed())
}

/// What Redis says, where there is one.
async fn redis(app: &App) -> Option<cluster::Result<String>> {
    Some(app.turns.cluster.as_ref()?.ping().await)
}

/// How Redis stands that answered so.
fn shared(answer: cluster::Result<String>, took: Duration) -> Component {
    let component = match answer {
        Ok(version) => Component { version: Some(version), ..Component::of("ok") },
        Err(error) => {
            tracing::warn!(%error, "Redis is not ready");
            Component::of("unavailable")
        }
    };
    Component { kind: Some("redis"), latency_ms: Some(millis(took)), ..component }
}

/// How long the oldest event of these turns waits that is not saved yet.
fn lag(lives: &[Arc<Live>]) -> Duration {
    let oldest = lives.iter().filter_map(|live| live.log.oldest_unsaved()).min();
    oldest.map_or(Duration::ZERO, |since| since.elapsed())
}

/// Why an application's admin does not see what all applications do.
const OF_ALL: &str = "The figures are of every application: `metrics.application` names the one whose admin keys read them, and \
                      `metrics.listen` gives them a listener of their own.";

/// Metrics
///
/// What is counted, as OpenMetrics text for Prometheus. Not here where `metrics.listen` gives it a listener of its own. The figures
/// are of the whole process: where `metrics.application` names an application, only its admin keys read them.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operation",
    operation_id = "get_metrics",
    responses(
        (status = 200, description = "The figures.", body = String, content_type = "application/openmetrics-text"),
        refusals::OfMetrics
    )
)]
pub async fn metrics(State(app): State<App>, Asker(caller): Asker) -> Result<Response, Problem> {
    if !caller.is_admin() && caller.standing != Standing::Local {
        return Err(forbidden("This takes an admin key, or a listener of its own."));
    }
    if caller.is_admin() && !app.access.oversees(&caller) {
        return Err(forbidden(OF_ALL));
    }
    figures(app).await
}

/// Metrics
///
/// The same on a listener of their own, which asks nobody who they are.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operation",
    operation_id = "get_own_metrics",
    responses(
        (status = 200, description = "The figures.", body = String, content_type = "application/openmetrics-text"),
        refusals::OfOwnMetrics
    )
)]
pub async fn own_metrics(State(app): State<App>) -> Result<Response, Problem> {
    figures(app).await
}

async fn figures(app: App) -> Result<Response, Problem> {
    let permit = app.scrapes.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Code::TooManyReaders, "As many read the metrics as may."))?;
    let asked = tokio::time::timeout(REDIS, redis(&app)).await;
    let is_up = asked.is_ok_and(|answer| answer.is_none_or(|answer| answer.is_ok()));
    let lives = app.turns.registry.all();
    let (unsaved, lag, meter) = (app.turns.journal.unsaved(), lag(&lives), app.turns.meter.clone());
    // On a thread of its own: it may be long, and streams do not wait for it.
    let text = app.turns.lifecycle.blocking(move || meter.text(lives.len(), unsaved, lag, is_up)).await;
    let text = Bytes::from(text.ok_or_else(Problem::internal)?);
    // In pieces, so that the permit is kept until almost all of it is taken.
    let pieces = stream::unfold((text, permit), async |(mut text, permit)| {
        let piece = text.split_to(text.len().min(PIECE));
        (!piece.is_empty()).then(|| (Ok::<_, Infallible>(piece), (text, permit)))
    });
    let kind = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((kind, Body::from_stream(pieces)).into_response())
}
