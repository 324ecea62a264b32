//! From shown to saved, at 25,000 deltas a second: what a crash could lose.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Stage, saved};
use crate::clock::SECOND;
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::Visit;
use crate::figures::{Figures, sorted};

const STREAMS: u32 = 500;
const DELTAS: u32 = 300;
const EVERY_US: u32 = 20_000;
/// One of so many streams is looked up in the record.
const SAMPLED: usize = 20;
/// The streams are opened within this time.
const OPENING: u64 = 2 * SECOND;

/// For each delta of the sampled streams, from when its reader had it until it was seen in the record.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    stage.warm(20)?;
    let (streams, deltas) = (stage.size(STREAMS), stage.size(DELTAS).max(150));
    let group = stage.engine.group((streams * deltas) as usize);
    let visit = Visit { traced: true, ..stage.gateway.visit(Plan::paced(deltas, EVERY_US), group) };
    let places = stage.add(&visit, streams, OPENING);
    let sampled: Vec<usize> = places.step_by(SAMPLED).collect();
    let Stage { engine, gateway, .. } = stage;
    let record = gateway.record.clone().ok_or_else(|| Void::new("a gateway without a record"))?;
    engine.run(|engine| {
        let known = sampled.iter().all(|place| engine.visitors[*place].turn.is_some());
        if known { Word::Leave } else { Word::Go }
    })?;
    let turns: Vec<String> = sampled.iter().filter_map(|place| engine.visitors[*place].turn.clone()).collect();
    let stop = AtomicBool::new(false);
    let (cost, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| saved::watch(&record.url, &turns, &stop));
        let cost = cost::of(gateway, || engine.run(|_| Word::Go));
        stop.store(true, Ordering::Relaxed);
        let seen = watching.join().unwrap_or_else(|_| Err(Void::new("the watch of the record panicked")));
        Ok::<_, Void>((cost?, seen?))
    })?;
    let mut lags = Vec::new();
    // While all of them are open: the rate is what it is to be.
    let full = engine.groups[group].all_open..engine.groups[group].first_end.unwrap_or(u64::MAX);
    for (place, seen) in sampled.iter().zip(seen) {
        let shown = &engine.visitors[*place].trace;
        // What was saved before the first look says nothing.
        let from = seen.first().map_or(u64::MAX, |(_, count)| *count);
        for (number, at) in (1..).zip(shown).filter(|(number, _)| *number > from) {
            let Some((saved, _)) = seen.iter().find(|(_, count)| *count >= number) else { break };
            if full.contains(at) {
                lags.push(saved.saturating_sub(*at));
            }
        }
    }
    if lags.is_empty() {
        return Err(Void::new("nothing of the sampled turns was seen in the record"));
    }
    let (mut figures, group) = (Figures::default(), &engine.groups[group]);
    cost.note(&mut figures, "", group.deltas());
    figures.times("lag", &sorted(&lags));
    figures.set("lag_samples", lags.len() as f64);
    figures.set("deltas_per_s", group.rate());
    Ok(figures)
}
