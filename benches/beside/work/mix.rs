//! Floods among slow streams: what the many notice of a few that are fast.

use super::Stage;
use crate::clock::SECOND;
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::figures::Figures;

/// Deltas of one flood; its user asks again until the slow ones are done.
const FLOOD: u32 = 2000;

/// How many of which.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    slow: u32,
    every_us: u32,
    deltas: u32,
    /// So many are opened in a second.
    opened: u64,
    floods: u32,
}

/// 500 streams of 50 deltas a second, and one flood.
pub const PACED: Mix = Mix { slow: 500, every_us: 20_000, deltas: 300, opened: 250, floods: 1 };
/// 2,000 streams of one delta a second, and 20 floods.
pub const SLOW: Mix = Mix { slow: 2000, every_us: 1_000_000, deltas: 13, opened: 400, floods: 20 };

/// The slow streams' latency without and with floods, while all of them are open.
pub fn run(stage: &mut Stage, mix: Mix) -> Result<Figures, Void> {
    stage.warm(20)?;
    let mut figures = Figures::default();
    for (suffix, floods) in [("_without", 0), ("_with", mix.floods)] {
        let (slow, deltas) = (stage.size(mix.slow), stage.size(mix.deltas).max(4));
        let opening = u64::from(slow) * SECOND / mix.opened;
        let group = stage.engine.group((slow * deltas) as usize);
        let visit = stage.gateway.visit(Plan::paced(deltas, mix.every_us), group);
        stage.add(&visit, slow, opening);
        let fast = stage.engine.group(if floods > 0 { 4_000_000 } else { 0 });
        if floods > 0 {
            let visit = stage.gateway.visit(Plan::flood(FLOOD), fast);
            stage.add(&Visit { times: Times::WhileOthers, start: opening, ..visit }, floods, 0);
        }
        let cost = cost::of(&stage.gateway, || stage.engine.run(|_| Word::Go))?;
        let (slow, fast) = (&stage.engine.groups[group], &stage.engine.groups[fast]);
        cost.note(&mut figures, suffix, slow.deltas() + fast.deltas());
        figures.times(&format!("slow{suffix}"), &slow.steady());
        if floods > 0 {
            figures.times("flood", &fast.within(0, u64::MAX));
            figures.set("flood_deltas_per_s", fast.rate());
        }
        figures.set(format!("stalled{suffix}"), slow.stalled as f64);
    }
    Ok(figures)
}
