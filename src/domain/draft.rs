//! The fold: what a message is after its events so far.

use serde_json::Value;

use super::clock::Timestamp;
use super::event::{Event, Finished};
use super::ids::{ConversationId, MessageId, TurnId};
use super::message::{Content, Message, Role, Source, Step, StepStatus, Visualization};
use super::turn::Status;
use super::usage::{Counted, Usage};

/// What a message has from before its first event.
#[derive(Clone, Debug)]
pub struct Stub {
    /// The message.
    pub id: MessageId,
    /// The conversation it is in.
    pub conversation_id: ConversationId,
    /// Its turn.
    pub turn_id: TurnId,
    /// The question it answers.
    pub parent_id: Option<MessageId>,
    /// The model that is asked.
    pub model: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The fold of a turn's events, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    seq: u64,
    content: String,
    reasoning: String,
    sources: Vec<Source>,
    steps: Vec<Step>,
    visualizations: Vec<Visualization>,
    usage: Option<Usage>,
    counted: Vec<Counted>,
    finished: Option<Finished>,
    /// Bytes of what is not text.
    other: usize,
}

impl Draft {
    /// Notes an event that says nothing to this program: one that a newer one wrote.
    pub fn skip(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// Notes that an event other than a text took so many bytes.
    pub fn weigh(&mut self, bytes: usize) {
        self.other += bytes;
    }

    /// Folds in one event.
    pub fn apply(&mut self, seq: u64, event: Event) {
        self.seq = seq;
        match event {
            Event::TurnStarted { .. } => {}
            Event::StepStarted { step_id, parent_id, kind, label, input } => self.steps.push(Step {
                step_id,
                parent_id,
                kind,
                label,
                input,
                status: StepStatus::Running,
                output: None,
                error: None,
                duration_ms: None,
            }),
            Event::StepFinished { step_id, status, output, error, duration_ms } => {
                if let Some(step) = self.steps.iter_mut().rev().find(|step| step.step_id == step_id) {
                    step.status = status;
                    step.output = output;
                    step.error = error;
                    step.duration_ms = Some(duration_ms);
                }
            }
            Event::Source(source) => {
                let at = self.sources.partition_point(|other| other.number <= source.number);
                self.sources.insert(at, source);
            }
            Event::Delta { text } => self.content.push_str(&text),
            Event::Reasoning { text } => self.reasoning.push_str(&text),
            Event::Visualization(visualization) => self.visualizations.push(visualization),
            Event::Usage { step_id, model, usage } => {
                self.usage = Some(self.usage.map_or(usage, |sum| sum.plus(usage)));
                self.counted.push(Counted { step_id, model, usage });
            }
            Event::TurnFinished(finished) => {
                for step in self.steps.iter_mut().filter(|step| step.status == StepStatus::Running) {
                    step.status = StepStatus::Error;
                }
                self.finished = Some(finished);
            }
        }
    }

    /// Folds in a `delta` that nobody owns yet.
    pub fn apply_delta(&mut self, seq: u64, text: &str) {
        self.seq = seq;
        self.content.push_str(text);
    }

    /// The same for a `reasoning`.
    pub fn apply_reasoning(&mut self, seq: u64, text: &str) {
        self.seq = seq;
        self.reasoning.push_str(text);
    }

    /// The last event folded in.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The answer's text so far.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The reasoning so far.
    pub fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// The steps so far, in the order they began.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The calls of models so far, of which it is known what they used.
    pub fn counted(&self) -> &[Counted] {
        &self.counted
    }

    /// About how many bytes it holds.
    pub fn weight(&self) -> usize {
        self.content.len() + self.reasoning.len() + self.other
    }

    /// The message: `running` until the end is folded in, `queued` before its first event.
    pub fn into_message(self, stub: Stub) -> Message {
        let Stub { id, conversation_id, turn_id, parent_id, model, created_at } = stub;
        let mut message = Message {
            id,
            conversation_id,
            turn_id,
            parent_id,
            role: Role::Assistant,
            content: Content::Text(self.content),
            reasoning: Some(self.reasoning).filter(|text| !text.is_empty()),
            status: if self.seq == 0 { Status::Queued } else { Status::Running },
            model: Some(model),
            created_at,
            seq: self.seq,
            sources: self.sources,
            steps: self.steps,
            visualizations: self.visualizations,
            usage: self.usage,
            finish_reason: None,
            error: None,
            stopped_by: None,
            duration_ms: None,
            first_token_ms: None,
            feedback: None,
            metadata: Value::Object(serde_json::Map::new()),
        };
        if let Some(finished) = self.finished {
            message.status = finished.status;
            message.finish_reason = finished.finish_reason;
            message.error = finished.error;
            message.stopped_by = finished.stopped_by;
            message.duration_ms = Some(finished.duration_ms);
            message.first_token_ms = finished.first_token_ms;
        }
        message
    }
}

impl Message {
    /// The message as it stood just before its end, at `seq`: `running`, without end fields.
    pub fn before_end(mut self, seq: u64) -> Self {
        self.seq = seq;
        self.status = Status::Running;
        self.finish_reason = None;
        self.error = None;
        self.stopped_by = None;
        self.duration_ms = None;
        self.first_token_ms = None;
        // Only the end itself closes a step without its duration.
        for step in self.steps.iter_mut().filter(|step| step.duration_ms.is_none()) {
            step.status = StepStatus::Running;
        }
        self
    }
}
