//! Upstreams: the models behind the gateway. HTTP clients live here only.
//!
//! bytes → the SSE decoder → a provider's dialect → [`Batch`]. Of a turn nothing here knows but its id, for the log:
//! dropping an [`Answer`] is how a call is cancelled.
//!
//! To add a provider: 1. a folder here whose type implements [`Upstream`], and says of each of the provider's words
//! for an end which [`End`] it is; what `openai/answer.rs` does about patience, ends and whole answers is not OpenAI's
//! own: the second dialect makes `openai::dialect::Dialect` a trait, and moves it up; 2. a `Kind`, with its line in
//! [`Upstreams::new`], its name in [`settings::Kind::provider`], and out of
//! `LATER_KINDS` in `config/keys.rs`; 3. how its key is sent, in
//! `transport/envelope.rs`; 4. what its settings may be, in `config/check.rs`, and its note in `config/keys.rs`; 5. what
//! its models cost and read, in `config/known.toml`.

pub mod decoder;
pub mod demo;
pub mod openai;
pub mod patience;
pub mod settings;
mod setup;
pub mod tokens;
pub mod transport;
mod upstreams;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;

pub use self::setup::SetupError;
pub use self::transport::raw::ticks::Ticks;
pub use self::upstreams::{Entry, Model, Upstreams};
use crate::domain::ids::TurnId;
use crate::domain::message::{Source, StepStatus, Visualization};
use crate::domain::usage::Usage;

/// Who speaks in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The operator.
    System,
    /// The person.
    User,
    /// The model, earlier.
    Assistant,
}

/// One message of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who speaks.
    pub speaker: Speaker,
    /// What is said.
    pub text: String,
}

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Call {
    /// The turn it is made for, for the log.
    pub turn_id: TurnId,
    /// The model, by our name for it.
    pub model: String,
    /// The prompt, oldest first; the question is last.
    pub lines: Vec<Line>,
    /// Sampling temperature; not sent when absent.
    pub temperature: Option<f64>,
    /// The longest answer, in tokens; not sent when absent.
    pub max_tokens: Option<u32>,
    /// The span it is made for, sent along as the header `traceparent`.
    pub traceparent: Option<String>,
}

/// Why an upstream did not take a call: none of these has cost anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No connection, or a 5xx.
    Unavailable,
    /// 429, with its `Retry-After`.
    RateLimited(Option<Duration>),
    /// 408: it did not get the request in time.
    RequestTimeout,
    /// Any other status but 2xx.
    Rejected,
    /// What came was not HTTP.
    Garbled,
    /// It took the request and said nothing within `first_token_s`.
    Silent,
}

impl Refusal {
    /// Its name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::RateLimited(_) => "rate_limited",
            Self::RequestTimeout => "request_timeout",
            Self::Rejected => "rejected",
            Self::Garbled => "garbled",
            Self::Silent => "silent",
        }
    }

    /// Whether the next upstream may be asked instead.
    pub fn may_fall_back(self) -> bool {
        match self {
            Self::Unavailable | Self::RateLimited(_) | Self::RequestTimeout => true,
            Self::Rejected | Self::Garbled | Self::Silent => false,
        }
    }
}

/// Why an answer broke off after its 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Close, reset or clean end without the provider's own end mark.
    Truncated,
    /// An error object inside the stream.
    Error,
    /// Data that cannot be read as the provider's protocol.
    Protocol,
    /// Silence for longer than `first_token_s` before the first token, or `idle_s` after it.
    Silent,
}

impl Fault {
    /// Its name in metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Error => "error",
            Self::Protocol => "protocol",
            Self::Silent => "silent",
        }
    }
}

/// How an answer came to its own end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The provider's own word: `stop`, `length`, `content_filter`…
    pub reason: String,
    /// What it means.
    pub end: End,
}

/// What a provider's word for an end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model has said what it had to say.
    Whole,
    /// The answer reached its longest.
    Length,
    /// The provider's filter cut it.
    Filtered,
}

/// Whether there is more to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Ask again.
    More,
    /// That was all.
    Finished(Finish),
}

/// An answer on its way. Dropping it cancels the call.
pub trait Answer: Send {
    /// Adds what has come to `batch`. `Ready(Ok(More))` may have added nothing but a usage; whatever came before an
    /// end or a fault is handed over by a `More` of its own, so that an end adds nothing to a batch that was empty.
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<Progress, Fault>>;
}

