//! The calls of models that a turn made, as they are kept: what their usage events say, and what its run knows besides.

use std::sync::Arc;

use crate::domain::clock::Timestamp;
use crate::domain::draft::Draft;
use crate::domain::ids::{StepId, UsageId};
use crate::domain::message::StepStatus;
use crate::domain::turn::Status;
use crate::domain::usage::Record;

/// What a turn's run knows of a call besides its usage event.
#[derive(Clone, Debug)]
pub struct Made {
    /// The call.
    pub step_id: StepId,
    /// The model that answered, by the upstream's name for it.
    pub answered_by: Option<String>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// How it ended.
    pub ended: Status,
    /// From the request to the first delta or reasoning, in milliseconds.
    pub first_token_ms: Option<u64>,
    /// From the request to its end, in milliseconds.
    pub duration_ms: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The records of a turn's calls. Of one that no run here `made`, the fold tells what it can: that is so after a crash.
/// Where not even the step's id tells when, it was at `since`.
pub fn records(draft: &Draft, made: &[Made], since: Timestamp) -> Vec<Record> {
    let records = draft.counted().iter().map(|counted| {
        let counted = counted.clone();
        if let Some(made) = made.iter().find(|made| made.step_id == counted.step_id) {
            return Record {
                id: UsageId::new(made.created_at),
                counted,
                answered_by: made.answered_by.clone(),
                upstream: Some(made.upstream.to_string()),
                ended: made.ended,
                first_token_ms: made.first_token_ms,
                duration_ms: Some(made.duration_ms),
                created_at: made.created_at,
            };
        }
        let created_at = called_at(&counted.step_id, since);
        let step = draft.steps().iter().find(|step| step.step_id == counted.step_id);
        let whole = step.is_some_and(|step| step.status == StepStatus::Ok);
        Record {
            id: UsageId::new(created_at),
            answered_by: None,
            upstream: None,
            ended: if whole { Status::Completed } else { Status::Interrupted },
            first_token_ms: None,
            duration_ms: step.and_then(|step| step.duration_ms),
            created_at,
            counted,
        }
    });
    records.collect()
}

/// When a call was made whose step is all that is known of it.
pub fn called_at(step: &StepId, since: Timestamp) -> Timestamp {
    step.made_at().unwrap_or(since)
}
