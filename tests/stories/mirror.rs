//! What a replica shows of a turn that runs on another, where that is not saved yet.

use std::time::Duration;

use crate::relay::{Shown, deltas, gated};
use crate::support::{Block, Encoding, Fold, Frame, Gate, Pair, Stream, assert_stamps, eventually};

async fn saved_up_to(pair: &Pair, last: &Frame) {
    let seq = last.json["seq"].to_string();
    eventually("what is shown to be saved", async || {
        (pair.outage.database.texts("select cast(max(last_seq) as text) from journal").await == [&*seq]).then_some(())
    })
    .await;
}

async fn taken(pair: &Pair) {
    eventually("its turn to be taken", async || {
        (pair.outage.database.texts("select cast(epoch as text) from turns").await == ["2"]).then_some(())
    })
    .await;
}

/// A turn that is read at both. Four of its deltas were shown when its replica died, and two of them are saved.
async fn shown_and_lost(pair: &mut Pair) -> (Shown, Block) {
    let mut shown = Shown::by(pair).await;
    let before = deltas(&mut shown.theirs, 2).await;
    deltas(&mut shown.mine, 2).await;
    saved_up_to(pair, before.last().unwrap()).await;
    // From here on nothing can be saved, not even an end.
    let block = pair.outage.database.block_tables("journal").await;
    shown.gate.pass(1);
    deltas(&mut shown.theirs, 2).await;
    pair.one.kill();
    (shown, block)
}

/// A turn of the one that nobody reads at the other. Four deltas of it are passed on, and two of them cannot be saved.
struct Unsaved {
    conversation: String,
    turn: String,
    gate: Gate,
    mine: Stream,
    block: Block,
}

impl Unsaved {
    async fn by(pair: &Pair) -> Self {
        let gate = Gate::new();
        pair.upstream.push(gated(&gate));
        let conversation = pair.a.conversation().await;
        let mut mine = pair.a.ask(&conversation, "go").await;
        let turn = mine.turn();
        saved_up_to(pair, deltas(&mut mine, 2).await.last().unwrap()).await;
        let block = pair.outage.database.block_tables("journal").await;
        gate.pass(1);
        let last = deltas(&mut mine, 2).await.last().unwrap().json["seq"].to_string();
        let stream = format!("tidegate:turn:{turn}");
        eventually("the other two to be passed on", async || {
            pair.redis.cli(&["XREVRANGE", &stream, "+", "-", "COUNT", "1"]).contains(&format!("{last}-0")).then_some(())
        })
        .await;
        Self { conversation, turn, gate, mine, block }
    }
}

#[tokio::test]
async fn what_is_not_saved_is_shown_to_who_comes_elsewhere_once_its_owner_is_heard_of() {
    let pair = Pair::new().await;
    let Unsaved { conversation, turn, gate, mut mine, block } = Unsaved::by(&pair).await;
    let mut late = pair.b.events(Encoding::Ndjson, &turn, 0).await;
    let mut seen = deltas(&mut late, 2).await;
    let more = tokio::time::timeout(Duration::from_millis(900), late.event()).await;
    assert!(more.is_err(), "its owner may be dead: {more:?}");
    gate.pass(1);
    seen.extend(deltas(&mut late, 4).await);
    deltas(&mut mine, 2).await;
    drop(block);
    seen.extend(late.rest().await);
    assert_eq!(assert_stamps(Fold::of(&seen).content()), 6);
    Fold::of(&seen).assert_same_as(&pair.b.answer(&conversation).await);
}

#[tokio::test]
async fn what_was_held_back_from_who_came_elsewhere_is_shown_once_it_is_saved() {
    let pair = Pair::new().await;
    let Unsaved { turn, gate, block, .. } = Unsaved::by(&pair).await;
    let mut late = pair.b.events(Encoding::Ndjson, &turn, 0).await;
    deltas(&mut late, 2).await;
    drop(block);
    deltas(&mut late, 2).await;
    gate.open();
    assert_eq!(late.rest().await.last().unwrap().json["status"], "completed");
}

