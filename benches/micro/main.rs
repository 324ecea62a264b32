//! What one delta costs on its way: from an upstream's bytes to a reader's, and into the record.
//! `benches/README.md` says how to run it and how to read it.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

mod fold;
mod inputs;
mod journal;
mod log;
mod upstream;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    upstream::chunked,
    upstream::decoder,
    upstream::dialect,
    log::append,
    log::frame,
    fold::fold,
    journal::commit
);
criterion_main!(benches);
