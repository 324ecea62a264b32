//! The start of a turn: admission, and only then its task.

use std::sync::Arc;

use super::Turns;
use super::lease;
use super::live::{Asker, Cut, Live, Parts};
use super::log::Log;
use super::prompt::{Request, Said};
use super::run;
use crate::domain::acting::Acting;
use crate::domain::audit::Deed;
use crate::domain::caller::{Caller, Models};
use crate::domain::conversation::State;
use crate::domain::draft::Stub;
use crate::domain::foresight::Foresight;
use crate::domain::ids::{ConversationId, KeyId, MessageId, TurnId};
use crate::domain::message::Content;
use crate::domain::owner::Owner;
use crate::domain::quota::{Bounds, Measure, Spent, Taken};
use crate::domain::turn::{IfBusy, OnDisconnect, StoppedBy};
use crate::store::Error;
use crate::store::admission::{Admission, Admitted, NewTurn, Plan, Question, Target};
use crate::store::ending::Lease;
use crate::store::idempotency::{Claimed, Key};
use crate::upstream::tokens;

/// More than the words around a language's tag are, in bytes, where a model is told to answer in it.
const LANGUAGE: usize = 64;

/// What of who asks matters to the turn, besides whose it is.
#[derive(Clone, Debug, Default)]
pub struct OnBehalf {
    /// The models they may name.
    pub models: Models,
    /// The person they are, if they are one.
    pub acting: Option<Acting>,
    /// The API key they ask with.
    pub key_id: Option<KeyId>,
    /// What bounds them.
    pub bounds: Bounds,
}

impl From<&Caller> for OnBehalf {
    fn from(caller: &Caller) -> Self {
        let (models, bounds) = (caller.models.clone(), caller.bounds.clone());
        Self { models, acting: caller.acting.clone(), key_id: caller.key_id().cloned(), bounds }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where it goes.
    pub target: Target,
    /// What is to be answered.
    pub question: Question,
    /// The model; the conversation's, or the default one, when absent.
    pub model: Option<String>,
    /// What becomes of it when its last reader leaves; as the settings say when absent.
    pub on_disconnect: Option<OnDisconnect>,
    /// What becomes of it when the conversation is busy; as the settings say when absent.
    pub if_busy: Option<IfBusy>,
    /// Stands for what was said before.
    pub history: Option<Vec<Said>>,
    /// The language to answer in (BCP 47).
    pub language: Option<String>,
    /// The span it comes from (`traceparent`).
    pub traceparent: Option<String>,
    /// The key it is asked under.
    pub key: Option<Key>,
    /// Whether whoever asks also reads it, and so counts as its first reader.
    pub attended: bool,
    /// On whose behalf.
    pub on_behalf: OnBehalf,
    /// What the audit log has of it.
    pub deed: Option<Deed>,
}

/// A turn that is there to be read.
#[derive(Debug)]
pub struct Started {
    /// The turn.
    pub turn_id: TurnId,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// What is used of what bounds whoever asked, where the turn has just taken its part.
    pub taken: Vec<Taken>,
    /// To be kept until whoever asked reads, or is gone.
    _asker: Option<Asker>,
}

/// Why a turn was not started. Nothing is left behind, but where that is not known.
#[derive(Debug)]
pub enum Refused {
    /// The key was used for another request.
    KeyReused,
    /// What the key made is deleted.
    Deleted,
    /// Another turn has the conversation.
    Busy(ConversationId, TurnId),
    /// Too many wait in the conversation.
    QueueFull,
    /// Too many turns live here.
    Full,
    /// The process is told to stop.
    Draining,
    /// The owner has no such conversation.
    NoConversation,
    /// The conversation has no such message to answer.
    NoParent,
    /// The conversation has no such question to answer again.
    NoQuestion,
    /// No upstream serves the model.
    NoModel,
    /// The conversation takes no messages.
    Closed(ConversationId, State),
    /// A limit is reached.
    Spent(Box<Spent>),
    /// Whoever asked has been forgotten since they were let in.
    Outlived,
    /// The database did not do it.
    Store(Error),
    /// The database did not say whether it started this turn, and does not say so now. It may be undone yet, or run.
    Unsure(TurnId, Error),
}

impl Turns {
    /// Starts a turn, or finds the one that was started under the same key. What is begun is seen through, whether
    /// or not somebody waits for it.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn start(&self, owner: &Owner, ask: Ask) -> Result<Started, Refused> {
        // Seen through even if the client leaves: a turn that is committed and not entered is nobody's.
        let (turns, owner) = (self.clone(), owner.clone());
        self.lifecycle.whole(async move { turns.admit(&owner, ask).await }).await
    }

