//! 500 streams, a delta every 20 ms each: what a chat service does all day.

use super::Stage;
use crate::clock::SECOND;
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::figures::Figures;

const STREAMS: u32 = 500;
const DELTAS: u32 = 200;
const EVERY_US: u32 = 20_000;
/// The streams are opened within this time.
const OPENING: u64 = 2 * SECOND;

/// CPU of all of it, openings and ends included, and while all streams are open; latency while they are.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(20)?;
    let (streams, deltas) = (stage.size(STREAMS), stage.size(DELTAS).max(150));
    let group = stage.engine.group((streams * deltas) as usize);
    let visit = stage.gateway.visit(Plan::paced(deltas, EVERY_US), group);
    stage.add(&visit, streams, OPENING);
    let (mut all_open, mut first_end) = (None, None);
    let cost = cost::of(&stage.gateway, || {
        stage.engine.run(|engine| {
            let counted = &engine.groups[group];
            let now = || cost::ran(&stage.gateway).map(|ran| (ran, counted.deltas()));
            if all_open.is_none() && counted.firsts.len() == streams as usize {
                all_open = now();
            }
            if first_end.is_none() && counted.first_end.is_some() {
                first_end = now();
            }
            Word::Go
        })
    })?;
    let (mut figures, group) = (Figures::default(), &stage.engine.groups[group]);
    cost.note(&mut figures, "", group.deltas());
    if let (Some((before, shown)), Some((ran, deltas))) = (all_open, first_end)
        && deltas > shown
    {
        figures.set("cpu_us_per_delta_open", (ran - before) as f64 / 1000.0 / (deltas - shown) as f64);
    }
    figures.times("latency", &group.steady());
    figures.times("latency_with_openings", &group.within(0, u64::MAX));
    Ok(figures)
}
