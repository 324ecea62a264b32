//! The summary that stands for the turns a model does not read any more: made by a cheaper model, kept, and extended.

use std::sync::Arc;

use super::Turns;
use super::ask::Talk;
use super::live::Live;
use super::window::{Fitted, LeftOut, Material, cut_off, fit_from};
use crate::store::summaries::Summary;
use crate::upstream::{Call, Line, Speaker};

/// The longest summary, in tokens; in a small window it has a quarter of the prompt.
const TOKENS: u32 = 1024;
/// The longest text that is taken for one, in bytes.
pub const BYTES: usize = 64 << 10;

const TASK: &str = "Summarise the conversation below for an assistant that is going to continue it and has nothing else of \
    it. Keep names, numbers, decisions, open questions and what the person wants. If it begins with an earlier summary, keep \
    what that says. Write in the conversation's own language, in at most 300 words, and nothing but the summary.";
const LEAD: &str = "What was said before, in short:\n";

/// What stands for the oldest turns, and from where on the rest is sent as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The first line that is sent.
    pub from: usize,
    /// What was left out.
    pub left_out: LeftOut,
    /// What stands for it.
    pub line: Line,
}

/// A summary of the turns that do not fit, if there is a model for that: the one that is kept where the rest fits beside it,
/// else a new one, of so much that the next turns fit too. `None` where there is none, and the turns are left out without.
pub async fn of(turns: &Turns, live: &Live, talk: &mut Talk, material: &Arc<Material>, room: u64) -> Option<Standing> {
    let model = turns.settings.summary_model.clone()?;
    let kept = kept(turns, live, material).await;
    let from = kept.as_ref().map_or(0, |(from, _)| *from);
    if let Some((from, summary)) = &kept {
        let line = line(&summary.text);
        let beside = room.saturating_sub(turns.counts.count(&line.text) + 8);
        if let Fitted::From(at, left_out) = fit_from(turns, material, *from, beside).await
            && at == *from
        {
            return Some(Standing { from: at, left_out: left_out?, line });
        }
    }
    // Half of the room stays free for turns to come: not every one of them is to wait for a summary.
    let longest = TOKENS.min(u32::try_from(room / 4).unwrap_or(TOKENS)).max(1);
    let beside = room.saturating_sub(u64::from(longest) + 8);
    let (from_now, left_out) = match fit_from(turns, material, from, beside / 2).await {
        Fitted::From(at, left_out) => (at, left_out?),
        Fitted::TooLong | Fitted::Uncounted => match fit_from(turns, material, from, beside).await {
            Fitted::From(at, left_out) => (at, left_out?),
            Fitted::TooLong | Fitted::Uncounted => return None,
        },
    };
    let through = material.earlier.get(from_now.checked_sub(1)?)?.id.clone()?;
    let before = kept.map(|(_, summary)| summary.text);
    let most = turns.settings.windows.room(&[&model], Some(longest));
    let (that, counts) = (material.clone(), turns.counts.clone());
    let text = turns.lifecycle.blocking(move || {
        let text = transcript(before.as_deref(), &that, from..from_now);
        cut_off(&counts, text, most.saturating_sub(counts.count(TASK) + 16))
    });
    let (speaker, text) = (Speaker::User, text.await?);
    let lines = vec![Line { speaker: Speaker::System, text: TASK.to_owned() }, Line { speaker, text }];
    let turn_id = live.lease.turn_id.clone();
    let call = Call { turn_id, model, lines, temperature: None, max_tokens: Some(longest), traceparent: None };
    let text = talk.aside(call).await?;
    let summary = Summary { through, text };
    let lease = &live.lease;
    if let Err(error) = turns.store.keep_summary(&lease.owner, &lease.conversation_id, &summary, turns.now()).await {
        tracing::warn!(%error, turn_id = %lease.turn_id, "a summary could not be kept; the next turn makes another");
    }
    Some(Standing { from: from_now, left_out, line: line(&summary.text) })
}

/// The kept summary that reaches furthest along this path, and the first line after it.
async fn kept(turns: &Turns, live: &Live, material: &Material) -> Option<(usize, Summary)> {
    let summaries = match turns.store.summaries(&live.lease.owner, &live.lease.conversation_id).await {
        Ok(summaries) => summaries,
        Err(error) => {
            tracing::warn!(%error, turn_id = %live.lease.turn_id, "kept summaries cannot be read");
            return None;
        }
    };
    let reach = |summary: Summary| {
        let at = material.earlier.iter().position(|earlier| earlier.id.as_ref() == Some(&summary.through))?;
        Some((at + 1, summary))
    };
    summaries.into_iter().filter_map(reach).max_by_key(|(from, _)| *from)
}

fn line(text: &str) -> Line {
    Line { speaker: Speaker::System, text: format!("{LEAD}{text}") }
}

/// What is to be summarised, as one text: who said what is told by words, so that no model answers it.
fn transcript(before: Option<&str>, material: &Material, lines: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    if let Some(before) = before {
        text.extend(["Earlier summary:\n", before, "\n\n"]);
    }
    for earlier in &material.earlier[lines] {
        let who = match earlier.line.speaker {
            Speaker::User => "Person: ",
            Speaker::Assistant => "Assistant: ",
            Speaker::System => "Operator: ",
        };
        text.extend([who, &earlier.line.text, "\n\n"]);
    }
    text
}
