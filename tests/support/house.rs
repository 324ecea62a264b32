//! A store without a gateway, for the stories that look at the record itself.

use std::time::Duration;

use serde_json::json;
use tidegate::domain::clock::Timestamp;
use tidegate::domain::conversation::{Config, Silence};
use tidegate::domain::draft::{Draft, Stub};
use tidegate::domain::event::{Event, Finished, write_line};
use tidegate::domain::ids::{ConversationId, MessageId, ReplicaId, StepId, TurnId, UsageId};
use tidegate::domain::message::Content;
use tidegate::domain::owner::Owner;
use tidegate::domain::quota::Bounds;
use tidegate::domain::stream::Durability;
use tidegate::domain::turn::{Ending, IfBusy, Status};
use tidegate::domain::usage::{Basis, Counted, Record, Usage};
use tidegate::meter::Meter;
use tidegate::store::Store;
use tidegate::store::admission::{Admission, Admitted, NewTurn, Plan, Question, Target};
use tidegate::store::conversations::NewConversation;
use tidegate::store::ending::{self, Lease};
use tidegate::store::idempotency::Key;
use tidegate::store::journal::Chunk;

use super::Database;

/// A store on a fresh database, and a replica that has entered it.
pub struct House {
    /// The store.
    pub store: Store,
    /// Whose everything is.
    pub owner: Owner,
    /// The replica.
    pub me: ReplicaId,
    /// The database.
    pub database: Database,
}

/// So many seconds after the story's beginning.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + second * 1_000_000)
}

/// Conversations that never expire.
pub fn never() -> Silence {
    Silence::new(at(1), 0)
}

/// What is asked, and what it answers.
pub fn question(content: Content, parent_id: Option<MessageId>) -> Question {
    Question::New { content, metadata: json!({"a": 1}), parent_id }
}

/// Somebody else.
pub fn stranger() -> Owner {
    Owner { owner_id: "stranger".into(), ..Owner::local() }
}

/// A key, and what was asked under it.
pub fn key(name: &str, fingerprint: &str) -> Key {
    Key { key: name.to_owned(), fingerprint: fingerprint.to_owned() }
}

/// What every turn is told.
pub fn plan(_: &Config) -> Option<Plan> {
    Some(Plan { model: "m".to_owned(), request: "{}".to_owned(), foresight: None })
}

impl House {
    /// A fresh one.
    pub async fn new() -> Self {
        let database = Database::fresh().await;
        let store =
            Store::open(&database.url(), Durability::Relaxed, Duration::from_secs(10), Meter::default()).await.unwrap();
        store.ping().await.unwrap();
        let me = ReplicaId::new(at(0));
        store.enter(&me, at(0)).await.unwrap();
        Self { store, owner: Owner::local(), me, database }
    }

    /// A conversation to be made.
    pub fn conversation_of(&self, session: Option<&str>) -> NewConversation {
        NewConversation {
            id: ConversationId::new(at(0)),
            session_id: session.map(str::to_owned),
            title: None,
            config: Config::default(),
            context: json!({}),
            metadata: json!({"nul": "\u{0}"}),
            now: at(0),
        }
    }

    /// One that is made.
    pub async fn conversation(&self) -> ConversationId {
        let new = self.conversation_of(None);
        assert_eq!(self.store.create_conversation(&self.owner, &new, None, at(0), None).await.unwrap(), None);
        new.id
    }

    /// A turn to be admitted.
    pub fn turn(&self, conversation: &ConversationId) -> NewTurn {
        NewTurn {
            id: TurnId::new(at(1)),
            user_message_id: MessageId::new(at(1)),
            message_id: MessageId::new(at(1)),
            target: Target::Existing(conversation.clone()),
            question: question(Content::Text("Why\u{0}?".to_owned()), None),
            if_busy: IfBusy::Reject,
            queued_turns: 1,
            key: None,
            replica_id: self.me.clone(),
            acting: None,
            key_id: None,
            deed: None,
            bounds: Bounds::default(),
            silence: never(),
            now: at(1),
        }
    }

