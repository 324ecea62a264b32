//! Asking the model: one upstream after the other until one takes the call, then its answer into the log.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Turns;
use super::calls::Made;
use super::ends;
use super::live::Live;
use super::log::Append;
use super::summary;
use super::window::LeftOut;
use crate::domain::called::Called;
use crate::domain::clock::Timestamp;
use crate::domain::event::Event;
use crate::domain::ids::StepId;
use crate::domain::message::StepStatus;
use crate::domain::price::Prices;
use crate::domain::quota::Bound;
use crate::domain::turn::{Ending, Status};
use crate::domain::usage::{Basis, Usage};
use crate::upstream::{Answer, Batch, Call, Entry, Line, Part, Progress, Refusal, tokens};

/// After so many parts at once there are more: the others have their turn before them.
const MANY: usize = 8;

/// A step of the upstream's own that is under way.
#[derive(Debug)]
struct Open {
    key: &'static str,
    step_id: StepId,
    begun: Instant,
}

/// One call of a model, from its step's start to its end.
#[derive(Debug)]
struct Asked {
    step_id: StepId,
    upstream: Arc<str>,
    provider: &'static str,
    /// The upstream's own name for the model.
    named: String,
    at: Timestamp,
    prices: Arc<Prices>,
    begun: Instant,
    call: Arc<Call>,
    /// The upstream took it: from here on it may cost.
    accepted: bool,
    /// How the upstream failed.
    fault: Option<&'static str>,
}

impl Asked {
    /// A usage with what it costs.
    fn priced(&self, usage: Usage) -> Usage {
        let price = self.prices.of(&[&self.call.model, &self.named], self.at);
        Usage { cost_nano_usd: price.map(|price| price.cost(&usage)), ..usage }
    }
}

/// A turn's talk with its upstreams: kept outside of the future that drives it, so that whatever ends the talk,
/// what was used is known.
pub struct Talk {
    turns: Turns,
    live: Arc<Live>,
    begun: Instant,
    batch: Batch,
    asked: Option<Asked>,
    open: Vec<Open>,
    bytes: u64,
    /// What a call said so far that is no part of the answer.
    aside: Option<String>,
    /// From start to the first delta or reasoning.
    pub first_token: Option<Duration>,
    /// The calls that are over and that an upstream took.
    pub made: Vec<Made>,
}

impl Talk {
    /// A talk of a turn that started at `begun`.
    pub fn new(turns: &Turns, live: &Arc<Live>, begun: Instant) -> Self {
        Self {
            turns: turns.clone(),
            live: live.clone(),
            begun,
            batch: Batch::default(),
            asked: None,
            open: Vec::new(),
            bytes: 0,
            aside: None,
            first_token: None,
            made: Vec::new(),
        }
    }

    /// Logs what is not sent since the model reads less, and whether a summary stands for it.
    pub fn leave_out(&self, left_out: LeftOut, summarised: bool) {
        let step_id = StepId::new(self.turns.now());
        let (kind, label) = ("rewrite".to_owned(), "Leave out the oldest turns".to_owned());
        let (status, output) = (StepStatus::Ok, Some(left_out.to_json(summarised)));
        self.append(|append| {
            let id = step_id.clone();
            append.event(Event::StepStarted { step_id: id, parent_id: None, kind, label, input: None });
            append.event(Event::StepFinished { step_id, status, output, error: None, duration_ms: 0 });
        });
    }

    /// Logs that most of a budget is used.
    pub fn warn(&self, bound: &Bound) {
        let step_id = StepId::new(self.turns.now());
        let (kind, label) = ("guard".to_owned(), "Most of the budget is used".to_owned());
        let (scope, limit) = (bound.scope.as_str(), bound.setting());
        let output =
            json!({ "scope": scope, "limit": limit, "most_nano_usd": bound.most, "soft_nano_usd": bound.soft });
        let (status, output) = (StepStatus::Ok, Some(output));
        self.append(|append| {
            let id = step_id.clone();
            append.event(Event::StepStarted { step_id: id, parent_id: None, kind, label, input: None });
            append.event(Event::StepFinished { step_id, status, output, error: None, duration_ms: 0 });
        });
    }

