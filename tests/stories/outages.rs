//! What replicas share goes away for long, and comes back: what can go on does, readers are told, and afterwards nothing is
//! missing, doubled, or asked twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Encoding, Frame, Pair, Record, Script, Stream, Task, eventually, within};

/// Between two deltas.
const PACE: Duration = Duration::from_millis(40);

/// Somebody who reads a turn of one gateway to its saved end, and comes back after whatever ends a stream before.
struct Reader {
    /// The last event so far.
    seq: Arc<AtomicU64>,
    task: Task<Read>,
}

/// What a reader was told.
struct Read {
    /// Every event, in its order.
    frames: Vec<Frame>,
    /// Why streams ended before the turn's end.
    closes: Vec<Value>,
    /// The end that could not be saved, if it was told.
    unsaved: Option<Value>,
}

impl Reader {
    fn start(client: &Client, turn: &str, encoding: Encoding) -> Self {
        let (client, turn, seq) = (client.clone(), turn.to_owned(), Arc::new(AtomicU64::new(0)));
        let task = Task::start(read(client, turn, encoding, seq.clone()));
        Self { seq, task }
    }

    fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}

async fn read(client: Client, turn: String, encoding: Encoding, seq: Arc<AtomicU64>) -> Read {
    let mut read = Read { frames: Vec::new(), closes: Vec::new(), unsaved: None };
    loop {
        let mut stream: Stream = client.events(encoding, &turn, seq.load(Ordering::Relaxed)).await;
        if stream.status() != 200 {
            assert_eq!(stream.status(), 503, "{}", stream.text().await);
        }
        while stream.status() == 200
            && let Some(frame) = stream.try_event().await
        {
            match frame.kind() {
                "closed" => read.closes.push(frame.json["code"].clone()),
                "turn.finished" if frame.json["saved"] == false => read.unsaved = Some(frame.json.clone()),
                kind => {
                    let is_end = kind == "turn.finished";
                    seq.store(frame.json["seq"].as_u64().unwrap(), Ordering::Relaxed);
                    read.frames.push(frame);
                    if is_end {
                        return read;
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Waits until neither serves, or both do.
async fn readiness(pair: &Pair, ready: bool) {
    for client in [&pair.a, &pair.b] {
        let wanted = if ready { (200, "ready") } else { (503, "not_ready") };
        eventually("readiness to say how the database stands", async || {
            let reply = client.get("/readyz").await;
            (reply.status == wanted.0 && reply.json()["status"] == wanted.1).then_some(())
        })
        .await;
    }
}

/// All read what the record has, and the conversation takes a new question.
async fn assert_whole(pair: &Pair, conversation: &str, turn: &str, reads: &[Read], status: &str) -> Record {
    let record = Record::read(&pair.b, turn).await;
    assert_eq!(record.status(), status);
    for read in reads {
        record.assert_owed(0, &read.frames);
    }
    assert_eq!(pair.upstream.calls().len(), 1, "it was asked once");
    pair.upstream.always(Script::new().stamped(2).finish("stop").usage(1, 2).done());
    for client in [&pair.a, &pair.b] {
        let reply = client.ask_whole(conversation, "and then").await;
        assert_eq!(reply.expect(200)["status"], "completed");
    }
    record
}

#[tokio::test]
async fn a_quarter_of_a_minute_without_the_database_ends_nothing() {
    let mut pair = Pair::new().await;
    pair.upstream.push(Script::new().role().paced(500, PACE).finish("stop").usage(1, 500).done());
    let conversation = pair.a.conversation().await;
    let mine = pair.a.ask(&conversation, "go").await;
    let turn = mine.turn();
    let early = [
        Reader::start(&pair.a, &turn, Encoding::Sse),
        Reader::start(&pair.b, &turn, Encoding::Ndjson),
        Reader::start(&pair.b, &turn, Encoding::Sse),
    ];
    within("all to read", async {
        while early.iter().any(|reader| reader.seq() < 20) {
            tokio::time::sleep(PACE).await;
        }
    })
    .await;
    pair.outage.begin().await;
    readiness(&pair, false).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The first words are nowhere but in the database by now, or where they were written.
    let late = [Reader::start(&pair.b, &turn, Encoding::Ndjson), Reader::start(&pair.a, &turn, Encoding::Ndjson)];
    tokio::time::sleep(Duration::from_secs(10)).await;
    let seen: Vec<u64> = early.iter().map(Reader::seq).collect();
    assert!(seen.iter().all(|seq| *seq > 20 + 250), "streams go on meanwhile, here and there: {seen:?}");
    pair.outage.end();
    readiness(&pair, true).await;
    let mut reads = Vec::new();
    for reader in early.into_iter().chain(late) {
        reads.push(within("a reader to have it all", reader.task.join()).await);
    }
    for read in &reads[..3] {
        assert_eq!((&*read.closes, &read.unsaved), (&[][..], &None), "nobody was sent away");
    }
    assert_whole(&pair, &conversation, &turn, &reads, "completed").await;
    drop(mine);
}

#[tokio::test]
async fn after_a_minute_without_the_database_and_some_of_it_without_redis_all_is_told() {
    let mut pair = Pair::new().await;
    pair.upstream.push(Script::new().role().paced(3000, PACE).hang());
    let conversation = pair.a.conversation().await;
    let mine = pair.a.ask(&conversation, "go").await;
    let (turn, call) = (mine.turn(), pair.upstream.call(0).await);
    let readers = [Reader::start(&pair.a, &turn, Encoding::Ndjson), Reader::start(&pair.b, &turn, Encoding::Sse)];
    within("all to read", async {
        while readers.iter().any(|reader| reader.seq() < 20) {
            tokio::time::sleep(PACE).await;
        }
    })
    .await;
    pair.outage.begin().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    pair.redis.kill();
    tokio::time::sleep(Duration::from_secs(15)).await;
    pair.redis.restart();
    let seen = readers[0].seq();
    assert!(seen > 20 + 300, "where it runs it goes on without either: {seen}");
    readiness(&pair, false).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(call.is_closed(), "nothing is asked for any more that cannot be saved");
    tokio::time::sleep(Duration::from_secs(25)).await;
    pair.outage.end();
    readiness(&pair, true).await;
    let mut reads = Vec::new();
    for reader in readers {
        reads.push(within("a reader to have it all", reader.task.join()).await);
    }
    let unsaved = reads[0].unsaved.as_ref().expect("where it ran the end was told");
    assert_eq!((&unsaved["status"], &unsaved["error"]["code"]), (&json!("failed"), &json!("store_unavailable")));
    assert!(
        reads[1].unsaved.is_some() || !reads[1].closes.is_empty(),
        "elsewhere they were told that something is amiss"
    );
    assert!(reads[1].closes.iter().all(|code| code == "unavailable"), "{:?}", reads[1].closes);
    let record = assert_whole(&pair, &conversation, &turn, &reads, "failed").await;
    assert_eq!(record.message["error"]["code"], "store_unavailable", "{}", record.message);
    drop(mine);
}