    async fn admit(&self, owner: &Owner, ask: Ask) -> Result<Started, Refused> {
        if self.suspects.are_too_many() {
            return Err(Refused::Store(Error::Slow(self.settings.limits.database())));
        }
        // The place first: who has one before the word to stop is waited for.
        let place = self.places.clone().try_acquire_owned().ok();
        let draining = self.lifecycle.soft().is_cancelled();
        let Some(place) = place.filter(|_| !draining) else {
            // Whoever comes back for a turn that is there finds it all the same.
            return match self.claimed(owner, ask.key.as_ref()).await? {
                Some(started) => Ok(started),
                None if draining => Err(Refused::Draining),
                None => Err(Refused::Full),
            };
        };
        self.withdraw_same_key(owner, ask.key.as_ref()).await?;
        let mut new = self.new_turn(&ask);
        let mut admission = self.store.admit(owner, &new, |config| self.plan(&ask, config)).await;
        if matches!(admission, Ok(Admission::Fenced)) {
            if let Some(acting) = &new.acting
                && !self.store.stands(acting).await.map_err(Refused::Store)?
            {
                return Err(Refused::Outlived);
            }
            let patience = self.settings.limits.database();
            let renamed = tokio::time::timeout(patience, lease::fenced(self, &new.replica_id)).await;
            renamed.map_err(|_| Refused::Store(Error::Slow(patience)))?;
            // The time too: an old turn that is not here yet would be taken for one that is left over.
            (new.replica_id, new.now) = (self.replica(), self.now());
            admission = self.store.admit(owner, &new, |config| self.plan(&ask, config)).await;
        }
        match admission {
            Ok(Admission::Admitted(admitted)) => {
                let (queued, taken) = (admitted.queued, admitted.taken.clone());
                let live = self.enter(owner, &new, admitted, Some(place));
                let (turn_id, conversation_id) = (new.id.clone(), live.lease.conversation_id.clone());
                let asker = ask.attended.then(|| Asker::new(&live));
                let started = Started { turn_id, conversation_id, taken, _asker: asker };
                if queued && new.if_busy == IfBusy::Interrupt {
                    self.interrupt_before(&live).await;
                }
                Ok(started)
            }
            Ok(Admission::Claimed(claimed)) => {
                let joined = self.join(owner, ask.key.as_ref(), claimed).await?;
                // Undone at this very moment: whoever asks again begins it anew.
                joined.ok_or_else(|| Refused::Store(Error::Slow(self.settings.limits.database())))
            }
            Ok(Admission::Busy(conversation, turn)) => Err(Refused::Busy(conversation, turn)),
            Ok(Admission::QueueFull) => Err(Refused::QueueFull),
            Ok(Admission::NoConversation) => Err(Refused::NoConversation),
            Ok(Admission::NoParent) => Err(Refused::NoParent),
            Ok(Admission::NoQuestion) => Err(Refused::NoQuestion),
            Ok(Admission::NoModel) => Err(Refused::NoModel),
            Ok(Admission::Closed(conversation, state)) => Err(Refused::Closed(conversation, state)),
            Ok(Admission::Spent(spent)) => Err(Refused::Spent(spent)),
            // Twice within moments: the process cannot keep a lease.
            Ok(Admission::Fenced) => Err(Refused::Store(Error::Slow(self.settings.limits.database()))),
            Err(error @ (Error::Crowded | Error::NotBegun(_))) => Err(Refused::Store(error)),
            Err(error @ (Error::Unavailable(_) | Error::Slow(_) | Error::Unchanged | Error::Corrupt(_))) => {
                Err(self.refuse_suspect(owner, new, error).await)
            }
        }
    }