/// A model that can be asked.
pub trait Upstream: Send + Sync {
    /// Asks. Ready once the upstream has answered 2xx, before its first token.
    fn open(&self, call: Call) -> BoxFuture<'_, Result<Box<dyn Answer>, Refusal>>;
}

/// What came with one read, in order. Reused from read to read, so that a delta allocates nothing.
#[derive(Debug, Default)]
pub struct Batch {
    text: String,
    parts: Vec<Slot>,
    usage: Option<Usage>,
    model: Option<Box<str>>,
}

/// The longest name of a model that answers, in bytes; of a longer one as much is kept.
const MODEL_BYTES: usize = 255;

#[derive(Debug)]
enum Slot {
    Delta(Range<usize>),
    Reasoning(Range<usize>),
    Other(Part<'static>),
}

/// One thing an upstream said.
#[derive(Clone, Debug, PartialEq)]
pub enum Part<'a> {
    /// A piece of the answer.
    Delta(&'a str),
    /// A piece of the reasoning.
    Reasoning(&'a str),
    /// A step of the upstream's own began.
    StepStarted {
        /// The upstream's name for it, unique in the answer.
        key: &'static str,
        /// The step it is part of, by that step's key; the model call itself when absent.
        parent: Option<&'static str>,
        /// See [`crate::domain::message::Step::kind`]; never `model`, which is the call itself.
        kind: &'static str,
        /// What a person reads.
        label: String,
        /// What it was given.
        input: Option<Value>,
    },
    /// It is over.
    StepFinished {
        /// The upstream's name for it.
        key: &'static str,
        /// How it went.
        status: StepStatus,
        /// What it gave.
        output: Option<Value>,
        /// What went wrong.
        error: Option<String>,
    },
    /// Something the answer rests on.
    Source(Source),
    /// A table or chart.
    Visualization(Visualization),
}

impl Batch {
    /// Empties it, keeping its room and what is known of the call.
    pub fn clear(&mut self) {
        self.text.clear();
        self.parts.clear();
    }

    /// Makes it ready for another call.
    pub fn forget(&mut self) {
        self.clear();
        (self.usage, self.model) = (None, None);
    }

    /// Adds a piece of the answer; an empty one is none.
    pub fn delta(&mut self, text: &str) {
        if let Some(range) = self.keep(text) {
            self.parts.push(Slot::Delta(range));
        }
    }

    /// Adds a piece of the reasoning; an empty one is none.
    pub fn reasoning(&mut self, text: &str) {
        if let Some(range) = self.keep(text) {
            self.parts.push(Slot::Reasoning(range));
        }
    }

    /// Adds anything else.
    pub fn push(&mut self, part: Part<'static>) {
        match part {
            Part::Delta(text) => self.delta(text),
            Part::Reasoning(text) => self.reasoning(text),
            Part::StepStarted { .. } | Part::StepFinished { .. } | Part::Source(_) | Part::Visualization(_) => {
                self.parts.push(Slot::Other(part));
            }
        }
    }

    /// Notes what the upstream says it used so far; the last word counts.
    pub fn report(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// What the upstream said it used.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Notes which model answers, by the upstream's name for it; the first word counts. A database may not hold controls.
    pub fn name(&mut self, model: &str) {
        if self.model.is_none() {
            let end = model.floor_char_boundary(MODEL_BYTES);
            self.model = Some(model[..end].replace(char::is_control, " ").into());
        }
    }

    /// Whether it is known which model answers.
    pub fn is_named(&self) -> bool {
        self.model.is_some()
    }

    /// Which model answers, if the upstream said so.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// How many parts came.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What came, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.parts.iter().map(|slot| match slot {
            Slot::Delta(range) => Part::Delta(&self.text[range.clone()]),
            Slot::Reasoning(range) => Part::Reasoning(&self.text[range.clone()]),
            Slot::Other(part) => part.clone(),
        })
    }

    fn keep(&mut self, text: &str) -> Option<Range<usize>> {
        let start = self.text.len();
        self.text.push_str(text);
        (!text.is_empty()).then_some(start..self.text.len())
    }
}
