//! `kill -9` at any moment: what was shown is kept, as far as the durability says, and every turn has its one end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use crate::support::{
    Client, Database, Encoding, Fold, Frame, Gateway, Kind, Pulse, Record, Request, Script, Stream, Task, Upstream,
    chance_of, eventually, kills, seeds,
};

/// Live turns at every kill.
const TURNS: usize = 50;
/// One in so many conversations has a queued turn behind its live one.
const QUEUES: usize = 10;
/// What `relaxed` may lose of what was shown.
const MOST: Duration = Duration::from_millis(100);
/// How often a commit waits for its turn on the machine: four round trips, at both ends.
const WAITS: u32 = 8;
/// How often the taker of all these turns waits for the machine, one after the other: some six statements for a turn,
/// eight turns at once.
const TAKES: u32 = 40;
/// How many ask at the same time.
const ASKING: usize = 8;
/// The time between two deltas.
const PACE: Duration = Duration::from_millis(20);
/// `lease_s`, and the second that a taker has.
const TAKEN: Duration = Duration::from_secs(1 + 1);

/// What a reader saw, and when it came.
type Seen = Vec<(Frame, Instant)>;

/// One question, asked once.
#[derive(Clone)]
struct Question {
    conversation: String,
    /// Nothing else has it.
    text: String,
    queued: bool,
}

impl Question {
    fn request(&self) -> Request {
        let body = json!({"content": self.text, "if_busy": "queue", "metadata": {"queued": self.queued}});
        let request = Request::post(&format!("/v1/conversations/{}/messages", self.conversation), &body);
        request.header("idempotency-key", &self.text.replace(' ', "-"))
    }
}

/// What came of a question: its turn, if the answer's head came, and what each of its readers saw.
struct Asked {
    question: Question,
    turn: Option<String>,
    seen: Vec<Seen>,
}

