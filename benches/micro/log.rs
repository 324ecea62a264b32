//! From deltas to the log, and from the log to a reader.

use std::hint::black_box;
use std::task::Waker;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput};
use tidegate::domain::stream::Durability;
use tidegate::turn::log::{Filing, Log, Read};
use tidegate::turn::segments::Mark;
use tidegate::wire::{Wire, sse};

use crate::inputs::{DELTAS, deltas};

/// A turn's memory, as the settings have it.
const MEMORY: usize = 1 << 20;

/// Deltas into the log and its fold, one at a time.
pub fn append(criterion: &mut Criterion) {
    let deltas = deltas();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(DELTAS as u64));
    group.bench_function("append", |bencher| {
        bencher.iter(|| {
            let log = Log::new(Durability::Relaxed, MEMORY, Filing::LATER);
            for text in &deltas {
                log.append(|append| append.delta(text));
            }
            log
        });
    });
    group.finish();
}

/// Lines out of the log and framed, for a reader that keeps up (one event at a time) and one that comes late.
pub fn frame(criterion: &mut Criterion) {
    let log = Log::new(Durability::Relaxed, MEMORY, Filing::LATER);
    for text in deltas() {
        log.append(|append| append.delta(text));
    }
    let marks: Vec<Mark> = (0..DELTAS as u64).map(|seq| log.locate(seq).unwrap()).collect();
    let lengths: Vec<usize> = (1..=DELTAS as u64).map(|seq| log.lines(seq - 1, seq).unwrap().len()).collect();
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Elements(DELTAS as u64));
    for (name, wire) in [("ndjson", Wire::Ndjson), ("sse", Wire::Sse(sse::Options::default()))] {
        group.bench_function(BenchmarkId::new(name, "one at a time"), |bencher| {
            let (mut lines, mut out) = (BytesMut::new(), BytesMut::new());
            bencher.iter(|| {
                for (mark, length) in marks.iter().zip(&lengths) {
                    out.clear();
                    read(&log, *mark, *length, wire, &mut lines, &mut out);
                    black_box(&out);
                }
            });
        });
        group.bench_function(BenchmarkId::new(name, "all at once"), |bencher| {
            let (mut lines, mut out) = (BytesMut::new(), BytesMut::new());
            bencher.iter(|| {
                out.clear();
                let mut at = Mark::default();
                while let Some(next) = read(&log, at, 64 << 10, wire, &mut lines, &mut out) {
                    at = next;
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// As a reader does: NDJSON is the log's lines as they are.
fn read(log: &Log, at: Mark, most: usize, wire: Wire, lines: &mut BytesMut, out: &mut BytesMut) -> Option<Mark> {
    lines.clear();
    let into = if wire == Wire::Ndjson { &mut *out } else { &mut *lines };
    let Read::Lines(to) = log.read(at, most, 0, Waker::noop(), into) else { return None };
    if wire != Wire::Ndjson {
        wire.lines(out, at.seq, lines, None);
    }
    Some(to)
}
