//! From an upstream's bytes to deltas.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use tidegate::upstream::Batch;
use tidegate::upstream::decoder::{Decoder, Event};
use tidegate::upstream::openai::dialect::Dialect;
use tidegate::upstream::transport::raw::chunked::Chunked;
use tidegate::upstream::transport::raw::framing::Framing;

use crate::inputs::{DELTAS, events};

/// The longest event, as the settings have it.
const LONGEST: usize = 1 << 20;

/// Chunks off a body, for reads of several sizes. A read of several chunks is moved together, one of a single is not.
pub fn chunked(criterion: &mut Criterion) {
    let chunks: Vec<String> = events().iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect();
    let body = chunks.concat().into_bytes();
    let mut group = criterion.benchmark_group("chunked");
    group.throughput(Throughput::Elements(DELTAS as u64));
    let one_each: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
    let reads =
        [("a chunk a read", one_each), ("16 KiB a read", cut(&body, 16 << 10)), ("100 bytes a read", cut(&body, 100))];
    for (name, reads) in reads {
        let fresh = || reads.iter().map(|read| read.to_vec()).collect::<Vec<_>>();
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched_ref(
                fresh,
                |reads| {
                    let mut framing = Framing::Chunked(Chunked::default());
                    for read in reads {
                        let found = framing.read(read);
                        black_box(&read[found.data]);
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Bytes to events, for reads of several sizes.
pub fn decoder(criterion: &mut Criterion) {
    let events = events();
    let body = events.concat().into_bytes();
    let mut group = criterion.benchmark_group("decoder");
    group.throughput(Throughput::Elements(DELTAS as u64));
    let one_each: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
    let reads =
        [("an event a read", one_each), ("16 KiB a read", cut(&body, 16 << 10)), ("100 bytes a read", cut(&body, 100))];
    for (name, reads) in reads {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let mut decoder = Decoder::new(LONGEST);
                for read in &reads {
                    let mut events = decoder.read(read);
                    while let Some(event) = events.next() {
                        black_box(event.unwrap());
                    }
                }
            });
        });
    }
    group.finish();
}

fn cut(body: &[u8], size: usize) -> Vec<&[u8]> {
    body.chunks(size).collect()
}

/// Events to deltas.
pub fn dialect(criterion: &mut Criterion) {
    let events = events();
    let data: Vec<&[u8]> = events.iter().map(|event| event["data: ".len()..].trim_end().as_bytes()).collect();
    let mut group = criterion.benchmark_group("dialect");
    group.throughput(Throughput::Elements(DELTAS as u64));
    group.bench_function("openai", |bencher| {
        let mut batch = Batch::default();
        bencher.iter(|| {
            let mut dialect = Dialect::default();
            for data in &data {
                batch.clear();
                dialect.read(Event { name: b"", data }, &mut batch).unwrap();
                black_box(batch.parts().count());
            }
        });
    });
    group.finish();
}
