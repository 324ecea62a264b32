//! What is held against every turn once all is calm: the promises, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::asker::Asked;
use super::stage::{Stage, deltas};
use super::tally::Tally;
use super::witness::{Visit, Witness};
use crate::support::{Frame, Record, assert_stamps};

/// What `relaxed` may lose of what was shown.
const MOST: Duration = Duration::from_millis(100);
/// How often a commit waits for the machine: four round trips, at both ends.
const WAITS: u32 = 8;
/// How long a replica that was cut off or stood still may take to find out what became of its turns: its journal tries
/// again once a second.
const FINDS_OUT: Duration = Duration::from_millis(1500);
/// A machine that is so late may take a lease by itself.
const LATE: Duration = Duration::from_millis(300);

/// One turn as the record has it, the same from every replica.
pub struct Turn {
    /// The record.
    pub record: Record,
    /// How often it changed hands, and one more.
    pub epoch: u64,
}

impl Turn {
    /// Reads it from every replica. Fails unless all tell the same.
    pub async fn read(stage: &Stage, turn: &str, epoch: u64) -> Self {
        let mut records = Vec::new();
        for client in &stage.field.direct {
            records.push(Record::read(client, turn).await);
        }
        let record = records.pop().unwrap();
        for other in records {
            assert_eq!(bytes(&record.frames), bytes(&other.frames), "{turn}: two replicas tell other events");
            assert_eq!(record.message, other.message, "{turn}: two replicas tell another message");
        }
        Self { record, epoch }
    }

    /// Who may have had it when it crashed: whoever admitted it, unless it has changed hands more than once.
    fn suspects(&self, asked: &Asked) -> Vec<usize> {
        if self.epoch > 2 { Vec::new() } else { asked.replicas.iter().copied().collect() }
    }
}

/// The bytes of frames.
pub fn bytes(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned()).collect()
}

/// Judges one turn by its record and by all who read it.
pub fn judge(stage: &Stage, asked: &Asked, turn: &Turn, all: &[Asked], tally: &mut Tally) {
    let record = &turn.record;
    judge_end(stage, asked, turn, all, tally);
    let events: BTreeMap<u64, &Frame> = record.frames.iter().map(|frame| (frame.seq().unwrap(), frame)).collect();
    for (seq, shown) in stage.field.truth.of(&record.turn) {
        match events.get(&seq) {
            Some(frame) => assert!(
                frame.bytes == shown.bytes,
                "event {seq} was shown as {} and is in the record as {}",
                String::from_utf8_lossy(&shown.bytes),
                frame.json
            ),
            None => judge_loss(stage, asked, turn, seq, shown.at, tally),
        }
    }
    for witness in &asked.witnesses {
        judge_witness(witness, record, &events);
    }
    if let Some(message) = &asked.stopped {
        assert_eq!(message, &record.message, "left is what the stop was answered with, right the record");
    }
}

/// The end is one of those that something here can bring about.
fn judge_end(stage: &Stage, asked: &Asked, turn: &Turn, all: &[Asked], tally: &mut Tally) {
    let record = &turn.record;
    let said = assert_stamps(record.message["content"].as_str().unwrap_or_default());
    let (at_once, paced) = deltas(asked.plan.answer);
    assert!(said <= at_once + paced, "{said} deltas were said");
    match record.status() {
        "completed" => assert_eq!((said, record.crash), (at_once + paced, None), "a whole answer"),
        "stopped" => {
            let by = record.message["stopped_by"].as_str().unwrap_or_default();
            let same = |other: &&Asked| other.plan.conversation == asked.plan.conversation;
            let interrupts =
                |other: &Asked| other.plan.number != asked.plan.number && other.plan.if_busy == "interrupt";
            let asked_for = match by {
                "request" => asked.plan.stop.is_some(),
                "interrupt" => all.iter().filter(same).any(interrupts),
                _ => false,
            };
            assert!(asked_for && record.crash.is_none(), "nobody stopped it: {by:?}");
            tally.stopped += 1;
        }
        "interrupted" => {
            tally.interrupted += 1;
            let shown = stage.field.truth.of(&record.turn);
            let ended = shown.get(&record.last()).map_or_else(Instant::now, |shown| shown.at);
            let excuse = stage.field.calamities.excuse(&turn.suspects(asked), asked.at, ended, FINDS_OUT);
            if !excuse {
                let late = stage.lateness.of_timers(asked.at, ended);
                assert!(late >= LATE, "it was interrupted, and nothing had happened; {late:?} are the machine's");
                tally.unprovoked += 1;
            }
        }
        status => panic!("nothing here ends a turn as {status}"),
    }
}

