//! One turn of 100,000 deltas, and as many deltas in turns of 1,000, as fast as they come.

use super::Stage;
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::figures::Figures;

const LONG: u32 = 100_000;
const SHORT: u32 = 1000;

/// CPU for a delta of each.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(20)?;
    let mut figures = Figures::default();
    let long = stage.size(LONG);
    for (suffix, deltas) in [("_short", SHORT), ("_long", long)] {
        let group = stage.engine.group(long as usize);
        let visit = stage.gateway.visit(Plan::flood(deltas), group);
        stage.engine.add(Visit { times: Times::Just(long / deltas), ..visit });
        let cost = cost::of(&stage.gateway, || stage.engine.run(|_| Word::Go))?;
        let group = &stage.engine.groups[group];
        cost.note(&mut figures, suffix, group.deltas());
        figures.times(&format!("latency{suffix}"), &group.within(0, u64::MAX));
        figures.set(format!("deltas_per_s{suffix}"), group.rate());
    }
    Ok(figures)
}