struct House {
    gateway: Gateway,
    client: Client,
    upstream: Upstream,
    database: Database,
    conversations: Vec<String>,
    strict: bool,
    worst: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_loses_at_most_100_ms_of_what_was_shown() {
    kill_again_and_again(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_strict_a_kill_loses_nothing_that_was_shown() {
    kill_again_and_again(true).await;
}

async fn kill_again_and_again(strict: bool) {
    let (database, upstream) = (Database::fresh().await, Upstream::start().await);
    upstream.always(Script::new().role().paced(200, PACE).finish("stop").usage(9, 200).done());
    upstream.when("short", Script::new().role().paced(10, PACE).finish("stop").usage(9, 10).done());
    upstream.when("endless", Script::new().role().paced(200, PACE).hang());
    upstream.when("hasty", Script::new().role().stamped(150).paced(100, PACE).hang());
    upstream.when("queued", Script::new().role().stamped(3).finish("stop").usage(9, 3).done());
    let setup = Gateway::on(&database).upstream(&upstream).set("cluster.lease_s", 1);
    // However often a conversation has been asked, a question stays small.
    let setup = setup.set("limits.history_bytes", 2048);
    // So little memory that turns are filed, and let go of, while they run.
    let setup = if strict { setup } else { setup.set("limits.turn_memory_bytes", 8192) };
    let gateway = setup.set("stream.durability", if strict { "strict" } else { "relaxed" }).start().await;
    let client = gateway.client();
    let conversations = join_all((0..TURNS).map(|_| client.conversation())).await;
    let mut house = House { gateway, client, upstream, database, conversations, strict, worst: Duration::ZERO };
    for (round, seed) in seeds(kills()).enumerate() {
        house.round(round, seed).await;
    }
    house.assert_free().await;
    println!("{} kills, strict: {strict}; worst loss {} ms", kills(), house.worst.as_millis());
}

impl House {
    async fn round(&mut self, round: usize, seed: u64) {
        let mut rng = chance_of(seed);
        let questions = self.questions(round, &mut rng);
        let after = Duration::from_millis(rng.u64(20..1200));
        let pulse = Pulse::of(&self.client);
        let places = Arc::new(Semaphore::new(ASKING));
        let mut before = Arc::new(Notify::new());
        let ask = |question: Question| {
            let admitted = Arc::new(Notify::new());
            let before = std::mem::replace(&mut before, admitted.clone());
            Task::start(ask(self.client.clone(), question, places.clone(), before, admitted))
        };
        let asking: Vec<_> = questions.into_iter().map(ask).collect();
        tokio::time::sleep(after).await;
        let killed = Instant::now();
        self.gateway.kill();
        let late = pulse.late(WAITS);
        let asked = join_all(asking.into_iter().map(Task::join)).await;

        self.gateway.restart().await;
        let (ready, pulse) = (Instant::now(), Pulse::of(&self.client));
        let resumed: Vec<_> = asked.iter().map(|asked| self.resume(asked, &mut rng)).collect();
        let retried = join_all(asked.iter().map(|asked| retry(&self.client, asked)));
        let (taken, retried) = tokio::join!(self.taken(ready), retried);
        let slow = pulse.late(TAKES);
        drop(pulse);
        assert!(taken <= TAKEN + slow, "a turn was left running for {taken:?}; {slow:?} are the machine's");
        for ((asked, turn), resumed) in asked.iter().zip(retried).zip(resumed) {
            let record = Record::read(&self.client, &turn).await;
            assert!(asked.turn.as_ref().is_none_or(|known| *known == turn), "a retry made another turn");
            self.assert_record(asked, &record, killed, late);
            for (seen, resumed) in asked.seen.iter().zip(join_all(resumed.into_iter().map(Task::join)).await) {
                assert_reader(seen, &resumed, &record);
            }
            self.try_cursors(&record, &mut rng).await;
        }
        self.assert_asked_once();
    }

    fn questions(&self, round: usize, rng: &mut fastrand::Rng) -> Vec<Question> {
        let mut questions = Vec::new();
        for (at, conversation) in self.conversations.iter().enumerate() {
            let question = |text, queued| Question { conversation: conversation.clone(), text, queued };
            let crowded = at % QUEUES == 0;
            let kind = if crowded { "endless" } else { ["short", "long", "long", "hasty"][rng.usize(..4)] };
            questions.push(question(format!("{kind} {round} {at}"), false));
            if crowded {
                questions.push(question(format!("queued {round} {at}"), true));
            }
        }
        questions
    }

    /// Sends every reader back to where it was, ahead of the record or not.
    fn resume(&self, asked: &Asked, rng: &mut fastrand::Rng) -> Vec<Task<Vec<Frame>>> {
        let resume = |seen: &Seen| {
            let (client, turn) = (self.client.clone(), asked.turn.clone());
            let encoding = Encoding::ALL[rng.usize(..2)];
            let cursor = seen.last().map_or(0, |(frame, _)| frame.seq().unwrap());
            let told = seen.last().is_some_and(|(frame, _)| frame.is_end());
            Task::start(async move {
                match turn {
                    Some(turn) if !told => client.events(encoding, &turn, cursor).await.rest().await,
                    _ => Vec::new(),
                }
            })
        };
        asked.seen.iter().map(resume).collect()
    }

    /// How long after `ready` no turn is left that a dead process was running; the queued ones run anew.
    async fn taken(&self, ready: Instant) -> Duration {
        let left = "select t.id from turns t join messages m on m.id = t.user_message_id \
             where t.status = 'running' and t.finished_at is null and m.metadata not like '%true%' and t.epoch = 1 \
             and t.replica_id <> (select max(id) from replicas)";
        let running = self.database.texts(left).await;
        if self.database.kind() == Kind::Sqlite {
            assert!(running.is_empty(), "left running at ready: {running:?}");
        }
        eventually("turns to be taken over", async || self.database.texts(left).await.is_empty().then_some(())).await;
        ready.elapsed()
    }

    fn assert_record(&mut self, asked: &Asked, record: &Record, killed: Instant, late: Duration) {
        let text = &asked.question.text;
        let mut meanings = BTreeMap::new();
        for (frame, came) in asked.seen.iter().flatten() {
            let seq = frame.seq().unwrap();
            let meant = meanings.entry(seq).or_insert_with(|| frame.bytes.clone());
            assert_eq!(meant, &frame.bytes, "{text}: event {seq} has two meanings");
            if let Some(saved) = record.event(seq) {
                assert_eq!(saved.bytes, frame.bytes, "{text}: event {seq} has two meanings");
                continue;
            }
            let lost = killed.saturating_duration_since(*came);
            self.worst = self.worst.max(lost);
            assert!(!self.strict, "{text}: event {seq} was shown and is not saved");
            assert!(
                lost <= MOST + late,
                "{text}: event {seq} was shown {lost:?} before the kill and is lost; {late:?} are the machine's"
            );
        }
        let ended = asked.seen.iter().flatten().any(|(frame, _)| frame.is_end());
        match record.status() {
            "interrupted" => assert!(!ended && !asked.question.queued && record.crash.is_some(), "{text}"),
            "stopped" => assert!(asked.turn.is_none() && record.crash.is_none(), "{text}"),
            status => assert!(status == "completed" && record.crash.is_none(), "{text}: {status}"),
        }
    }

    /// A few cursors of the table, at random and at its edges.
    async fn try_cursors(&self, record: &Record, rng: &mut fastrand::Rng) {
        let last = record.last();
        let mut cursors = BTreeSet::from([rng.u64(0..last), last, last + 1 + rng.u64(..9)]);
        if let Some((saved, resumed)) = record.crash {
            let edges = [saved - 1, saved, saved + 1, resumed - 2, resumed - 1, resumed];
            cursors.insert(edges[rng.usize(..edges.len())]);
            cursors.insert(saved + rng.u64(1..200));
        }
        for cursor in cursors {
            record.resume(&self.client, Encoding::ALL[rng.usize(..2)], cursor).await;
        }
    }

    fn assert_asked_once(&self) {
        let mut asked = BTreeSet::new();
        for call in self.upstream.calls() {
            let question = call.question();
            assert!(asked.insert(question.clone()), "{question} was asked twice");
        }
    }

    /// Fails unless every conversation takes a new question.
    async fn assert_free(&self) {
        let asking = self.conversations.iter().map(|conversation| self.client.ask_whole(conversation, "short at last"));
        for reply in join_all(asking).await {
            assert_eq!(reply.expect(200)["status"], "completed");
        }
    }
}

/// Asks, and reads on until the kill: as the one who asked, and now and then as somebody else too. What is to be queued
/// waits until the question before it is `admitted`, or failed: before it, it would be the one that runs, and the
/// endless one would be left to run at the end.
async fn ask(
    client: Client,
    question: Question,
    places: Arc<Semaphore>,
    before: Arc<Notify>,
    admitted: Arc<Notify>,
) -> Asked {
    let mut asked = Asked { question: question.clone(), turn: None, seen: Vec::new() };
    if question.queued {
        before.notified().await;
    }
    let place = places.acquire().await;
    let opened = client.try_open(question.request().accept(Encoding::Ndjson)).await;
    admitted.notify_one();
    drop(place);
    let Ok(stream) = opened else { return asked };
    assert_eq!(stream.status(), 200, "{}", question.text);
    let turn = stream.turn();
    asked.turn = Some(turn.clone());
    let other = async {
        let request = Request::get(&format!("/v1/turns/{turn}/events")).accept(Encoding::Sse);
        let second = question.text.ends_with('7').then(|| client.try_open(request));
        match second {
            Some(opening) => opening.await.ok(),
            None => None,
        }
    };
    let (mine, theirs) = tokio::join!(listen(stream), async {
        match other.await {
            Some(stream) => Some(listen(stream).await),
            None => None,
        }
    });
    asked.seen = [Some(mine), theirs].into_iter().flatten().collect();
    asked
}

async fn listen(mut stream: Stream) -> Seen {
    let mut seen = Vec::new();
    while let Some(frame) = stream.try_event().await {
        seen.push((frame, Instant::now()));
    }
    seen
}

/// Asks again under the same key, and says which turn that is. What had not been admitted begins only now, and is
/// stopped.
async fn retry(client: &Client, asked: &Asked) -> String {
    let mut stream = client.open(asked.question.request().accept(Encoding::Ndjson)).await;
    assert_eq!(stream.status(), 200, "{}", stream.text().await);
    if asked.turn.is_none() {
        client.stop(&stream.turn()).await.expect(200);
    }
    stream.turn()
}

/// What a reader saw before and after the kill folds into the record, and is what its cursor was owed.
fn assert_reader(seen: &Seen, resumed: &[Frame], record: &Record) {
    let before: Vec<_> = seen.iter().map(|(frame, _)| frame.clone()).collect();
    let cursor = before.last().map_or(0, |frame| frame.seq().unwrap());
    record.assert_owed(cursor, resumed);
    let mut fold = Fold::of(&before);
    fold.all(resumed);
    fold.assert_same_as(&record.message);
}
