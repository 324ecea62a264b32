//! The built-in upstream: it answers any question about nothing, at a model's pace, without a network.
//!
//! The same question is always answered alike. Every answer looks something up in steps, cites at least two sources,
//! quotes the question and says how many earlier messages it saw. Words in the question, whole and in capitals or not,
//! make it behave as models sometimes do:
//!
//! | word | what it does |
//! |---|---|
//! | `slow` | 200 ms a delta instead of 20 |
//! | `long` | thousands of deltas, quickly |
//! | `think`, `reason` | reasons before it answers |
//! | `chart`, `table` | shows a chart, a table; some questions get a chart without asking |
//! | `refuse` | is unavailable |
//! | `busy` | is rate limited, for 2 s |
//! | `silent` | takes the call and never says anything |
//! | `stall` | stops in mid-answer and says no more |
//! | `fail` | breaks off with an error |
//! | `cut` | breaks off without an end mark |
//! | `filter` | is cut by its content filter |
//!
//! `max_tokens` cuts an answer after so many deltas, as `length`.

mod answer;
mod library;
mod script;
mod words;

use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use self::answer::DemoAnswer;
use self::words::Wishes;
use super::{Answer, Call, Refusal, Upstream};
use crate::domain::clock::Clock;

/// How long `busy` asks to wait.
const BUSY_FOR: Duration = Duration::from_secs(2);

/// The built-in upstream.
#[derive(Debug)]
pub struct Demo {
    first_token: Duration,
    idle: Duration,
    clock: Clock,
}

impl Demo {
    /// Patience with it is lost as with any other upstream.
    pub fn new(first_token: Duration, idle: Duration) -> Self {
        Self { first_token, idle, clock: Clock::System }
    }
}

impl Upstream for Demo {
    fn open(&self, call: Call) -> BoxFuture<'_, Result<Box<dyn Answer>, Refusal>> {
        let wishes = Wishes::of(call.lines.last().map_or("", |line| line.text.as_str()));
        let opened = if wishes.refuse {
            Err(Refusal::Unavailable)
        } else if wishes.busy {
            Err(Refusal::RateLimited(Some(BUSY_FOR)))
        } else {
            let beats = script::script(&call, wishes, self.clock.now());
            Ok(Box::new(DemoAnswer::new(beats, self.first_token, self.idle)) as Box<dyn Answer>)
        };
        ready(opened).boxed()
    }
}

#[cfg(test)]
mod tests;