    async fn claimed(&self, owner: &Owner, key: Option<&Key>) -> Result<Option<Started>, Refused> {
        let Some(key) = key else { return Ok(None) };
        match self.store.claimed(owner, key, self.now()).await {
            Ok(Some(claimed)) => self.join(owner, Some(key), claimed).await,
            Ok(None) => Ok(None),
            Err(error) => Err(Refused::Store(error)),
        }
    }

    /// What was started under the same key; `None` where that has been undone. An admission that does not live here may be one
    /// whose commit nobody was sure of: before anybody is told of it, that is noted.
    async fn join(&self, owner: &Owner, key: Option<&Key>, claimed: Claimed) -> Result<Option<Started>, Refused> {
        let started = judge(claimed)?;
        let Some(key) = key.filter(|_| self.registry.get(owner, &started.turn_id).is_none()) else {
            return Ok(Some(started));
        };
        match self.store.note_told(owner, key, &started.turn_id).await {
            Ok(told) => Ok(told.then_some(started)),
            Err(error) => Err(Refused::Unsure(started.turn_id, error)),
        }
    }

    fn new_turn(&self, ask: &Ask) -> NewTurn {
        let now = self.now();
        NewTurn {
            id: TurnId::new(now),
            user_message_id: match &ask.question {
                Question::New { .. } => MessageId::new(now),
                Question::Again(question) => question.clone(),
            },
            message_id: MessageId::new(now),
            target: ask.target.clone(),
            question: ask.question.clone(),
            if_busy: ask.if_busy.unwrap_or(self.settings.stream.if_busy),
            queued_turns: self.settings.limits.queued_turns,
            key: ask.key.clone(),
            replica_id: self.replica(),
            acting: ask.on_behalf.acting.clone(),
            key_id: ask.on_behalf.key_id.clone(),
            deed: ask.deed.clone(),
            bounds: ask.on_behalf.bounds.clone(),
            silence: self.silence(),
            now,
        }
    }

    fn plan(&self, ask: &Ask, config: &crate::domain::conversation::Config) -> Option<Plan> {
        let model = ask.model.as_ref().or(config.model.as_ref()).unwrap_or(&self.settings.default_model);
        if !ask.on_behalf.models.has(model) || !self.upstreams.get().serves(model) {
            return None;
        }
        let on_disconnect = ask.on_disconnect.unwrap_or(self.settings.stream.on_disconnect);
        let request = Request {
            language: ask.language.clone(),
            history: ask.history.clone(),
            traceparent: ask.traceparent.clone(),
            ..Request::new(config, &self.settings.instructions, on_disconnect)
        };
        let foresight = self.foresight(ask, model, &request);
        Some(Plan { model: model.clone(), request: request.to_text(), foresight })
    }

    /// What a turn may come to use, where something bounds it. Calls beside its own, such as one for a summary, are not
    /// foreseen: what they use is settled with the turn.
    fn foresight(&self, ask: &Ask, model: &str, request: &Request) -> Option<Foresight> {
        ask.on_behalf.bounds.on(&Measure::OF_TURNS).next()?;
        let (upstreams, prices, now) = (self.upstreams.get(), self.settings.prices.get(), self.now());
        let named: Vec<&str> = upstreams.candidates(model).map(|upstream| upstream.name_of(model)).collect();
        let names = [model, named.first().copied().unwrap_or(model)];
        let windows = &self.settings.windows;
        let question = match &ask.question {
            Question::New { content, .. } => content.text().len(),
            Question::Again(_) => 0,
        };
        let head = request.instructions.len() + request.language.as_ref().map_or(0, |tag| LANGUAGE + tag.len());
        let history = request.history.iter().flatten();
        let (lines, bytes) =
            history.fold((2, head + question), |(lines, bytes), said| (lines + 1, bytes + said.content.len()));
        Some(Foresight {
            prompt: tokens::prompt(bytes as u64, lines),
            per_message: tokens::lines(0, 1),
            reads: request.history.is_none() || matches!(ask.question, Question::Again(_)),
            most_bytes: self.settings.limits.history_bytes as u64,
            room: windows.room(&names, request.max_tokens),
            answer: windows.answer(&names, request.max_tokens),
            prices: named.iter().filter_map(|named| prices.of(&[model, named], now).cloned()).collect(),
        })
    }

