//! Replicas that share a Redis: what passing turns on costs the one that runs them, what reading them costs another, and how soon a
//! reader that comes to the other is told something.

use super::Stage;
use crate::clock::{MILLISECOND, SECOND};
use crate::cost;
use crate::drive::Void;
use crate::drive::engine::Word;
use crate::drive::plan::Plan;
use crate::drive::visitor::Visit;
use crate::figures::{Figures, sorted};
use crate::gateway::Gateway;

const STREAMS: u32 = 500;
const DELTAS: u32 = 200;
const EVERY_US: u32 = 20_000;
/// The streams are opened within this time.
const OPENING: u64 = 2 * SECOND;
/// The first delta comes when everybody is there who reads it elsewhere.
const WATCHED: Plan = Plan { deltas: 200, every_us: EVERY_US, first_us: 6_000_000, spread: true };
/// Turns that are under way when others come to read them elsewhere.
const UNDER_WAY: Plan = Plan { deltas: 300, every_us: EVERY_US, first_us: 0, spread: true };
const COMING: u32 = 300;

/// CPU a delta without Redis and with it; of a replica that only shows what runs on the other; to the first delta there.
pub fn run(stage: &mut Stage) -> Result<Figures, Void> {
    let peers = stage.peers.take().ok_or_else(|| Void::new("there is one replica only"))?;
    let mut figures = Figures::default();
    stage.warm(20)?;
    let bytes = peers.redis.received()?;
    paced(stage, None, &mut figures, "")?;
    let deltas = figures.get("deltas").unwrap_or(1.0);
    figures.set("redis_bytes_per_delta", (peers.redis.received()? - bytes) / deltas);
    paced(stage, Some(&peers.alone), &mut figures, "_without")?;
    let redis = peers.redis.tree();
    let (before, streams) = (redis.cpu().ran, stage.size(STREAMS));
    let turns = watched(stage, &peers.other, streams, &mut figures)?;
    figures.set("redis_us_per_delta", (redis.cpu().ran - before) as f64 / 1000.0 / f64::from(streams * WATCHED.deltas));
    coming(stage, &peers.other, &mut figures)?;
    figures.times("xrange", &sorted(&peers.redis.ranges(&turns)?));
    Ok(figures)
}

fn paced(stage: &mut Stage, of: Option<&Gateway>, figures: &mut Figures, suffix: &str) -> Result<(), Void> {
    let (streams, deltas) = (stage.size(STREAMS), stage.size(DELTAS).max(150));
    let group = stage.engine.group((streams * deltas) as usize);
    let visit = of.unwrap_or(&stage.gateway).visit(Plan::paced(deltas, EVERY_US), group);
    stage.add(&visit, streams, OPENING);
    let cost = cost::of(of.unwrap_or(&stage.gateway), || stage.engine.run(|_| Word::Go))?;
    let group = &stage.engine.groups[group];
    cost.note(figures, suffix, group.deltas());
    figures.times(&format!("latency{suffix}"), &group.steady());
    Ok(())
}

/// Each turn has one reader where it runs and one elsewhere. Gives the turns.
fn watched(stage: &mut Stage, other: &Gateway, streams: u32, figures: &mut Figures) -> Result<Vec<String>, Void> {
    let room = (streams * WATCHED.deltas) as usize;
    let (here, there) = (stage.engine.group(room), stage.engine.group(room));
    let visit = stage.gateway.visit(WATCHED, here);
    let asked = stage.add(&visit, streams, OPENING);
    stage.engine.run(
        |engine| {
            if engine.groups[here].heads.len() < streams as usize { Word::Go } else { Word::Leave }
        },
    )?;
    let turn = |place: usize| stage.engine.visitors[place].turn.clone();
    let turns: Option<Vec<String>> = asked.map(turn).collect();
    let turns = turns.ok_or_else(|| Void::new("an answer without a Turn-Id"))?;
    for turn in &turns {
        let request = other.api.follow(other.address, turn);
        stage.add(&Visit { request, to: other.address, group: there, ..visit.clone() }, 1, MILLISECOND);
    }
    stage.engine.run(
        |engine| {
            if engine.groups[there].heads.len() < streams as usize { Word::Go } else { Word::Leave }
        },
    )?;
    if stage.engine.groups[here].deltas() > 0 {
        return Err(Void::new("deltas came before everybody was there"));
    }
    let cost = cost::of(other, || stage.engine.run(|_| Word::Go))?;
    let group = &stage.engine.groups[there];
    cost.note(figures, "_relayed", group.deltas());
    figures.times("latency_relayed", &group.within(0, u64::MAX));
    Ok(turns)
}

/// Readers come elsewhere to turns that are under way.
fn coming(stage: &mut Stage, other: &Gateway, figures: &mut Figures) -> Result<(), Void> {
    let (turns, readers) = (stage.size(100), stage.size(COMING));
    let (here, there) = (stage.engine.group(0), stage.engine.group(0));
    let visit = stage.gateway.visit(UNDER_WAY, here);
    let asked = stage.add(&visit, turns, SECOND / 2);
    stage.engine.run(
        |engine| {
            if engine.groups[here].firsts.len() < turns as usize { Word::Go } else { Word::Leave }
        },
    )?;
    let turn = |place: usize| stage.engine.visitors[place].turn.clone();
    let turns: Option<Vec<String>> = asked.map(turn).collect();
    let turns = turns.ok_or_else(|| Void::new("an answer without a Turn-Id"))?;
    for (reader, turn) in (0..readers).zip(turns.iter().cycle()) {
        let request = other.api.follow(other.address, turn);
        let start = 2 * SECOND * u64::from(reader) / u64::from(readers);
        stage.add(&Visit { request, to: other.address, group: there, start, ..visit.clone() }, 1, MILLISECOND);
    }
    stage.engine.run(|_| Word::Go)?;
    figures.times("resume", &sorted(&stage.engine.groups[there].firsts));
    Ok(())
}
