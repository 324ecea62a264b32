//! The group commit: the new events of many turns in one transaction of SQLite, in the tail or as rows of the journal.

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use tempfile::TempDir;
use tidegate::domain::clock::Timestamp;
use tidegate::domain::event::write_delta_line;
use tidegate::domain::ids::{ReplicaId, TurnId};
use tidegate::domain::owner::Owner;
use tidegate::domain::stream::Durability;
use tidegate::meter::Meter;
use tidegate::store::Store;
use tidegate::store::journal::Chunk;
use tidegate::store::tail::Tail;
use tokio::runtime::Runtime;

use crate::inputs::deltas;

/// Deltas of each turn in a commit: what comes in 100 ms at 50 tokens a second, more than a commit that keeps up has.
const EACH: u64 = 5;
/// Rows of the tail that are needed: those of the last ten seconds.
const KEPT: u64 = 400;
/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Commits of so many turns, in both durabilities.
pub fn commit(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("journal");
    let (relaxed, strict) = (Durability::Relaxed, Durability::Strict);
    for (name, durability, filed) in [("relaxed", relaxed, false), ("strict", strict, false), ("filed", relaxed, true)]
    {
        for turns in [1, 100, 1000] {
            let folder = TempDir::new().unwrap();
            let url = format!("sqlite://{}", folder.path().join("bench.db").display());
            let now = Timestamp::from_micros(1_789_000_000_000_000);
            let replica = ReplicaId::new(now);
            let store = runtime.block_on(async {
                let store = Store::open(&url, durability, PATIENCE, Meter::default()).await.unwrap();
                store.enter(&replica, now).await.unwrap();
                store
            });
            let (mut chunks, mut number) = (chunks(turns, now), 0);
            group.throughput(Throughput::Elements(turns * EACH));
            group.bench_function(BenchmarkId::new(name, format!("{turns} turns")), |bencher| {
                bencher.iter_custom(|times| {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        number += 1;
                        let mut tail = Tail::new(number, number.saturating_sub(KEPT), chunks.len());
                        for chunk in &mut chunks {
                            (chunk.first_seq, chunk.last_seq) = (chunk.first_seq + EACH, chunk.last_seq + EACH);
                            if !filed {
                                tail.lines().extend_from_slice(&chunk.lines);
                                tail.head(&chunk.turn_id, chunk.first_seq, chunk.last_seq, chunk.lines.len());
                            }
                        }
                        let rows = if filed { &chunks[..] } else { &[] };
                        let begun = Instant::now();
                        assert!(runtime.block_on(store.append_journal(&replica, &tail, rows)).unwrap());
                        took += begun.elapsed();
                    }
                    took
                });
            });
            runtime.block_on(store.close());
        }
    }
    group.finish();
}

fn chunks(turns: u64, now: Timestamp) -> Vec<Chunk> {
    let mut lines = Vec::new();
    for (seq, text) in (1..=EACH).zip(deltas()) {
        write_delta_line(&mut lines, seq, text);
    }
    let lines = Bytes::from(lines);
    let chunk = |_| Chunk {
        turn_id: TurnId::new(now),
        owner: Owner::local(),
        epoch: 1,
        first_seq: 1,
        last_seq: EACH,
        lines: lines.clone(),
    };
    (0..turns).map(chunk).collect()
}
