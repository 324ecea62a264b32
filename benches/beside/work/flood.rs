//! 20 streams of 2,000 deltas as fast as they come, three times over, each on a new connection.

use super::Stage;
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::figures::Figures;

const STREAMS: u32 = 20;
const DELTAS: u32 = 2000;
const REQUESTS: u32 = 3;

/// CPU and latency of every delta.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(20)?;
    let deltas = stage.size(DELTAS);
    let group = stage.engine.group((STREAMS * deltas * REQUESTS) as usize);
    let visit = stage.gateway.visit(Plan::flood(deltas), group);
    stage.add(&Visit { times: Times::Just(REQUESTS), fresh: true, ..visit }, STREAMS, 0);
    let cost = cost::of(&stage.gateway, || stage.engine.run(|_| Word::Go))?;
    let (mut figures, group) = (Figures::default(), &stage.engine.groups[group]);
    cost.note(&mut figures, "", group.deltas());
    figures.times("latency", &group.within(0, u64::MAX));
    figures.set("deltas_per_s", group.rate());
    Ok(figures)
}
