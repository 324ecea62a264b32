//! OpenAI's chat completions, and whatever speaks like them.
//!
//! Source: platform.openai.com/docs/api-reference/chat-streaming; for `reasoning_content` DeepSeek's and for
//! `reasoning` OpenRouter's reference.

mod answer;
pub mod catalog;
mod chunk;
pub mod dialect;
mod refusal;
mod request;
mod template;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use self::answer::{OpenaiAnswer, Timing};
use super::transport::Transport;
use super::{Answer, Call, Refusal, Upstream};

/// An upstream that speaks chat completions.
#[derive(Debug)]
pub struct Openai {
    /// Its name in the log.
    pub name: Arc<str>,
    /// The way to it.
    pub transport: Arc<Transport>,
    /// Our model name → theirs.
    pub rename: BTreeMap<String, String>,
    /// Set in the request's body, over our own.
    pub extra_body: Map<String, Value>,
    /// The longest it may think before its first token.
    pub first_token: Duration,
    /// The longest it may be silent after that. Any byte breaks the silence.
    pub idle: Duration,
    /// The longest event of its stream.
    pub event_bytes: usize,
}

impl Upstream for Openai {
    fn open(&self, call: Call) -> BoxFuture<'_, Result<Box<dyn Answer>, Refusal>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.first_token;
            let model = self.rename.get(&call.model).unwrap_or(&call.model);
            let body = request::body(&call, model, &self.extra_body);
            let asked = self.transport.post(&["chat", "completions"], body, call.traceparent.as_deref());
            let asked = timeout_at(deadline, asked).await;
            let mut reply = match asked {
                Ok(Ok(reply)) => reply,
                Ok(Err(unanswered)) => {
                    let cause = self.transport.for_log(&unanswered.cause);
                    tracing::warn!(upstream = %self.name, turn_id = %call.turn_id, cause, "the upstream gave no answer");
                    return Err(if unanswered.garbled { Refusal::Garbled } else { Refusal::Unavailable });
                }
                Err(_) => {
                    tracing::warn!(upstream = %self.name, turn_id = %call.turn_id, "the upstream was silent");
                    return Err(Refusal::Silent);
                }
            };
            if !reply.status.is_success() {
                let said = self.transport.excerpt(&mut reply.body).await;
                let (status, turn_id) = (reply.status.as_u16(), &call.turn_id);
                tracing::warn!(upstream = %self.name, %turn_id, status, ?said, "the upstream refused");
                return Err(refusal::of(reply.status, &reply.headers));
            }
            let timing = Timing { first_token: deadline, idle: self.idle };
            let answer = OpenaiAnswer::new(&self.name, &call.turn_id, &self.transport, reply, timing, self.event_bytes);
            Ok(Box::new(answer) as Box<dyn Answer>)
        })
    }
}
