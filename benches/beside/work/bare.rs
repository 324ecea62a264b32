//! The two transactions of a short turn with nothing around them: no HTTP, no model, no log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tidegate::domain::clock::Clock;
use tidegate::domain::conversation::{Config, Silence};
use tidegate::domain::draft::{Draft, Stub};
use tidegate::domain::event::{Event, Finished, write_delta_line, write_line};
use tidegate::domain::ids::{ConversationId, MessageId, ReplicaId, TurnId};
use tidegate::domain::message::Content;
use tidegate::domain::owner::Owner;
use tidegate::domain::turn::{Ending as End, IfBusy, Status};
use tidegate::meter::Meter;
use tidegate::store::Store;
use tidegate::store::admission::{Admission, NewTurn, Plan, Question, Target};
use tidegate::store::conversations::NewConversation;
use tidegate::store::ending::{Ending, Lease, Outcome};
use tidegate::store::journal::Chunk;

use super::short::DELTAS;
use crate::cores;
use crate::drive::{self, Void};
use crate::gateway::Record;

/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a delta of the fake model says.
const TEXT: &str = "~000000@0000000000000000~";

/// How many turns a second that many users get out of the store alone, on this core.
pub fn turns_per_s(record: &Record, users: u32, time: u64, core: usize) -> Result<f64, Void> {
    cores::on(&[core], || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = Store::open(&record.spare, record.durability, PATIENCE, Meter::default()).await?;
            let replica = ReplicaId::new(Clock::System.now());
            store.enter(&replica, Clock::System.now()).await?;
            let (turns, begun) = (AtomicU64::new(0), Instant::now());
            let until = begun + Duration::from_nanos(time);
            let user = async |_| {
                while Instant::now() < until {
                    turn(&store, &replica).await?;
                    turns.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), Void>(())
            };
            try_join_all((0..users).map(user)).await?;
            let took = begun.elapsed().as_secs_f64();
            store.close().await;
            Ok(turns.into_inner() as f64 / took)
        })
    })?
}

/// Admission and end of a turn in a conversation of its own.
async fn turn(store: &Store, replica: &ReplicaId) -> Result<(), Void> {
    let (owner, now) = (Owner::local(), Clock::System.now());
    let new = new_turn(replica);
    let plan = |_: &Config| Some(Plan { model: "gpt-4o-mini".to_owned(), request: "{}".to_owned(), foresight: None });
    let Admission::Admitted(admitted) = store.admit(&owner, &new, plan).await? else {
        return Err(Void::new("a turn was not admitted"));
    };
    let (turn_id, conversation_id) = (new.id.clone(), admitted.conversation_id.clone());
    let stub = Stub {
        id: new.message_id.clone(),
        conversation_id: conversation_id.clone(),
        turn_id: turn_id.clone(),
        parent_id: Some(new.user_message_id),
        model: admitted.plan.model,
        created_at: now,
    };
    let (mut draft, mut lines, last) = (Draft::default(), Vec::new(), 2 + u64::from(DELTAS));
    for seq in 2..last {
        draft.apply_delta(seq, TEXT);
        write_delta_line(&mut lines, seq, TEXT);
    }
    let finished = Finished::new(End::finished(Status::Completed, "stop"), new.message_id, 1, Some(1));
    draft.apply(last, Event::TurnFinished(finished.clone()));
    let mut end = Vec::new();
    write_line(&mut end, last, &Event::TurnFinished(finished.clone()));
    let chunk = |first_seq, last_seq, lines: Vec<u8>| {
        let (turn_id, owner, lines) = (turn_id.clone(), owner.clone(), lines.into());
        Chunk { turn_id, owner, epoch: 1, first_seq, last_seq, lines }
    };
    let ending = Ending {
        message: Arc::new(draft.into_message(stub)),
        calls: [].into(),
        finished,
        rest: vec![chunk(2, last - 1, lines), chunk(last, last, end)],
        deed: None,
        crash: None,
        now: Clock::System.now(),
        key_expires: now,
    };
    let lease = Lease {
        turn_id: turn_id.clone(),
        owner: owner.clone(),
        conversation_id,
        replica_id: replica.clone(),
        epoch: 1,
        key_id: None,
        holds: Default::default(),
    };
    match store.end_turn(&lease, &ending).await? {
        Outcome::Written(_) => Ok(()),
        Outcome::Lost => Err(Void::new("the lease of a turn was lost")),
    }
}

fn new_turn(replica: &ReplicaId) -> NewTurn {
    let now = Clock::System.now();
    let conversation = NewConversation {
        id: ConversationId::new(now),
        session_id: None,
        title: None,
        config: Config::default(),
        context: serde_json::json!({}),
        metadata: serde_json::json!({}),
        now,
    };
    NewTurn {
        id: TurnId::new(now),
        user_message_id: MessageId::new(now),
        message_id: MessageId::new(now),
        target: Target::New(Box::new(conversation)),
        question: Question::New {
            content: Content::Text(drive::plan::Plan::flood(DELTAS).question()),
            metadata: serde_json::json!({}),
            parent_id: None,
        },
        if_busy: IfBusy::Reject,
        queued_turns: 8,
        key: None,
        replica_id: replica.clone(),
        acting: None,
        key_id: None,
        deed: None,
        bounds: Default::default(),
        silence: Silence::new(now, 0),
        now,
    }
}
