//! The first delta on a connection that is kept alive, of a model that takes a millisecond for it.

use super::Stage;
use crate::clock::MILLISECOND;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::figures::{Figures, sorted};
use crate::gateway::Gateway;

const REQUESTS: u32 = 300;
const PLAN: Plan = Plan { deltas: 3, every_us: 1000, first_us: 1000, spread: false };
/// From an answer to the next question.
const PAUSE: u64 = 3 * MILLISECOND;

/// From the question to the first delta, and to the answer's head; of the fake model alone, too.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(4)?;
    let mut figures = Figures::default();
    let model = Gateway::none(stage.engine.address()?);
    let (alone, _) = ask(stage, model.visit(PLAN, 0))?;
    figures.times("model_alone", &alone);
    let (first, head) = ask(stage, stage.gateway.visit(PLAN, 0))?;
    figures.times("first", &first);
    // Tidegate's head leaves when the turn is admitted, a proxy's when the model's has come.
    figures.times("head", &head);
    Ok(figures)
}

fn ask(stage: &mut Stage, visit: Visit) -> Result<(Vec<u64>, Vec<u64>), Void> {
    let group = stage.engine.group((REQUESTS * PLAN.deltas) as usize);
    stage.engine.add(Visit { group, times: Times::Just(REQUESTS), pause: PAUSE, ..visit });
    stage.engine.run(|_| Word::Go)?;
    let group = &stage.engine.groups[group];
    Ok((sorted(&group.firsts), sorted(&group.heads)))
}