    /// Asks, and logs the answer as it comes. Dropping the future cancels the call.
    pub async fn go(&mut self, call: Call) -> Ending {
        match self.open(call).await {
            Ok(answer) => self.listen(answer).await,
            Err(ending) => ending,
        }
    }

    /// Asks for something that is no part of the answer: a step and a call of its own, and only its text is of use.
    /// `None` where that did not come.
    pub async fn aside(&mut self, call: Call) -> Option<String> {
        let mut answer = self.open(call).await.ok()?;
        self.aside = Some(String::new());
        let ending = loop {
            self.batch.clear();
            let progress = poll_fn(|cx| answer.poll_next(cx, &mut self.batch)).await;
            let said = self.aside.get_or_insert_default();
            for part in self.batch.parts() {
                if let Part::Delta(text) = part {
                    said.push_str(text);
                }
            }
            if said.len() > summary::BYTES {
                break Ending::plain(Status::Length);
            }
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Finished(finish)) => break ends::of_finish(&finish),
                Err(fault) => {
                    self.note_fault(fault.as_str());
                    break ends::of_fault(fault);
                }
            }
        };
        drop(answer);
        let said = self.aside.clone().filter(|said| !said.trim().is_empty());
        self.close(&ending).await;
        said.filter(|_| matches!(ending.status, Status::Completed | Status::Length))
    }

    /// Asks one upstream after the other until one takes the call.
    async fn open(&mut self, call: Call) -> Result<Box<dyn Answer>, Ending> {
        let turns = self.turns.clone();
        let call = Arc::new(call);
        let upstreams = turns.upstreams.get();
        let mut refused = None;
        for candidate in upstreams.candidates(&call.model) {
            self.ask(&call, candidate);
            match candidate.upstream().open(self.traced(&call)).await {
                Ok(answer) => {
                    if let Some(asked) = &mut self.asked {
                        asked.accepted = true;
                    }
                    return Ok(answer);
                }
                Err(refusal) => {
                    tracing::warn!(upstream = candidate.name(), turn_id = %self.live.lease.turn_id, ?refusal, "an upstream refused");
                    if let Refusal::RateLimited(Some(wait)) = refusal {
                        self.live.ask_again_after(wait);
                    }
                    self.note_fault(refusal.as_str());
                    let ending = ends::of_refusal(refusal);
                    Box::pin(self.close(&ending)).await;
                    refused = Some(ending);
                    if !refusal.may_fall_back() {
                        break;
                    }
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            Ending::problem(Status::Failed, "upstream_unavailable", "No upstream serves this model any more.")
        }))
    }

    fn ask(&mut self, call: &Arc<Call>, candidate: &Entry) {
        let at = self.turns.now();
        let step_id = StepId::new(at);
        let (kind, label) = ("model".to_owned(), call.model.clone());
        let event = Event::StepStarted { step_id: step_id.clone(), parent_id: None, kind, label, input: None };
        self.append(|append| append.event(event));
        self.batch.forget();
        self.asked = Some(Asked {
            step_id,
            upstream: candidate.name().into(),
            provider: candidate.provider(),
            named: candidate.name_of(&call.model).to_owned(),
            at,
            prices: self.turns.settings.prices.get(),
            begun: Instant::now(),
            call: call.clone(),
            accepted: false,
            fault: None,
        });
    }

    /// The call, as it is made for the step that has begun.
    fn traced(&self, call: &Call) -> Call {
        let step = self.asked.as_ref().map(|asked| &asked.step_id);
        let traceparent = step.and_then(|step| self.turns.tracer.traceparent(self.live.traced(), step));
        Call { traceparent, ..call.clone() }
    }

    /// Notes how the upstream failed.
    fn note_fault(&mut self, kind: &'static str) {
        if let Some(asked) = &mut self.asked {
            asked.fault = Some(kind);
        }
    }

    async fn listen(&mut self, mut answer: Box<dyn Answer>) -> Ending {
        let limits = &self.turns.settings.limits;
        let (most, memory) = (limits.max_answer_bytes, limits.turn_memory_bytes as u64);
        loop {
            self.batch.clear();
            let progress = poll_fn(|cx| answer.poll_next(cx, &mut self.batch)).await;
            if self.turns.awake.slept() {
                // Room for it is no part of every turn.
                Box::pin(self.turns.awake.confirmed()).await;
            }
            let many = self.batch.len() >= MANY;
            if !self.batch.is_empty() && !self.log(most) {
                return Ending::plain(Status::Length);
            }
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Finished(finish)) => return ends::of_finish(&finish),
                Err(fault) => {
                    self.note_fault(fault.as_str());
                    return ends::of_fault(fault);
                }
            }
            // A log that nobody saves must not grow without end: the upstream waits.
            while self.live.log.unsaved() > memory {
                self.live.progress.notified().await;
            }
            if many {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Logs what came with one read, all at once. False when the answer has become too long.
    fn log(&mut self, most: u64) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let (mut fits, mut deltas) = (true, 0);
        let live = self.live.clone();
        let appended = live.log.append(|append| {
            for part in batch.parts() {
                deltas += usize::from(matches!(part, Part::Delta(_) | Part::Reasoning(_)));
                fits = self.part(append, part, most);
                if !fits {
                    break;
                }
            }
        });
        self.turns.note(&live, appended);
        self.turns.meter.deltas(deltas);
        batch.clear();
        self.batch = batch;
        fits
    }

    /// Logs one thing that came. False when the answer has become too long: a text that would make it so is left
    /// out.
    fn part(&mut self, append: &mut Append<'_>, part: Part<'_>, most: u64) -> bool {
        let event = match part {
            Part::Delta(text) | Part::Reasoning(text) => {
                self.bytes += text.len() as u64;
                if self.bytes > most {
                    return false;
                }
                if self.first_token.is_none() {
                    self.first_token = Some(self.begun.elapsed());
                }
                if let Part::Delta(_) = part {
                    append.delta(text);
                } else {
                    append.reasoning(text);
                }
                return true;
            }
            Part::StepStarted { key, parent, kind, label, input } => {
                let step_id = StepId::new(self.turns.now());
                let parent = parent.and_then(|parent| self.open.iter().rev().find(|open| open.key == parent));
                let parent_id = parent
                    .map(|open| open.step_id.clone())
                    .or_else(|| self.asked.as_ref().map(|asked| asked.step_id.clone()));
                let kind = kind.to_owned();
                self.open.push(Open { key, step_id: step_id.clone(), begun: Instant::now() });
                Event::StepStarted { step_id, parent_id, kind, label, input }
            }
            Part::StepFinished { key, status, output, error } => {
                let Some(at) = self.open.iter().rposition(|open| open.key == key) else { return true };
                let Open { step_id, begun, .. } = self.open.remove(at);
                Event::StepFinished { step_id, status, output, error, duration_ms: millis(begun.elapsed()) }
            }
            Part::Source(source) => Event::Source(source),
            Part::Visualization(visualization) => Event::Visualization(visualization),
        };
        let before = append.bytes();
        append.event(event);
        self.bytes += (append.bytes() - before) as u64;
        self.bytes <= most
    }

    /// Logs what the call used, if an upstream took it, and the end of every open step.
    pub async fn close(&mut self, ending: &Ending) {
        let Some(asked) = self.asked.take() else { return };
        // Counting takes time, and is no part of the step.
        let (now, aside) = (Instant::now(), self.aside.take());
        let usage = match self.batch.usage() {
            Some(usage) => Some(usage),
            None if asked.accepted => Some(self.estimate(&asked.call, aside).await),
            None => None,
        };
        let usage = usage.map(|usage| asked.priced(usage));
        self.count(&asked, now, usage, ending);
        let open = std::mem::take(&mut self.open);
        let (status, error) = ends::of_step(ending);
        let model = asked.call.model.clone();
        self.append(|append| {
            for Open { step_id, begun, .. } in open.into_iter().rev() {
                let duration_ms = millis(now - begun);
                append.event(Event::StepFinished {
                    step_id,
                    status: StepStatus::Error,
                    output: None,
                    error: error.clone(),
                    duration_ms,
                });
            }
            if let Some(usage) = usage {
                append.event(Event::Usage { step_id: asked.step_id.clone(), model, usage });
            }
            let (step_id, duration_ms) = (asked.step_id, millis(now - asked.begun));
            append.event(Event::StepFinished { step_id, status, output: None, error, duration_ms });
        });
    }

    fn count(&mut self, asked: &Asked, now: Instant, usage: Option<Usage>, ending: &Ending) {
        let first_chunk = self.first_token.filter(|_| asked.accepted).map(|first| self.begun + first - asked.begun);
        if usage.is_some() {
            self.made.push(Made {
                step_id: asked.step_id.clone(),
                answered_by: self.batch.model().map(str::to_owned),
                upstream: asked.upstream.clone(),
                ended: ending.status,
                first_token_ms: first_chunk.map(millis),
                duration_ms: millis(now - asked.begun),
                created_at: asked.at,
            });
        }
        let called = Called {
            upstream: &asked.upstream,
            provider: asked.provider,
            model: &asked.call.model,
            duration: now - asked.begun,
            first_chunk,
            usage,
            fault: asked.fault,
            error: asked.fault.or_else(|| ends::own_fault(ending)),
        };
        self.turns.meter.called(&called);
        self.turns.tracer.call(self.live.traced(), &asked.step_id, &called);
    }

    /// Counts with a tokenizer what the upstream did not report.
    async fn estimate(&self, call: &Arc<Call>, aside: Option<String>) -> Usage {
        let call = call.clone();
        if let Some(said) = aside {
            let counted = self.turns.lifecycle.blocking(move || estimate(&call.lines, &said, ""));
            return counted.await.unwrap_or(nothing());
        }
        let said = super::fold::whole(&self.turns, &self.live).await.ok();
        let bytes = self.bytes;
        let counted = self.turns.lifecycle.blocking(move || match said {
            Some(draft) => estimate(&call.lines, draft.content(), draft.reasoning()),
            // The text cannot be read at present: four bytes a token is what English comes to.
            None => Usage { completion_tokens: bytes.div_ceil(4), ..estimate(&call.lines, "", "") },
        });
        counted.await.unwrap_or(Usage { completion_tokens: bytes.div_ceil(4), ..nothing() })
    }

    fn append(&self, write: impl FnOnce(&mut Append<'_>)) {
        let appended = self.live.log.append(write);
        self.turns.note(&self.live, appended);
    }
}

/// What a call used, by a tokenizer's count.
pub fn estimate(prompt: &[Line], content: &str, reasoning: &str) -> Usage {
    let reasoning_tokens = tokens::count(reasoning);
    Usage {
        prompt_tokens: tokens::count_prompt(prompt),
        completion_tokens: tokens::count(content) + reasoning_tokens,
        reasoning_tokens: (reasoning_tokens > 0).then_some(reasoning_tokens),
        ..nothing()
    }
}

fn nothing() -> Usage {
    Usage {
        prompt_tokens: 0,
        completion_tokens: 0,
        cached_tokens: None,
        cache_write_tokens: None,
        reasoning_tokens: None,
        cost_nano_usd: None,
        basis: Basis::Estimated,
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
