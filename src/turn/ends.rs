//! What ends a turn, in the words clients read. An upstream's own words are for the log.

use super::live::Cut;
use crate::domain::message::StepStatus;
use crate::domain::turn::{Ending, Status};
use crate::upstream::{End, Fault, Finish, Refusal};

/// How a turn is to end that is ended from outside; `None` when it is not ours to end.
pub fn of_cut(why: Cut) -> Option<Ending> {
    match why {
        Cut::Stop(by) => Some(Ending::stopped(by)),
        Cut::Starved => Some(Ending::problem(
            Status::Failed,
            "store_unavailable",
            "The answer could not be saved in time, and was not continued.",
        )),
        Cut::Curfew => Some(Ending::plain(Status::Interrupted)),
        Cut::Lost => None,
    }
}

/// The end of a turn whose question is more than the model reads.
pub fn too_long() -> Ending {
    let message = "The question is too long for this model, with its instructions and the room for an answer.";
    Ending::problem(Status::Failed, "context_exceeded", message)
}

/// The end of a turn whose answer may be so long that its model can be asked nothing.
pub fn no_room() -> Ending {
    let message = "`max_tokens` of the conversation leaves no room for a question: this model reads no more than that.";
    Ending::problem(Status::Failed, "context_exceeded", message)
}

/// The end of a turn that met a fault of ours.
pub fn mistake() -> Ending {
    Ending::problem(Status::Failed, "internal", "The gateway made a mistake.")
}

/// What went wrong on our side with a call whose turn ended so, as it is counted and traced.
pub fn own_fault(ending: &Ending) -> Option<&'static str> {
    match ending.status {
        Status::Timeout => Some("timeout"),
        Status::Failed if ending.error.as_ref().is_some_and(|problem| problem.code == "store_unavailable") => {
            Some("store_unavailable")
        }
        Status::Failed => Some("internal"),
        Status::Queued
        | Status::Running
        | Status::Completed
        | Status::Length
        | Status::Filtered
        | Status::Stopped
        | Status::Truncated
        | Status::Interrupted => None,
    }
}

/// How a step ends that was open when its turn ended so, and the code of what went wrong.
pub fn of_step(ending: &Ending) -> (StepStatus, Option<String>) {
    match ending.status {
        Status::Completed | Status::Length | Status::Filtered => (StepStatus::Ok, None),
        Status::Failed | Status::Truncated | Status::Timeout => {
            (StepStatus::Error, ending.error.as_ref().map(|problem| problem.code.clone()))
        }
        Status::Stopped | Status::Interrupted | Status::Queued | Status::Running => {
            (StepStatus::Error, Some(ending.status.as_str().to_owned()))
        }
    }
}

/// What a model's own end is to the turn.
pub fn of_finish(finish: &Finish) -> Ending {
    let status = match finish.end {
        End::Whole => Status::Completed,
        End::Length => Status::Length,
        End::Filtered => Status::Filtered,
    };
    Ending::finished(status, &finish.reason)
}

/// What the last upstream's refusal is to the turn.
pub fn of_refusal(refusal: Refusal) -> Ending {
    match refusal {
        Refusal::Unavailable => {
            Ending::problem(Status::Failed, "upstream_unavailable", "The model is not available at present.")
        }
        Refusal::RateLimited(_) => {
            Ending::problem(Status::Failed, "upstream_rate_limited", "The model takes no more requests at present.")
        }
        Refusal::RequestTimeout | Refusal::Rejected => {
            Ending::problem(Status::Failed, "upstream_error", "The model refused the request.")
        }
        Refusal::Garbled => {
            Ending::problem(Status::Failed, "upstream_protocol", "The model's answer could not be understood.")
        }
        Refusal::Silent => Ending::problem(Status::Timeout, "timeout", "The model did not answer in time."),
    }
}

/// What an answer that broke off is to the turn.
pub fn of_fault(fault: Fault) -> Ending {
    match fault {
        Fault::Truncated => {
            Ending::problem(Status::Truncated, "upstream_truncated", "The model's answer broke off before its end.")
        }
        Fault::Error => Ending::problem(Status::Failed, "upstream_error", "The model reported an error."),
        Fault::Protocol => {
            Ending::problem(Status::Failed, "upstream_protocol", "The model's answer could not be understood.")
        }
        Fault::Silent => Ending::problem(Status::Timeout, "timeout", "The model fell silent."),
    }
}
