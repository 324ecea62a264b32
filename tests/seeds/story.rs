//! A seed from its beginning to its verdict.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{FutureExt, join_all};
use serde_json::json;

use super::asker::{Asked, Asker};
use super::schedule::{REPLICAS, Schedule};
use super::stage::Stage;
use super::tally::Tally;
use super::verdict::{self, Turn};
use crate::support::{Request, Stream, Task, within};

/// How long turns may be open after the last fault: a lease and the second that a taker has, and what an unoptimised
/// build and a machine with other work take for it.
const SETTLED: Duration = Duration::from_millis(1000 + 1000 + 2500);
/// How often the taker of many turns waits for the machine, one after the other.
const TAKES: u32 = 40;
/// How long readers may take to hear of it all after that.
const HEARD: Duration = Duration::from_secs(8);
/// How many things are looked at side by side.
const AT_ONCE: usize = 12;

/// Plays a seed and judges it. Where a promise is broken, all that is known is printed before the test fails.
pub async fn tell(schedule: &Schedule) -> Tally {
    let stage = Stage::set(schedule).await;
    match AssertUnwindSafe(Box::pin(play(schedule, &stage))).catch_unwind().await {
        Ok(tally) => tally,
        Err(panic) => {
            report(schedule, &stage).await;
            resume_unwind(panic)
        }
    }
}

