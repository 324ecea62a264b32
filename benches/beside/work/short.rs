//! Short turns, one after the other: what admission and end cost.

use super::{Stage, bare};
use crate::clock::{self, MILLISECOND, SECOND};
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::{Times, Visit};
use crate::figures::{Figures, sorted};

/// Users at once.
const USERS: u32 = 32;
/// Deltas of a turn.
pub const DELTAS: u32 = 10;
/// How long they ask.
const SECONDS: u32 = 5;

/// Turns a second, and those of the bare two transactions on an empty record of the same kind.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(20)?;
    let time = u64::from(stage.size(SECONDS * 10)) * 100 * MILLISECOND;
    let group = stage.engine.group(2_000_000);
    let visit = stage.gateway.visit(Plan::flood(DELTAS), group);
    stage.add(&Visit { times: Times::Just(u32::MAX), ..visit }, USERS, 0);
    let until = clock::now() + time;
    let cost =
        cost::of(&stage.gateway, || stage.engine.run(|_| if clock::now() < until { Word::Go } else { Word::Wind }))?;
    let (mut figures, group) = (Figures::default(), &stage.engine.groups[group]);
    cost.note(&mut figures, "", group.deltas());
    let took = (group.last - group.begun.unwrap_or(0)).max(1);
    figures.set("turns_per_s", group.turns as f64 * SECOND as f64 / took as f64);
    figures.times("first", &sorted(&group.firsts));
    if let Some(record) = &stage.gateway.record {
        let bare = bare::turns_per_s(record, USERS, time, stage.core)?;
        figures.set("bare_turns_per_s", bare);
    }
    Ok(figures)
}
