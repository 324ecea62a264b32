//! Admission: all that a turn needs to have begun, in one transaction.

use std::pin::pin;

use futures::FutureExt;
use serde_json::Value;

use super::audit::{OK, insert_deed};
use super::conversations::{NewConversation, insert_conversation, json};
use super::idempotency::{Claimed, Key, claim_key};
use super::journal::{Chunk, Insert};
use super::messages::columns;
use super::people::{insert_person, stands};
use super::pool::{Done, write};
use super::quotas::{self, take_quotas};
use super::transaction::{OrUnchanged, Transaction};
use super::{Error, Result, Store};
use crate::domain::acting::Acting;
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::conversation::{Config, Silence, State, title_of};
use crate::domain::event::{self, Event};
use crate::domain::foresight::Foresight;
use crate::domain::ids::{ConversationId, KeyId, MessageId, ReplicaId, TurnId};
use crate::domain::message::Content;
use crate::domain::owner::Owner;
use crate::domain::quota::{Bounds, Hold, Spent, Taken};
use crate::domain::turn::IfBusy;

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A conversation that must be there.
    Existing(ConversationId),
    /// A conversation that is made, unless the owner has one of that session id.
    New(Box<NewConversation>),
}

/// What a turn answers.
#[derive(Clone, Debug)]
pub enum Question {
    /// What somebody says now: it is saved with the turn.
    New {
        /// What is said.
        content: Content,
        /// What the client keeps with it.
        metadata: Value,
        /// What it answers; the newest message when absent.
        parent_id: Option<MessageId>,
    },
    /// What somebody said before, once more; the answers it has stay beside the new one.
    Again(MessageId),
}

/// A turn to be admitted.
#[derive(Clone, Debug)]
pub struct NewTurn {
    /// Its id.
    pub id: TurnId,
    /// The question's id; of one that is there already, its own.
    pub user_message_id: MessageId,
    /// The answer's id.
    pub message_id: MessageId,
    /// Where it goes.
    pub target: Target,
    /// What it answers.
    pub question: Question,
    /// What becomes of it when the conversation is busy.
    pub if_busy: IfBusy,
    /// The most turns that may wait in the conversation.
    pub queued_turns: u32,
    /// The key it is asked under.
    pub key: Option<Key>,
    /// The replica that will run it.
    pub replica_id: ReplicaId,
    /// The person who asks, if one does.
    pub acting: Option<Acting>,
    /// The API key it is asked with.
    pub key_id: Option<KeyId>,
    /// What the audit log has of it; a question has nothing there, since the turn is the record of itself.
    pub deed: Option<Deed>,
    /// What bounds whoever asks.
    pub bounds: Bounds,
    /// How long its conversation may have been silent.
    pub silence: Silence,
    /// When.
    pub now: Timestamp,
}

/// What a turn's run is told, made of the request and the conversation's configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model that is asked.
    pub model: String,
    /// The rest, as JSON.
    pub request: String,
    /// What it may come to use, where something bounds that.
    pub foresight: Option<Foresight>,
}

/// A turn that has been admitted.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// Its number there.
    pub number: u64,
    /// Whether it waits for others.
    pub queued: bool,
    /// What its run is told.
    pub plan: Plan,
    /// What it took of what bounds whoever asks, until its end.
    pub holds: Vec<Hold>,
    /// What is used of that.
    pub taken: Vec<Taken>,
}

/// What came of asking for a turn. All but the first leave nothing behind.
#[derive(Clone, Debug)]
pub enum Admission {
    /// It is there.
    Admitted(Admitted),
    /// Its key stands for something already.
    Claimed(Claimed),
    /// Another turn has the conversation.
    Busy(ConversationId, TurnId),
    /// Too many wait already.
    QueueFull,
    /// The owner has no such conversation.
    NoConversation,
    /// The conversation has no such message.
    NoParent,
    /// The conversation has no such question.
    NoQuestion,
    /// No upstream serves the model.
    NoModel,
    /// The conversation takes no messages.
    Closed(ConversationId, State),
    /// A limit is reached.
    Spent(Box<Spent>),
    /// The replica has lost its lease: whatever it admitted would be another's. Or whoever asks is nobody any more
    /// ([`Store::stands`]).
    Fenced,
}

/// Reopens a conversation that has expired, on a connection inside a transaction; says how many that are.
macro_rules! reopen {
    ($conn:expr, $owner:expr, $conversation:expr, $silence:expr) => {
        $conn
            .query(
                "update conversations set state = 'active', expired_at = null, context = '{}', resumed_at = $1 \
                 where id = $2 and application_id = $3 and owner_id = $4 and (expired_at is not null or \
                 (state = 'active' and live_turn_id is null and last_message_at <= $5 and resumed_at <= $5))",
            )
            .bind($silence.now().as_micros())
            .bind($conversation.as_str())
            .bind(&*$owner.application_id)
            .bind(&*$owner.owner_id)
            .bind($silence.since().as_micros())
            .changes()
            .await?
    };
}