/// What was shown and is lost was shown just before its replica died, or could save nothing.
fn judge_loss(stage: &Stage, asked: &Asked, turn: &Turn, seq: u64, at: Instant, tally: &mut Tally) {
    let record = &turn.record;
    let crash = record.crash.unwrap_or_else(|| panic!("event {seq} was shown and is lost, and there was no crash"));
    assert!(
        crash.0 < seq && seq < crash.1 && record.status() == "interrupted",
        "event {seq} is lost, crash: {crash:?}"
    );
    let suspects = turn.suspects(asked);
    // What makes a commit late may begin while it is late already.
    let mut late = Duration::ZERO;
    loop {
        let later = stage.lateness.of(&suspects, at - 3 * MOST, at + 3 * MOST + late, WAITS);
        if later <= late {
            break;
        }
        late = later;
    }
    let excuse = stage.field.calamities.excuse(&suspects, at, at + MOST + late, FINDS_OUT);
    assert!(
        excuse || late >= LATE,
        "event {seq} was shown, was not saved within {MOST:?}, and is lost; {late:?} are the machine's"
    );
    tally.lost += 1;
}

/// What a reader was told is what its cursor was owed, visit by visit, and its fold is the message.
fn judge_witness(witness: &Witness, record: &Record, events: &BTreeMap<u64, &Frame>) {
    let told = || format!("{}crash: {:?}", witness.tell(), record.crash);
    for visit in &witness.visits {
        judge_visit(visit, record, events, &told);
    }
    if witness.fold.ended {
        witness.fold.assert_same_as(&record.message);
    }
}

fn judge_visit(visit: &Visit, record: &Record, events: &BTreeMap<u64, &Frame>, told: &dyn Fn() -> String) {
    let mut cursor = visit.cursor;
    for frame in &visit.frames {
        let Some(seq) = frame.seq() else { continue };
        let ahead = record.crash.is_some_and(|(saved, resumed)| saved < cursor && cursor < resumed - 1);
        if frame.kind() == "snapshot" {
            let stands_for = record.crash.map(|(_, resumed)| resumed - 1);
            assert!(ahead && Some(seq) == stands_for, "a snapshot {seq} for a reader at {cursor}: {}", told());
        } else if events.contains_key(&seq) {
            let due = events.range(cursor + 1..).next().map(|(due, _)| *due);
            assert_eq!(Some(seq), due, "left came to a reader at {cursor}, right was due: {}", told());
            assert!(!ahead, "a reader at {cursor} had seen what is lost, and was given {seq}: {}", told());
        }
        cursor = seq;
    }
}

/// No question was asked twice of the model, and each that was answered was asked.
pub fn judge_calls(stage: &Stage, turns: &HashMap<String, Turn>, asked: &[Asked]) {
    let mut calls = HashMap::<String, usize>::new();
    for call in stage.upstream.calls() {
        *calls.entry(call.question()).or_default() += 1;
    }
    for (question, count) in &calls {
        assert_eq!(*count, 1, "the model was asked more than once: {question}");
    }
    for asked in asked {
        let question = asked.plan.question(stage.field.seed);
        let record = asked.turn.as_ref().map(|turn| &turns[turn].record);
        if record.is_some_and(|record| record.message["content"] != "") {
            assert!(calls.contains_key(&question), "an answer came from nowhere: {question}");
        }
    }
}

/// What was counted is what was used, each call once, and the sums are those of the records.
pub async fn judge_usage(stage: &Stage, turns: &HashMap<String, Turn>) {
    let twice = "select turn_id from usage_records group by turn_id having count(*) > 1";
    assert_eq!(stage.database.texts(twice).await, Vec::<String>::new(), "calls that are counted twice");
    let usage = turns.values().map(|turn| &turn.record.message["usage"]).filter(|usage| !usage.is_null());
    let mut used = [0, 0, 0];
    for usage in usage {
        used[0] += 1;
        used[1] += usage["prompt_tokens"].as_u64().unwrap();
        used[2] += usage["completion_tokens"].as_u64().unwrap();
    }
    let due = [used.map(|sum| sum.to_string()).join(" ")];
    let records = "select count(*) || ' ' || coalesce(sum(prompt_tokens), 0) || ' ' || coalesce(sum(completion_tokens), 0) \
         from usage_records";
    assert_eq!(stage.database.texts(records).await, due, "left is what the records say, right the messages");
    for span in [900, 86_400] {
        let sums = format!(
            "select coalesce(sum(calls), 0) || ' ' || coalesce(sum(prompt_tokens), 0) || ' ' || \
             coalesce(sum(completion_tokens), 0) from usage_totals where span = {span}"
        );
        assert_eq!(stage.database.texts(&sums).await, due, "left are the sums by {span} s, right the messages");
    }
}
