//! What is counted: one registry for each server, in the text format of OpenMetrics.
//!
//! What OpenTelemetry has a name for bears that name, its labels and its buckets, as its Prometheus compatibility page
//! spells them (dots become underscores, the unit is the last word); everything else begins with `tidegate_`.
//!
//! To add a figure: 1. a field here, in [`calls`], [`database`] or [`stall`]; 2. its line where the registry is filled; 3. a
//! method that counts; 4. its row in `docs/operations.md`. No label may hold what a client makes up without a
//! bound, nor text that is not `escaped`.

pub mod calls;
pub mod database;
pub mod stall;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::calls::Calls;
use self::database::{Access, Database};
use crate::domain::called::Called;
use crate::domain::turn::Status;

/// One label of one name.
type Labelled = [(&'static str, &'static str); 1];

/// Histograms of a family, each with the same buckets.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The counters of one server. Cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    finished: Family<Labelled, Counter>,
    duration: Histogram,
    first_token: Histogram,
    deltas: Counter,
    calls: Calls,
    database: Database,
    commit: Histogram,
    rows: Counter,
    failures: Counter,
    answers: Histograms<Answer>,
    refusals: Family<Labelled, Counter>,
    connections: Gauge,
    live: Gauge,
    readers: Gauge,
    unsaved: Gauge,
    lag: Gauge<f64, AtomicU64>,
    cluster_up: Gauge,
    stall: Histogram,
}

/// An answer of ours, as it is counted: the attributes of OpenTelemetry's `http.server.request.duration`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answer {
    /// The method; `_OTHER` for one that HTTP does not know.
    pub http_request_method: &'static str,
    /// The route's template; empty where nothing lives.
    pub http_route: String,
    /// The status.
    pub http_response_status_code: u16,
}

/// A text as a label's value: prometheus-client writes it as it is, and OpenMetrics wants these escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

/// From a millisecond to nine minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 20))
}

/// What OpenTelemetry advises for `http.server.request.duration`, in seconds.
fn answer_seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0])
}

impl Default for Meter {
    fn default() -> Self {
        let mut registry = Registry::default();
        let inner = Inner {
            finished: Family::default(),
            duration: seconds(),
            first_token: seconds(),
            deltas: Counter::default(),
            calls: Calls::new(&mut registry),
            database: Database::default(),
            commit: seconds(),
            rows: Counter::default(),
            failures: Counter::default(),
            answers: Family::new_with_constructor(answer_seconds),
            refusals: Family::default(),
            connections: Gauge::default(),
            live: Gauge::default(),
            readers: Gauge::default(),
            unsaved: Gauge::default(),
            lag: Gauge::default(),
            cluster_up: Gauge::default(),
            stall: stall::histogram(),
            registry: Mutex::default(),
        };
        inner.enter(&mut registry);
        *inner.registry.lock() = registry;
        Self(Arc::new(inner))
    }
}

impl Inner {
    #[rustfmt::skip] // A table: one line each.
    fn enter(&self, registry: &mut Registry) {
        let answers = self.answers.clone();
        registry.register_with_unit("http_server_request_duration", "From a request's head to its answer's", Unit::Seconds, answers);
        let own = registry.sub_registry_with_prefix("tidegate");
        own.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        own.register("turns_finished", "Turns that ended, by status", self.finished.clone());
        own.register_with_unit("turn_duration", "From a turn's start to its end", Unit::Seconds, self.duration.clone());
        own.register_with_unit("turn_first_token", "From a turn's start to its first delta or reasoning", Unit::Seconds, self.first_token.clone());
        own.register("turns_live", "Turns that are queued or running here", self.live.clone());
        own.register("deltas", "Pieces of text and reasoning that upstreams sent", self.deltas.clone());
        own.register("readers", "Open streams, and requests that wait for an answer", self.readers.clone());
        own.register("connections", "Open connections of clients", self.connections.clone());
        own.register("refusals", "Requests that were refused, by code", self.refusals.clone());
        own.register_with_unit("journal_commit", "Time of one commit of the journal", Unit::Seconds, self.commit.clone());
        own.register("journal_rows", "Rows the journal has written", self.rows.clone());
        own.register("journal_failures", "Commits of the journal that failed", self.failures.clone());
        own.register_with_unit("journal_lag", "How long the oldest event waits that is not saved yet", Unit::Seconds, self.lag.clone());
        own.register_with_unit("unsaved", "Events not saved yet", Unit::Bytes, self.unsaved.clone());
        own.register("cluster_up", "Whether Redis answers and takes down what it is told; 1 where there is none", self.cluster_up.clone());
        own.register_with_unit("event_loop_stall", "How late the event loop came back to a timer", Unit::Seconds, self.stall.clone());
        self.database.enter(own);
    }
}

impl Meter {
    /// A turn ended, so, after so many milliseconds; one that never started has none.
    pub fn turn_finished(&self, status: Status, duration_ms: Option<u64>, first_token_ms: Option<u64>) {
        self.0.finished.get_or_create(&[("status", status.as_str())]).inc();
        if let Some(duration_ms) = duration_ms {
            self.0.duration.observe(Duration::from_millis(duration_ms).as_secs_f64());
        }
        if let Some(first_token_ms) = first_token_ms {
            self.0.first_token.observe(Duration::from_millis(first_token_ms).as_secs_f64());
        }
    }

    /// An upstream sent so many pieces.
    pub fn deltas(&self, count: usize) {
        self.0.deltas.inc_by(count as u64);
    }

    /// A call of a model is over.
    pub fn called(&self, call: &Called<'_>) {
        self.0.calls.count(call);
    }

    /// The database was used; `failed` where it did not do as asked.
    pub fn database_used(&self, access: Access, took: Duration, failed: bool) {
        self.0.database.count(access, took, failed);
    }

    /// The journal wrote so many rows in so long.
    pub fn journal_commit(&self, took: Duration, rows: usize) {
        self.0.commit.observe(took.as_secs_f64());
        self.0.rows.inc_by(rows as u64);
    }

    /// The journal could not write.
    pub fn journal_failure(&self) {
        self.0.failures.inc();
    }

    /// A request was answered: its head left after so long.
    pub fn answered(&self, answer: &Answer, took: Duration) {
        self.0.answers.get_or_create(answer).observe(took.as_secs_f64());
    }

    /// A request was refused with this code.
    pub fn refused(&self, code: &'static str) {
        self.0.refusals.get_or_create(&[("code", code)]).inc();
    }

    /// A reader came, who counts until this is dropped.
    pub fn reader(&self) -> Counted {
        Counted::new(&self.0.readers)
    }

    /// A connection was opened, which counts until this is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.0.connections)
    }

    /// All of it, as OpenMetrics text; the four figures are taken now.
    pub fn text(&self, live_turns: usize, unsaved_bytes: u64, lag: Duration, cluster_is_up: bool) -> String {
        self.0.cluster_up.set(cluster_is_up.into());
        self.0.lag.set(lag.as_secs_f64());
        self.0.live.set(i64::try_from(live_turns).unwrap_or(i64::MAX));
        self.0.unsaved.set(i64::try_from(unsaved_bytes).unwrap_or(i64::MAX));
        let mut text = String::new();
        let _infallible = encode(&mut text, &self.0.registry.lock());
        text
    }
}

/// Something that is there, and counts until this is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
