//! Thousands of streams that are open at once, a delta a second each.

use super::Stage;
use crate::clock::{self, MILLISECOND, SECOND};
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::figures::Figures;
use crate::process::Tree;

/// How memory is looked at while streams are open.
const LOOKED_EVERY: u64 = 250 * MILLISECOND;
/// Streams that are opened in a second.
const OPENED: u64 = 300;

/// How many streams, and deltas of each.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    streams: u32,
    deltas: u32,
}

/// As many as one process serves on an ordinary day.
pub const SOME: Size = Size { streams: 2000, deltas: 20 };
/// As many as 20,000 descriptors are good for.
pub const MANY: Size = Size { streams: 9000, deltas: 44 };

/// Memory for each open stream, and whether each stream kept going.
pub fn run(stage: &mut Stage, size: Size) -> Result<Figures, Void> {
    stage.warm(1)?;
    let (streams, deltas) = (stage.size(size.streams), stage.size(size.deltas).max(8));
    let group = stage.engine.group((streams * deltas) as usize);
    let visit = stage.gateway.visit(Plan::paced(deltas, 1_000_000), group);
    let opening = u64::from(streams) * SECOND / OPENED;
    stage.add(&visit, streams, opening);
    let Stage { engine, gateway, .. } = stage;
    let memory = || gateway.tree.as_ref().map_or(0, Tree::memory);
    let idle = memory();
    let (mut peak, mut looked) = (idle, 0);
    let cost = cost::of(gateway, || {
        engine.run(|_| {
            if clock::now() > looked + LOOKED_EVERY {
                looked = clock::now();
                peak = peak.max(memory());
            }
            Word::Go
        })
    })?;
    let (mut figures, group) = (Figures::default(), &engine.groups[group]);
    cost.note(&mut figures, "", group.deltas());
    if gateway.tree.is_some() {
        figures.set("idle_mib", idle as f64 / 1_048_576.0);
        figures.set("peak_mib", peak as f64 / 1_048_576.0);
        figures.set("kib_per_stream", (peak - idle) as f64 / 1024.0 / f64::from(streams));
    }
    figures.times("latency", &group.steady());
    figures.set("stalled", group.stalled as f64);
    figures.set("longest_gap_ms", group.longest_gap as f64 / MILLISECOND as f64);
    let together = group.first_end.unwrap_or(0).saturating_sub(group.all_open);
    if together == 0 {
        return Err(Void::new("the streams were never all open at once"));
    }
    figures.set("together_s", together as f64 / SECOND as f64);
    Ok(figures)
}
