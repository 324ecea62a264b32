//! 1,000 readers on one turn, beside 1,000 turns with a reader each, and one turn with one.

use super::Stage;
use crate::clock::{MILLISECOND, SECOND};
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::Visit;
use crate::figures::Figures;

const READERS: u32 = 1000;
/// The first delta comes when everybody is there.
const PLAN: Plan = Plan { deltas: 150, every_us: 40_000, first_us: 6_000_000, spread: true };

/// CPU for a delta delivered, from when everybody is there to the end.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(20)?;
    let mut figures = Figures::default();
    let readers = stage.size(READERS);
    for (suffix, turns, more) in [("_alone", 1, 0), ("_own", readers, 0), ("_shared", 1, readers - 1)] {
        let room = (turns + more) * PLAN.deltas;
        let group = stage.engine.group(room as usize);
        let visit = stage.gateway.visit(PLAN, group);
        let asked = stage.add(&visit, turns, u64::from(turns) * SECOND / 250);
        stage.engine.run(until_open(group, turns))?;
        if more > 0 {
            let turn = stage.engine.visitors[asked.start].turn.clone();
            let turn = turn.ok_or_else(|| Void::new("an answer without a Turn-Id"))?;
            let request = stage.gateway.api.follow(stage.gateway.address, &turn);
            stage.add(&Visit { request, ..visit }, more, u64::from(more) * MILLISECOND);
            stage.engine.run(until_open(group, turns + more))?;
        }
        if stage.engine.groups[group].deltas() > 0 {
            return Err(Void::new("deltas came before everybody was there"));
        }
        let cost = cost::of(&stage.gateway, || stage.engine.run(|_| Word::Go))?;
        let group = &stage.engine.groups[group];
        cost.note(&mut figures, suffix, group.deltas());
        figures.times(&format!("latency{suffix}"), &group.within(0, u64::MAX));
    }
    Ok(figures)
}

/// Until so many have an answer's head.
fn until_open(group: usize, users: u32) -> impl FnMut(&crate::drive::engine::Engine) -> Word {
    move |engine| if engine.groups[group].heads.len() < users as usize { Word::Go } else { Word::Leave }
}
