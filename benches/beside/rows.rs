//! The rows of the table, in the order they are shown.

use crate::row::Beside::{self, Alone, Nginx, Own};
use crate::row::Limit::{self, Least, Most, Shown, Times};
use crate::row::Row;
use crate::work::Work;

const CPU: &str = "cpu_us_per_delta";
const P50: &str = "latency_p50_ms";
const P99: &str = "latency_p99_ms";
const STREAM: &str = "kib_per_stream";
const SLOW: &str = "slow_with_p99_ms";
const ALL_READ: &str = "cpu_us_per_delta_shared";

/// All of them. A name that begins with a dot says more of the one above it.
pub fn all() -> Vec<Row> {
    [paced(), flood(), first(), open(), mix(), turns(), cluster()].concat()
}

fn paced() -> Vec<Row> {
    let row = |name, unit, figure, beside, limit| row(Work::Paced, name, unit, figure, beside, limit);
    vec![
        row("500 streams, a delta every 20 ms: CPU a delta", "µs", CPU, Nginx, Times(1.05, 0.0)),
        row("· while all are open: CPU a delta", "µs", "cpu_us_per_delta_open", Nginx, Shown),
        row("· the database's CPU a delta", "µs", "database_us_per_delta", Alone, Shown),
        row("· a delta's way, p50", "ms", P50, Nginx, Times(1.0, 0.1)),
        row("· p99", "ms", P99, Nginx, Times(1.5, 0.0)),
        row("· of its core the bench used", "", "bench_busy", Nginx, Shown),
    ]
}

fn flood() -> Vec<Row> {
    let row = |name, unit, figure, beside, limit| row(Work::Flood, name, unit, figure, beside, limit);
    vec![
        row("20 × 2,000 deltas as fast as they come: CPU a delta", "µs", CPU, Nginx, Times(1.0, 0.0)),
        row("· a delta's way, p50", "ms", P50, Nginx, Most(1.5)),
        row("· p99", "ms", P99, Nginx, Times(1.0, 1.0)),
        row("· deltas a second", "", "deltas_per_s", Nginx, Shown),
    ]
}

fn first() -> Vec<Row> {
    let row = |name, unit, figure, beside, limit| row(Work::First, name, unit, figure, beside, limit);
    vec![
        row("first delta on a kept connection, p50", "ms", "first_p50_ms", Nginx, Times(1.0, 0.4)),
        row("· p99", "ms", "first_p99_ms", Nginx, Times(1.5, 0.4)),
        row("· p50, beside the model without a gateway", "ms", "first_p50_ms", Own("model_alone_p50_ms"), Shown),
        row("· until the head (the admission's part), p50", "ms", "head_p50_ms", Alone, Shown),
    ]
}

fn open() -> Vec<Row> {
    let row = |work, name, unit, figure, beside, limit| row(work, name, unit, figure, beside, limit);
    let (some, many) = (Work::Memory, Work::Crowd);
    vec![
        row(some, "memory a stream, 2,000 open", "KiB", STREAM, Nginx, Most(20.0)),
        row(many, "memory a stream, 9,000 open", "KiB", STREAM, Nginx, Most(20.0)),
        row(many, "9,000 streams on one core, a delta a second: stalled", "", "stalled", Nginx, Most(0.0)),
        row(many, "· the longest silence of any", "ms", "longest_gap_ms", Nginx, Shown),
        row(many, "· CPU a delta", "µs", CPU, Nginx, Shown),
    ]
}

fn mix() -> Vec<Row> {
    let without = Own("slow_without_p99_ms");
    let rate = "flood_deltas_per_s";
    vec![
        row(Work::Mix, "1 flood among 500 × 50/s: slow p99, beside none", "ms", SLOW, without, Times(1.5, 1.0)),
        row(Work::Mix, "· the flood's deltas a second", "", rate, Nginx, Shown),
        row(Work::MixSlow, "20 floods among 2,000 × 1/s: slow p99, beside none", "ms", SLOW, without, Times(1.5, 1.0)),
        row(Work::MixSlow, "· the floods' deltas a second", "", rate, Nginx, Shown),
    ]
}

fn turns() -> Vec<Row> {
    use Work::{Lag, Long, Readers, Short};
    let bare = Own("bare_turns_per_s");
    let (own, alone) = (Own("cpu_us_per_delta_own"), Own("cpu_us_per_delta_alone"));
    let thousand = Own("cpu_us_per_delta_short");
    vec![
        row(Short, "turns of 10 deltas a second, beside the bare transactions", "", "turns_per_s", bare, Least(0.5)),
        row(Short, "· of its core the gateway used", "", "gateway_busy", Alone, Shown),
        row(Short, "· of its core the bench used", "", "bench_busy", Alone, Shown),
        row(Readers, "1,000 readers of a turn: CPU a delta, beside 1,000 turns", "µs", ALL_READ, own, Times(0.6, 0.0)),
        row(Readers, "· beside one turn alone", "µs", ALL_READ, alone, Times(0.6, 0.0)),
        row(Lag, "from shown to saved at 25,000 deltas a second, p99", "ms", "lag_p99_ms", Alone, Most(100.0)),
        row(Lag, "· p50", "ms", "lag_p50_ms", Alone, Shown),
        row(
            Long,
            "a turn of 100,000: CPU a delta, beside 1,000",
            "µs",
            "cpu_us_per_delta_long",
            thousand,
            Times(1.1, 0.0),
        ),
    ]
}

fn cluster() -> Vec<Row> {
    let row = |name, unit, figure, beside, limit| row(Work::Cluster, name, unit, figure, beside, limit);
    let (without, range) = (Own("cpu_us_per_delta_without"), Own("xrange_p99_ms"));
    vec![
        row("500 streams passed on to Redis: CPU a delta, beside without", "µs", CPU, without, Times(1.35, 0.0)),
        row("· a delta's way, p50, beside without", "ms", P50, Own("latency_without_p50_ms"), Shown),
        row("· p99", "ms", P99, Own("latency_without_p99_ms"), Shown),
        row("· sent to Redis", "bytes a delta", "redis_bytes_per_delta", Alone, Shown),
        row("· Redis' CPU a delta, with a reader elsewhere", "µs", "redis_us_per_delta", Alone, Shown),
        row(
            "a replica that only shows them: CPU a delta, beside without",
            "µs",
            "cpu_us_per_delta_relayed",
            without,
            Shown,
        ),
        row("· a delta's way, p50", "ms", "latency_relayed_p50_ms", Alone, Shown),
        row("· p99", "ms", "latency_relayed_p99_ms", Alone, Shown),
        row(
            "to the first delta of a turn under way elsewhere, p99, beside XRANGE",
            "ms",
            "resume_p99_ms",
            range,
            Most(20.0),
        ),
        row("· p50, beside XRANGE", "ms", "resume_p50_ms", Own("xrange_p50_ms"), Shown),
    ]
}

fn row(work: Work, name: &'static str, unit: &'static str, figure: &'static str, beside: Beside, limit: Limit) -> Row {
    Row { work, name, unit, figure, beside, limit }
}
