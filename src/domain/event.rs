//! Events: the numbered things that happen in a turn, and their one encoding.

use bytes::BufMut;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conversation::Conversation;
use super::ids::{ConversationId, MessageId, StepId, TurnId};
use super::json;
use super::message::{Message, Source, StepStatus, Visualization};
use super::turn::{Ending, Problem, Status, StoppedBy};
use super::usage::Usage;

/// One thing that happened in a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// Always the first.
    #[serde(rename = "turn.started")]
    TurnStarted {
        /// The turn.
        turn_id: TurnId,
        /// The conversation it is in.
        conversation_id: ConversationId,
        /// The question.
        user_message_id: MessageId,
        /// The answer.
        message_id: MessageId,
        /// The model that is asked.
        model: String,
    },
    /// Something began.
    #[serde(rename = "step.started")]
    StepStarted {
        /// The step.
        step_id: StepId,
        /// The step it is part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_id: Option<StepId>,
        /// `retrieval`, `model`, `tool`, `sql`, `rewrite`, `guard`…
        kind: String,
        /// What a person reads.
        label: String,
        /// What it was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    /// It is over.
    #[serde(rename = "step.finished")]
    StepFinished {
        /// The step.
        step_id: StepId,
        /// How it went.
        status: StepStatus,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// What went wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// Something the answer rests on.
    #[serde(rename = "source")]
    Source(Source),
    /// A piece of the answer, just as the upstream cut it.
    #[serde(rename = "delta")]
    Delta {
        /// The text.
        text: String,
    },
    /// A piece of the model's reasoning, just as the upstream cut it.
    #[serde(rename = "reasoning")]
    Reasoning {
        /// The text.
        text: String,
    },
    /// A table or chart.
    #[serde(rename = "visualization")]
    Visualization(Visualization),
    /// What one model call used.
    #[serde(rename = "usage")]
    Usage {
        /// The model call.
        step_id: StepId,
        /// The model that was asked.
        model: String,
        /// The figures.
        #[serde(flatten)]
        usage: Usage,
    },
    /// Always the last.
    #[serde(rename = "turn.finished")]
    TurnFinished(Finished),
}

impl Event {
    /// The start of a turn: the turn, its conversation, the question, the answer, and the model that is asked.
    pub fn started(
        turn: &TurnId,
        conversation: &ConversationId,
        question: &MessageId,
        answer: &MessageId,
        model: &str,
    ) -> Self {
        Self::TurnStarted {
            turn_id: turn.clone(),
            conversation_id: conversation.clone(),
            user_message_id: question.clone(),
            message_id: answer.clone(),
            model: model.to_owned(),
        }
    }
}

/// The fields of `turn.finished`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// How the turn ended.
    pub status: Status,
    /// Why the model stopped, in its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Who stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_by: Option<StoppedBy>,
    /// Whether the record is committed.
    pub saved: bool,
    /// The answer.
    pub message_id: MessageId,
    /// From start to end, in milliseconds.
    pub duration_ms: u64,
    /// From start to the first delta or reasoning, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
}

impl Finished {
    /// The end event of a turn that ended so.
    pub fn new(ending: Ending, message_id: MessageId, duration_ms: u64, first_token_ms: Option<u64>) -> Self {
        let Ending { status, finish_reason, error, stopped_by } = ending;
        Self { status, finish_reason, error, stopped_by, saved: true, message_id, duration_ms, first_token_ms }
    }
}

fn open_line(out: &mut Vec<u8>, seq: u64) {
    out.extend_from_slice(b"{\"seq\":");
    write_decimal(out, seq);
    out.push(b',');
}

/// Appends `number` in decimal.
pub fn write_decimal(out: &mut impl BufMut, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// The event numbered `seq` as one line, line end included.
pub fn line(seq: u64, event: &Event) -> Vec<u8> {
    let mut line = Vec::with_capacity(320);
    write_line(&mut line, seq, event);
    line
}

/// Appends the event numbered `seq` as one line, line end included.
pub fn write_line(out: &mut Vec<u8>, seq: u64, event: &Event) {
    open_line(out, seq);
    let brace = out.len();
    json::write(out, event);
    out.remove(brace);
    out.push(b'\n');
}

/// The same for a `delta` that nobody owns yet.
pub fn write_delta_line(out: &mut Vec<u8>, seq: u64, text: &str) {
    write_text_line(out, seq, b"\"type\":\"delta\",\"text\":", text);
}

/// The same for a `reasoning`.
pub fn write_reasoning_line(out: &mut Vec<u8>, seq: u64, text: &str) {
    write_text_line(out, seq, b"\"type\":\"reasoning\",\"text\":", text);
}

fn write_text_line(out: &mut Vec<u8>, seq: u64, head: &[u8], text: &str) {
    open_line(out, seq);
    out.extend_from_slice(head);
    json::write(out, &text);
    out.extend_from_slice(b"}\n");
}

/// Reads a line that [`write_line`] wrote.
pub fn read_line(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line).ok()
}

/// A frame without a number: it is never replayed.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type")]
pub enum Unnumbered<'a> {
    /// Keeps the connection warm.
    #[serde(rename = "ping")]
    Ping,
    /// Replaces all that the reader holds of the message; its own seq is the fold's.
    #[serde(rename = "snapshot")]
    Snapshot {
        /// The last event folded in.
        seq: u64,
        /// The fold.
        message: &'a Message,
    },
    /// The gateway closes the stream before its end: resume elsewhere, or stop.
    #[serde(rename = "closed")]
    Closed {
        /// `draining`, `revoked`, `lost_lease` or `unavailable`.
        code: Closed,
        /// How long to wait, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The end of a turn that could not be saved in time.
    #[serde(rename = "turn.finished")]
    Unsaved(&'a Finished),
    /// The conversation is another than it was (feeds only).
    #[serde(rename = "conversation.updated")]
    Updated {
        /// The conversation now.
        conversation: &'a Conversation,
    },
    /// The conversation is gone (feeds only).
    #[serde(rename = "conversation.deleted")]
    Deleted {
        /// The conversation.
        conversation_id: &'a ConversationId,
    },
}

/// Why the gateway closes a stream before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// This process is being stopped.
    Draining,
    /// Another replica has the turn now.
    LostLease,
    /// The record cannot be read at present.
    Unavailable,
    /// What let the reader in has been revoked.
    Revoked,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_seq_leads_it() {
        let event = Event::StepStarted {
            step_id: "step_1".into(),
            parent_id: None,
            kind: "model".to_owned(),
            label: "Line\u{2028}end".to_owned(),
            input: None,
        };
        let mut line = Vec::new();
        write_line(&mut line, 12, &event);
        let text = String::from_utf8(line.clone()).unwrap();
        assert_eq!(
            text,
            "{\"seq\":12,\"type\":\"step.started\",\"step_id\":\"step_1\",\"kind\":\"model\",\"label\":\"Line\\u2028end\"}\n"
        );
        assert_eq!(read_line(&line), Some(event));
    }

    #[test]
    fn a_delta_is_written_alike_by_both_ways() {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        write_delta_line(&mut short, 10_203, "é\"\n");
        write_line(&mut long, 10_203, &Event::Delta { text: "é\"\n".to_owned() });
        assert_eq!(short, long);
    }
}