    fn enter(
        &self,
        owner: &Owner,
        new: &NewTurn,
        admitted: Admitted,
        permit: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Arc<Live> {
        let lease = Lease {
            turn_id: new.id.clone(),
            owner: owner.clone(),
            conversation_id: admitted.conversation_id.clone(),
            replica_id: new.replica_id.clone(),
            epoch: 1,
            key_id: new.key_id.clone(),
            holds: admitted.holds.into(),
        };
        let stub = Stub {
            id: new.message_id.clone(),
            conversation_id: admitted.conversation_id,
            turn_id: new.id.clone(),
            parent_id: Some(new.user_message_id.clone()),
            model: admitted.plan.model,
            created_at: new.now,
        };
        let parts = Parts {
            lease,
            number: admitted.number,
            stub,
            user_message_id: new.user_message_id.clone(),
            request: Request::from_text(&admitted.plan.request),
            nearing: admitted.taken.into_iter().filter(|taken| taken.nearing).map(|taken| taken.bound).collect(),
            log: self.new_log(),
            permit,
        };
        let live = Arc::new(Live::new(parts));
        if !admitted.queued {
            live.log.append_saved(|append| append.event(run::started_event(&live)));
            self.pass_on(&live);
        }
        let first = match &new.question {
            Question::New { content, .. } if admitted.number == 1 => Some(content.clone()),
            Question::New { .. } | Question::Again(_) => None,
        };
        self.run(live.clone(), admitted.queued, first);
        live
    }

    /// An empty log, as the settings bound it.
    pub(super) fn new_log(&self) -> Log {
        Log::new(self.settings.stream.durability, self.settings.limits.turn_memory_bytes, self.filing())
    }

    /// Enters a turn and starts its task.
    pub(super) fn run(&self, live: Arc<Live>, queued: bool, first: Option<Content>) {
        if !self.registry.enter(live.clone()) {
            // Somebody else saw it in the record and was first.
            return;
        }
        if live.lease.replica_id != self.replica() {
            // The name was lost between its admission and now: one that waits would never hear of it.
            live.cut(Cut::Lost);
        }
        self.lifecycle.spawn("turn", run::run(self.clone(), live, queued, first));
    }

    /// Stops every open turn before this one, in the order they were admitted.
    async fn interrupt_before(&self, live: &Live) {
        let (owner, conversation) = (&live.lease.owner, &live.lease.conversation_id);
        let before = match self.store.open_turns(owner, conversation).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, turn_id = %live.lease.turn_id, "turns to interrupt are not known");
                let lives = self.registry.all().into_iter();
                let same = lives.filter(|other| other.lease.conversation_id == *conversation);
                same.map(|other| (other.lease.turn_id.clone(), other.number)).collect()
            }
        };
        // The queued ones first: none of them is to start when the one before it ends.
        for (turn, _) in before.into_iter().rev().filter(|(_, number)| *number < live.number) {
            if let Some(other) = self.registry.get(owner, &turn) {
                other.cut(Cut::Stop(StoppedBy::Interrupt));
            } else if let Err(error) = self.store.request_stop(owner, &turn, StoppedBy::Interrupt, None).await {
                tracing::warn!(%error, turn_id = %turn, "another replica could not be told to stop a turn");
            }
        }
    }
}

fn judge(claimed: Claimed) -> Result<Started, Refused> {
    match claimed {
        Claimed::Same(conversation_id, Some(turn_id)) => {
            Ok(Started { turn_id, conversation_id, taken: Vec::new(), _asker: None })
        }
        // The key made a conversation without a turn: that was another request.
        Claimed::Same(_, None) | Claimed::Other => Err(Refused::KeyReused),
        Claimed::Deleted => Err(Refused::Deleted),
    }
}
