//! A script on its way.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::script::{Act, Beat};
use crate::upstream::{Answer, Batch, Fault, Progress};

/// A script on its way: what is due together comes together.
#[derive(Debug)]
pub struct DemoAnswer {
    beats: VecDeque<Beat>,
    timer: Pin<Box<Sleep>>,
    /// How long a silence lasts before patience is lost.
    patience: Duration,
    idle: Duration,
}

impl DemoAnswer {
    /// Starts now.
    pub fn new(beats: VecDeque<Beat>, first_token: Duration, idle: Duration) -> Self {
        let mut answer = Self { beats, timer: Box::pin(sleep(Duration::ZERO)), patience: first_token, idle };
        answer.wind();
        answer
    }

    /// Sets the timer for the next beat.
    fn wind(&mut self) {
        let after = match self.beats.front() {
            Some(Beat { act: Act::Hang, .. }) => self.patience,
            Some(beat) if beat.after.is_zero() => return,
            Some(beat) => beat.after,
            None => return,
        };
        self.timer.as_mut().reset(Instant::now() + after);
    }
}

impl Answer for DemoAnswer {
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<Progress, Fault>> {
        ready!(self.timer.as_mut().poll(cx));
        loop {
            let end = match self.beats.front().map(|beat| &beat.act) {
                Some(Act::Finish(finish)) => Ok(Progress::Finished(finish.clone())),
                Some(Act::Break(fault)) => Err(*fault),
                Some(Act::Hang) => Err(Fault::Silent),
                None => Err(Fault::Truncated),
                Some(Act::Say(_) | Act::Think(_) | Act::Show(_) | Act::Report(_)) => {
                    self.tell(batch);
                    if self.beats.front().is_some_and(|beat| beat.after.is_zero() && beat.act != Act::Hang) {
                        continue;
                    }
                    self.wind();
                    return Poll::Ready(Ok(Progress::More));
                }
            };
            return Poll::Ready(if batch.is_empty() { end } else { Ok(Progress::More) });
        }
    }
}

impl DemoAnswer {
    fn tell(&mut self, batch: &mut Batch) {
        match self.beats.pop_front().map(|beat| beat.act) {
            Some(Act::Say(text)) => {
                batch.delta(&text);
                self.patience = self.idle;
            }
            Some(Act::Think(text)) => {
                batch.reasoning(&text);
                self.patience = self.idle;
            }
            Some(Act::Show(part)) => batch.push(part),
            Some(Act::Report(usage)) => batch.report(usage),
            Some(Act::Finish(_) | Act::Break(_) | Act::Hang) | None => {}
        }
    }
}