impl Store {
    /// Admits a turn. `plan` makes of the conversation's configuration what the run is told; `None` when no
    /// upstream serves the model.
    ///
    /// # Errors
    /// When the database does not answer; whether it was admitted is not known then. [`Error::Crowded`]: it was not.
    pub async fn admit(
        &self,
        owner: &Owner,
        new: &NewTurn,
        plan: impl Fn(&Config) -> Option<Plan> + Sync + Send,
    ) -> Result<Admission> {
        let name = match &new.target {
            Target::Existing(id) => id.as_str(),
            Target::New(made) => made.session_id.as_deref().unwrap_or(made.id.as_str()),
        };
        let mut line = pin!(self.line(owner, name));
        let _front = match (line.as_mut().now_or_never(), &new.key) {
            (Some(front), _) => front?,
            (None, None) => line.await?,
            // Whoever comes back for what there is waits for nobody.
            (None, Some(key)) => match self.claimed(owner, key, new.now).await? {
                Some(claimed) => return Ok(Admission::Claimed(claimed)),
                None => line.await?,
            },
        };
        let admitted = write!(self, conn => {
            let mut conversation = match &new.target {
                Target::Existing(id) => id.clone(),
                Target::New(made) => made.id.clone(),
            };
            if let Some(key) = &new.key {
                let none: Option<Timestamp> = None;
                if let Some(claimed) = claim_key!(conn, owner, key, conversation, Some(&new.id), new.now, none) {
                    return Ok(Done::Rollback(Admission::Claimed(claimed)));
                }
            }
            let acting = new.acting.as_ref();
            if acting.is_some_and(|acting| acting.known_since.is_none()) {
                insert_person!(conn, owner, new.now).later().await?;
            }
            let title = match &new.question {
                Question::New { content, .. } => Some(title_of(&content.text())),
                Question::Again(_) => None,
            };
            let mut known = None;
            if let Target::New(made) = &new.target {
                if made.session_id.is_none() {
                    // Nobody else has it, so there is nothing to ask for.
                    let title = made.title.as_deref().or(title.as_deref());
                    insert_conversation!(conn, owner, made, title, Some(&new.id)).later().await?;
                    known = Some((1, new.id.to_string(), State::Active, made.config.clone()));
                } else if insert_conversation!(conn, owner, made, made.title.as_deref(), None::<&TurnId>)
                    .changes()
                    .await?
                    == 0
                {
                    let (id,): (String,) = conn.query(
                        "select id from conversations where application_id = $1 and owner_id = $2 and session_id = $3",
                    )
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .bind(made.session_id.as_deref())
                    .one()
                    .await?;
                    conversation = id.into();
                    if let Some(key) = &new.key {
                        conn.query(
                            "update idempotency_keys set conversation_id = $1 \
                             where application_id = $2 and owner_id = $3 and key = $4",
                        )
                        .bind(conversation.as_str())
                        .bind(&*owner.application_id)
                        .bind(&*owner.owner_id)
                        .bind(key.key.as_str())
                        .later()
                        .await?;
                    }
                }
            }
            let (number, live, state, config) = if let Some(known) = known {
                known
            } else {
                let taken = loop {
                    // This takes the row, and so keeps every other writer of the conversation out.
                    let row: Option<(i64, String, String, String)> = conn.query(
                        "update conversations set turn_count = turn_count + 1, last_message_at = $1, \
                         live_turn_id = coalesce(live_turn_id, $2), title = coalesce(title, $3) \
                         where id = $4 and application_id = $5 and owner_id = $6 and (state = 'paused' \
                         or (state = 'active' and (live_turn_id is not null or last_message_at > $7 or resumed_at > $7))) \
                         returning turn_count, live_turn_id, state, config",
                    )
                    .bind(new.now.as_micros())
                    .bind(new.id.as_str())
                    .bind(title.as_deref().map(str::as_bytes))
                    .bind(conversation.as_str())
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .bind(new.silence.since().as_micros())
                    .row()
                    .await?;
                    if let Some(row) = row {
                        break row;
                    }
                    // It has ended, or there is none. A session that has expired is reopened.
                    if matches!(new.target, Target::New(_)) && reopen!(conn, owner, conversation, new.silence) > 0 {
                        continue;
                    }
                    let ended: Option<(String,)> = conn.query(
                        "select id from conversations where id = $1 and application_id = $2 and owner_id = $3",
                    )
                    .bind(conversation.as_str())
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .row()
                    .await?;
                    return Ok(Done::Rollback(match ended {
                        Some(_) => Admission::Closed(conversation, State::Ended),
                        None => Admission::NoConversation,
                    }));
                };
                let (number, live, state, config) = taken;
                let state = State::parse(&state).ok_or(Error::Corrupt("conversations.state"))?;
                (number, live, state, json::<Config>(&config, "conversations.config")?)
            };
            if state != State::Active {
                return Ok(Done::Rollback(Admission::Closed(conversation, state)));
            }
            let Some(plan) = plan(&config) else { return Ok(Done::Rollback(Admission::NoModel)) };
            let queued = live != new.id.as_str();
            if queued && new.if_busy == IfBusy::Reject {
                return Ok(Done::Rollback(Admission::Busy(conversation, live.into())));
            }
            if queued && new.if_busy == IfBusy::Queue {
                let (waiting,): (i64,) = conn.query(
                    "select count(*) from turns where conversation_id = $1 and status = 'queued' \
                     and finished_at is null",
                )
                .bind(conversation.as_str())
                .one()
                .await?;
                if waiting >= i64::from(new.queued_turns) {
                    return Ok(Done::Rollback(Admission::QueueFull));
                }
            }
            let (known, missing) = match &new.question {
                Question::New { parent_id, .. } => (parent_id.as_ref(), Admission::NoParent),
                Question::Again(question) => (Some(question), Admission::NoQuestion),
            };
            if let Some(message) = known {
                let found: Option<(String,)> = conn.query(
                    "select role from messages where id = $1 and conversation_id = $2 \
                     and application_id = $3 and owner_id = $4",
                )
                .bind(message.as_str())
                .bind(conversation.as_str())
                .bind(&*owner.application_id)
                .bind(&*owner.owner_id)
                .row()
                .await?;
                if found.is_none_or(|(role,)| matches!(new.question, Question::Again(_)) && role != "user") {
                    return Ok(Done::Rollback(missing));
                }
            }
            if let Some(deed) = &new.deed {
                insert_deed!(conn, deed, OK).later().await?;
            }
            let mut holds = Vec::new();
            if let Some(foresight) = &plan.foresight {
                let mut before = (0, 0);
                if foresight.reads && number > 1 {
                    before = conn.query(
                        "select count(*), cast(coalesce(sum(length(content)), 0) as bigint) from messages \
                         where conversation_id = $1 and application_id = $2 and owner_id = $3",
                    )
                    .bind(conversation.as_str())
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .one()
                    .await?;
                }
                let (messages, bytes): (i64, i64) = before;
                let foreseen = foresight.of(messages.unsigned_abs(), bytes.unsigned_abs());
                holds = quotas::holds(&new.bounds, foreseen, new.now);
            }
            let held: Vec<Hold> = holds.iter().map(|(hold, ..)| hold.clone()).collect();
            let status = if queued { "queued" } else { "running" };
            conn.query(concat!(
                "insert into turns (id, application_id, owner_id, conversation_id, number, status, model, request, \
                 user_message_id, message_id, replica_id, epoch, seq, created_at, started_at, key_id, holds) \
                 select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, 0, $12, $13, $14, $15 \
                 where exists (select 1 from replicas r where r.id = $11 and r.fenced_at is null) and ",
                stands!("$2", "$16", "$17", "$18"),
            ))
            .bind(new.id.as_str())
            .bind(&*owner.application_id)
            .bind(&*owner.owner_id)
            .bind(conversation.as_str())
            .bind(number)
            .bind(status)
            .bind(plan.model.as_str())
            .bind(plan.request.as_str())
            .bind(new.user_message_id.as_str())
            .bind(new.message_id.as_str())
            .bind(new.replica_id.as_str())
            .bind(new.now.as_micros())
            .bind((!queued).then_some(new.now.as_micros()))
            .bind(new.key_id.as_ref().map(KeyId::as_str))
            .bind((!held.is_empty()).then(|| crate::domain::json::to_string(&held)))
            .bind(acting.map(|acting| &*acting.owner.owner_id))
            .bind(acting.and_then(|acting| acting.known_since).map(Timestamp::as_micros))
            .bind(acting.map(|acting| acting.let_in.as_micros()))
            .must_change()
            .await?;
            match &new.question {
                Question::New { content, metadata, parent_id } => {
                    let (kind, content) = columns(content);
                    conn.query(
                        "insert into messages (id, application_id, owner_id, conversation_id, turn_id, position, \
                         parent_id, role, status, seq, model, content_kind, content, sources, steps, visualizations, \
                         metadata, created_at) values ($1, $2, $3, $4, $5, $6, coalesce($7, (select m.id from messages m \
                         where m.conversation_id = $4 order by m.position desc limit 1)), \
                         'user', 'completed', 0, null, $8, $9, '[]', '[]', '[]', $10, $11), \
                         ($12, $2, $3, $4, $5, $13, $1, 'assistant', $14, $15, $16, 'text', $17, '[]', '[]', '[]', '{}', $11)",
                    )
                    .bind(new.user_message_id.as_str())
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .bind(conversation.as_str())
                    .bind(new.id.as_str())
                    .bind(2 * number)
                    .bind(parent_id.as_ref().map(MessageId::as_str))
                    .bind(kind)
                    .bind(content)
                    .bind(crate::domain::json::to_string(metadata))
                    .bind(new.now.as_micros())
                }
                // The place of its question stays empty.
                Question::Again(question) => conn
                    .query(
                        "insert into messages (id, application_id, owner_id, conversation_id, turn_id, position, \
                         parent_id, role, status, seq, model, content_kind, content, sources, steps, visualizations, \
                         metadata, created_at) \
                         values ($7, $1, $2, $3, $4, $8, $5, 'assistant', $9, $10, $11, 'text', $12, '[]', '[]', '[]', '{}', $6)",
                    )
                    .bind(&*owner.application_id)
                    .bind(&*owner.owner_id)
                    .bind(conversation.as_str())
                    .bind(new.id.as_str())
                    .bind(question.as_str())
                    .bind(new.now.as_micros()),
            }
            .bind(new.message_id.as_str())
            .bind(2 * number + 1)
            .bind(status)
            .bind(i64::from(!queued))
            .bind(plan.model.as_str())
            .bind(Vec::<u8>::new())
            .later()
            .await?;
            if !queued {
                let (question, answer) = (&new.user_message_id, &new.message_id);
                let started = Event::started(&new.id, &conversation, question, answer, &plan.model);
                let lines = event::line(1, &started).into();
                let (turn_id, owner) = (new.id.clone(), owner.clone());
                conn.insert_chunks(&[Chunk { turn_id, owner, epoch: 1, first_seq: 1, last_seq: 1, lines }]).await?;
            }
            let mut taken = Vec::new();
            if !holds.is_empty() {
                // As late as can be: whoever else takes of the same waits from here to the commit.
                match take_quotas!(conn, owner, &holds, new.now) {
                    Ok(all) => taken = all,
                    Err(spent) => return Ok(Done::Rollback(Admission::Spent(spent))),
                }
            }
            Ok(Done::Commit(Admission::Admitted(Admitted {
                conversation_id: conversation,
                number: number.unsigned_abs(),
                queued,
                plan,
                holds: held,
                taken,
            })))
        });
        admitted.or_unchanged(Admission::Fenced)
    }