    /// Asks for it.
    pub async fn admit(&self, new: &NewTurn) -> Admission {
        self.store.admit(&self.owner, new, plan).await.unwrap()
    }

    /// Admits it.
    pub async fn admitted(&self, new: &NewTurn) -> Admitted {
        match self.admit(new).await {
            Admission::Admitted(admitted) => admitted,
            refused @ (Admission::Claimed(_)
            | Admission::Busy(..)
            | Admission::QueueFull
            | Admission::NoConversation
            | Admission::NoParent
            | Admission::NoQuestion
            | Admission::NoModel
            | Admission::Closed(..)
            | Admission::Spent(_)
            | Admission::Fenced) => panic!("{refused:?}"),
        }
    }

    /// Its lease.
    pub fn lease(&self, new: &NewTurn, conversation: &ConversationId, epoch: u64) -> Lease {
        let (turn_id, owner, conversation_id) = (new.id.clone(), self.owner.clone(), conversation.clone());
        let (replica_id, holds) = (new.replica_id.clone(), [].into());
        Lease { turn_id, owner, conversation_id, replica_id, epoch, key_id: None, holds }
    }

    /// Events of it.
    pub fn chunk(&self, new: &NewTurn, seqs: std::ops::RangeInclusive<u64>) -> Chunk {
        let mut lines = Vec::new();
        for seq in seqs.clone() {
            write_line(&mut lines, seq, &Event::Delta { text: format!("[{seq}\u{0}]") });
        }
        let (first_seq, last_seq) = seqs.into_inner();
        Chunk { turn_id: new.id.clone(), owner: self.owner.clone(), epoch: 1, first_seq, last_seq, lines: lines.into() }
    }

    /// Its end, as the event `seq`.
    pub fn ending(&self, new: &NewTurn, conversation: &ConversationId, seq: u64) -> ending::Ending {
        let end = Ending::finished(Status::Completed, "stop");
        let finished = Finished::new(end, new.message_id.clone(), 7, Some(3));
        let mut draft = Draft::default();
        draft.apply(seq - 1, Event::Delta { text: "Because\u{0}.".to_owned() });
        draft.apply(seq, Event::TurnFinished(finished.clone()));
        let stub = Stub {
            id: new.message_id.clone(),
            conversation_id: conversation.clone(),
            turn_id: new.id.clone(),
            parent_id: Some(new.user_message_id.clone()),
            model: "m".to_owned(),
            created_at: new.now,
        };
        let message = draft.into_message(stub).into();
        let rest = vec![self.chunk(new, seq..=seq)];
        ending::Ending {
            message,
            calls: [].into(),
            finished,
            rest,
            deed: None,
            crash: None,
            now: at(9),
            key_expires: at(99),
        }
    }

    /// The same, after so many calls of a model; each used ten tokens and three, and nobody knows their price.
    pub fn ending_with_calls(
        &self,
        new: &NewTurn,
        conversation: &ConversationId,
        seq: u64,
        calls: usize,
    ) -> ending::Ending {
        let usage = Usage {
            prompt_tokens: 10,
            completion_tokens: 3,
            cached_tokens: None,
            cache_write_tokens: None,
            reasoning_tokens: None,
            cost_nano_usd: None,
            basis: Basis::Reported,
        };
        let call = |_| Record {
            id: UsageId::new(at(2)),
            counted: Counted { step_id: StepId::new(at(2)), model: "m".to_owned(), usage },
            answered_by: None,
            upstream: Some("fake".to_owned()),
            ended: Status::Completed,
            first_token_ms: Some(1),
            duration_ms: Some(7),
            created_at: at(2),
        };
        let calls: Vec<Record> = (0..calls).map(call).collect();
        ending::Ending { calls: calls.into(), ..self.ending(new, conversation, seq) }
    }
}