async fn play(schedule: &Schedule, stage: &Stage) -> Tally {
    let field = &stage.field;
    let faults = stage.faults(schedule);
    let known = Arc::new(AtomicUsize::new(0));
    let asking: Vec<_> = schedule.plans.iter().map(|plan| ask(stage, plan.clone(), known.clone())).collect();
    join_all(faults.into_iter().map(Task::join)).await;
    field.until(schedule.plans.iter().map(|plan| plan.at).max().unwrap_or_default()).await;
    field.hurry.open();
    within("every question to be admitted, or not", async {
        while known.load(Ordering::Relaxed) < schedule.plans.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let settled = settle(stage).await;
    let mut asked = hear(stage, asking).await;
    asked.sort_by_key(|asked| asked.plan.number);

    let mut tally = Tally { seed: schedule.seed, redis: schedule.redis, settled, ..Tally::default() };
    let turns = read(stage).await;
    for asked_one in &asked {
        let Some(turn) = &asked_one.turn else { continue };
        let Some(known) = turns.get(turn) else { panic!("{turn} was told to a client and is not in the record") };
        let judging = AssertUnwindSafe(|| verdict::judge(stage, asked_one, known, &asked, &mut tally));
        if let Err(panic) = catch_unwind(judging) {
            tell_turn(stage, asked_one, known);
            resume_unwind(panic);
        }
    }
    verdict::judge_usage(stage, &turns).await;
    retry(stage, &asked, &turns).await;
    verdict::judge_calls(stage, &turns, &asked);
    assert_free(stage).await;
    let visits = asked.iter().flat_map(|asked| &asked.witnesses).map(|witness| witness.returns());
    Tally {
        turns: turns.len(),
        live: field.truth.most_live(),
        events: field.truth.count(),
        faults: schedule.count(),
        resumes: visits.sum(),
        took: field.begun.elapsed(),
        ..tally
    }
}

fn ask(stage: &Stage, plan: super::plan::Plan, known: Arc<AtomicUsize>) -> Task<Asked> {
    let asker = Asker::new(&stage.field, plan);
    Task::start(asker.play(move || {
        known.fetch_add(1, Ordering::Relaxed);
    }))
}

/// Waits until no turn is open; how long that took.
async fn settle(stage: &Stage) -> Duration {
    let calm = Instant::now();
    loop {
        let open =
            "select id || ' ' || status || ' ' || replica_id || ' ' || epoch from turns where finished_at is null";
        let open = stage.database.texts(open).await;
        if open.is_empty() {
            return calm.elapsed();
        }
        let late = stage.lateness.of(&[], calm, Instant::now(), TAKES);
        assert!(calm.elapsed() < SETTLED + late, "turns are left open: {open:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until everybody has read to the end.
async fn hear(stage: &Stage, asking: Vec<Task<Asked>>) -> Vec<Asked> {
    let mut heard = Box::pin(join_all(asking.into_iter().map(Task::join)));
    match tokio::time::timeout(HEARD, &mut heard).await {
        Ok(asked) => asked,
        Err(_) => {
            // Whoever still reads says so, and fails.
            stage.field.enough.send_replace(true);
            heard.await
        }
    }
}

/// Reads every turn there is from every replica.
async fn read(stage: &Stage) -> HashMap<String, Turn> {
    let rows = stage.database.texts("select id || ' ' || epoch from turns").await;
    let mut turns = HashMap::new();
    for rows in rows.chunks(AT_ONCE) {
        let read = rows.iter().map(|row| async move {
            let (turn, epoch) = row.split_once(' ').unwrap();
            (turn.to_owned(), Turn::read(stage, turn, epoch.parse().unwrap()).await)
        });
        turns.extend(join_all(read).await);
    }
    turns
}

/// Asks everything that has a key once more: each gives the same turn, told from its beginning.
async fn retry(stage: &Stage, asked: &[Asked], turns: &HashMap<String, Turn>) {
    let field = &stage.field;
    let keyed: Vec<_> = asked.iter().filter(|asked| asked.plan.keyed && asked.turn.is_some()).collect();
    for some in keyed.chunks(AT_ONCE) {
        join_all(some.iter().map(|asked| async move {
            let client = &field.direct[asked.plan.number % REPLICAS];
            let mut stream: Stream = client.open(Asker::request(field, &asked.plan)).await;
            assert_eq!(stream.status(), 200, "{}", stream.text().await);
            let turn = stream.turn();
            assert_eq!(Some(&turn), asked.turn.as_ref(), "the same key gives another turn: {:?}", asked.plan);
            let told = verdict::bytes(&stream.rest().await);
            assert_eq!(told, verdict::bytes(&turns[&turn].record.frames), "{turn} under its key");
        }))
        .await;
    }
}

/// Fails unless every conversation takes a new question.
async fn assert_free(stage: &Stage) {
    let field = &stage.field;
    let conversations: Vec<_> = field.conversations.iter().enumerate().collect();
    for some in conversations.chunks(AT_ONCE) {
        join_all(some.iter().map(|(at, conversation)| async move {
            let body = json!({"content": format!("short at last {at}"), "if_busy": "reject"});
            let request = Request::post(&format!("/v1/conversations/{conversation}/messages"), &body);
            let reply = field.direct[(at + 1) % REPLICAS].send(request.header("accept", "application/json")).await;
            assert_eq!(reply.expect(200)["status"], "completed", "{conversation} is not free");
        }))
        .await;
    }
}

/// All that is known of a turn that broke a promise.
fn tell_turn(stage: &Stage, asked: &Asked, turn: &Turn) {
    let record = &turn.record;
    eprintln!("--- {} (epoch {}, {}, crash {:?})", record.turn, turn.epoch, record.status(), record.crash);
    eprintln!("asked of {:?} after {:?}: {:?}", asked.replicas, asked.at - stage.field.begun, asked.plan);
    let saved = record.crash.map_or(record.last(), |(saved, _)| saved);
    eprintln!("around {saved}:\n{}", stage.field.truth.tell(&record.turn, saved));
    asked.witnesses.iter().for_each(|witness| eprintln!("{}", witness.tell()));
}

async fn report(schedule: &Schedule, stage: &Stage) {
    eprintln!("--- the schedule ---\n{schedule}--- what happened ---\n{}", stage.field.calamities.tell());
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("seed-{}", schedule.seed));
    std::fs::create_dir_all(&folder).unwrap();
    for replica in &stage.replicas {
        let (log, file) = (replica.log().await, folder.join(format!("replica-{}.log", replica.number)));
        std::fs::write(&file, &log).unwrap();
        // What is asked to feel how late the machine is, is of no interest.
        let lines: Vec<_> = log.lines().filter(|line| !line.contains("/healthz")).collect();
        let tail = &lines[lines.len().saturating_sub(25)..];
        eprintln!("--- the last of {} ---\n{}", file.display(), tail.join("\n"));
    }
    eprintln!("the machine's timers were late by {:?} at worst", stage.lateness.worst());
    eprintln!("--- to play it again ---\n{}", again(schedule));
}

/// The command that plays a schedule again.
pub fn again(schedule: &Schedule) -> String {
    let build = if cfg!(debug_assertions) { "--dev " } else { "" };
    format!("scripts/soak {build}1 {} {}", schedule.seed, schedule.questions)
}
