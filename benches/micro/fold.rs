//! What a message is after its events.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tidegate::domain::draft::Draft;
use tidegate::domain::event::{read_line, write_delta_line};

use crate::inputs::{DELTAS, deltas};

/// The fold of a live turn, and the same out of saved lines, as after a crash.
pub fn fold(criterion: &mut Criterion) {
    let deltas = deltas();
    let mut lines = Vec::new();
    for (seq, text) in (1..).zip(&deltas) {
        write_delta_line(&mut lines, seq, text);
    }
    let lines: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(DELTAS as u64));
    group.bench_function("live", |bencher| {
        bencher.iter(|| {
            let mut draft = Draft::default();
            for (seq, text) in (1..).zip(&deltas) {
                draft.apply_delta(seq, text);
            }
            black_box(draft.content().len())
        });
    });
    group.bench_function("from saved lines", |bencher| {
        bencher.iter(|| {
            let mut draft = Draft::default();
            for (seq, line) in (1..).zip(&lines) {
                draft.apply(seq, read_line(line).unwrap());
            }
            black_box(draft.content().len())
        });
    });
    group.finish();
}