    /// Makes a conversation; a key already claimed makes none.
    ///
    /// # Errors
    /// [`Error::Unchanged`] where whoever does the `deed` is nobody any more ([`Store::stands`]), and when the database does not do it.
    pub async fn create_conversation(
        &self,
        owner: &Owner,
        new: &NewConversation,
        key: Option<&Key>,
        key_expires: Timestamp,
        deed: Option<&Deed>,
    ) -> Result<Option<Claimed>> {
        write!(self, conn => {
            if let Some(key) = key {
                let none: Option<&TurnId> = None;
                if let Some(claimed) = claim_key!(conn, owner, key, new.id, none, new.now, Some(key_expires)) {
                    return Ok(Done::Rollback(Some(claimed)));
                }
            }
            let acting = deed.and_then(|deed| deed.acting.as_ref());
            if acting.is_some_and(|acting| acting.known_since.is_none()) {
                insert_person!(conn, owner, new.now).later().await?;
            }
            insert_conversation!(conn, owner, new, new.title.as_deref(), None::<&TurnId>).later().await?;
            if let Some(acting) = acting {
                conn.query(concat!(
                    "update conversations set turn_count = turn_count where id = $1 and ",
                    stands!("$2", "$3", "$4", "$5"),
                ))
                .bind(new.id.as_str())
                .bind(&*owner.application_id)
                .bind(&*acting.owner.owner_id)
                .bind(acting.known_since.map(Timestamp::as_micros))
                .bind(acting.let_in.as_micros())
                .must_change()
                .await?;
            }
            if let Some(deed) = deed {
                insert_deed!(conn, deed, OK).later().await?;
            }
            Ok(Done::Commit(None))
        })
    }
}