#[tokio::test]
async fn what_a_dead_replica_passed_on_and_never_saved_is_shown_to_nobody_who_comes_before_its_turns_are_taken() {
    let mut pair = Pair::new().await;
    let Unsaved { conversation, turn, block, .. } = Unsaved::by(&pair).await;
    pair.one.kill();
    let mut late = pair.b.events(Encoding::Sse, &turn, 0).await;
    let mut seen = deltas(&mut late, 2).await;
    taken(&pair).await;
    drop(block);
    seen.extend(late.rest().await);
    assert_eq!(seen.iter().filter(|frame| frame.kind() == "delta").count(), 2, "the others are lost");
    assert_eq!(seen.last().unwrap().json["status"], "interrupted");
    Fold::of(&seen).assert_same_as(&pair.b.answer(&conversation).await);
}

#[tokio::test]
async fn an_end_that_a_dead_replica_could_not_save_is_told_to_nobody_who_comes_later() {
    let mut pair = Pair::with(|setup| setup.set("limits.unsaved_s", 2)).await;
    let Unsaved { conversation, turn, gate, mut mine, block } = Unsaved::by(&pair).await;
    gate.open();
    assert_eq!(mine.rest().await.last().unwrap().json["saved"], false);
    let stream = format!("tidegate:turn:{turn}");
    eventually("it to be passed on", async || {
        let last = pair.redis.cli(&["XREVRANGE", &stream, "+", "-", "COUNT", "1"]);
        last.lines().next().is_some_and(|id| id.ends_with("-1")).then_some(())
    })
    .await;
    pair.one.kill();
    let mut late = pair.b.events(Encoding::Ndjson, &turn, 0).await;
    let mut seen = deltas(&mut late, 2).await;
    taken(&pair).await;
    drop(block);
    seen.extend(late.rest().await);
    let end = &seen.last().unwrap().json;
    assert!(end["status"] == "interrupted" && end["saved"] != false, "{end}");
    Fold::of(&seen).assert_same_as(&pair.b.answer(&conversation).await);
}

#[tokio::test]
async fn what_those_see_who_read_along_is_not_shown_to_who_comes_after_its_replica_died_and_is_not_saved() {
    let mut pair = Pair::new().await;
    let (Shown { conversation, turn, mut theirs, .. }, block) = shown_and_lost(&mut pair).await;
    // As much as a crash may take of what was shown.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let (mut late, mut later) =
        (pair.b.events(Encoding::Ndjson, &turn, 0).await, pair.b.events(Encoding::Sse, &turn, 0).await);
    let (mut seen, mut also) = (deltas(&mut late, 2).await, deltas(&mut later, 2).await);
    taken(&pair).await;
    drop(block);
    seen.extend(late.rest().await);
    also.extend(later.rest().await);
    for seen in [seen, also] {
        assert_eq!(seen.iter().filter(|frame| frame.kind() == "delta").count(), 2, "the others are lost");
        assert_eq!(seen.last().unwrap().json["status"], "interrupted");
        Fold::of(&seen).assert_same_as(&pair.b.answer(&conversation).await);
    }
    let rest = theirs.rest().await;
    assert!(rest.iter().any(|frame| frame.kind() == "snapshot"), "who saw more is told what counts: {rest:?}");
}

#[tokio::test]
async fn what_a_dead_replica_passed_on_and_never_saved_is_shown_to_nobody_who_comes_after_its_turns_are_taken() {
    let mut pair = Pair::new().await;
    let (Shown { conversation, turn, .. }, block) = shown_and_lost(&mut pair).await;
    taken(&pair).await;
    let mut late = pair.b.events(Encoding::Sse, &turn, 0).await;
    let mut seen = deltas(&mut late, 2).await;
    drop(block);
    seen.extend(late.rest().await);
    assert_eq!(seen.iter().filter(|frame| frame.kind() == "delta").count(), 2, "the others are lost");
    assert_eq!(seen.last().unwrap().json["status"], "interrupted");
    Fold::of(&seen).assert_same_as(&pair.b.answer(&conversation).await);
}
