//! What is no longer kept: events past their retention, keys and counters past their time; conversations that have expired,
//! or are older than their application keeps any; and people who are being forgotten.

use std::future::Future;
use std::time::Duration;

use super::{Turns, expiry, forget, recover, retention};
use crate::domain::clock::Timestamp;
use crate::store::Result;

/// How often it looks…
const EVERY: Duration = Duration::from_secs(10);
/// …and where events are kept for less than a minute.
const SOON: Duration = Duration::from_secs(1);
/// How long a fenced replica is remembered, in microseconds.
const REPLICAS_KEPT: i64 = 3_600_000_000;
/// How much goes in one transaction…
const LIMIT: u32 = 100;
/// …and how often, at most, before others have their turn.
const STRIDES: u32 = 100;

/// The task. It ends with the lifecycle's soft token.
pub async fn run(turns: Turns) {
    let soft = turns.lifecycle.soft().clone();
    // The longer things are kept, the less often it matters to look.
    let every = if turns.settings.stream.retention_s < 60 { SOON } else { EVERY };
    let mut looks = Looks::default();
    loop {
        tokio::select! {
            () = soft.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        sweep(&turns, &mut looks).await;
    }
}

/// Looks through all conversations, each for something else, and for those who are being forgotten.
#[derive(Default)]
struct Looks {
    silent: expiry::Look,
    old: retention::Look,
    leaving: forget::Look,
}

/// One round. What goes wrong in one step keeps none of the others waiting.
async fn sweep(turns: &Turns, looks: &mut Looks) {
    log("turns that nobody has", recover::stragglers(turns).await);
    let kept = i64::try_from(turns.settings.stream.retention_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let now = turns.now();
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(kept));
    log("events", drop_all(turns, LIMIT, STRIDES, || turns.store.drop_journals(before, now, LIMIT)).await);
    log("keys", drop_all(turns, LIMIT, STRIDES, || turns.store.forget_keys(now, LIMIT)).await);
    log("counters", drop_all(turns, LIMIT, STRIDES, || turns.store.forget_quotas(now, LIMIT)).await);
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(REPLICAS_KEPT));
    log("replicas", drop_all(turns, LIMIT, STRIDES, || turns.store.forget_replicas(before, LIMIT)).await);
    log("silent conversations", looks.silent.go_on(turns).await);
    log("old conversations", looks.old.go_on(turns).await);
    log("people", looks.leaving.go_on(turns).await);
}

fn log(what: &'static str, done: Result<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, what, "the sweep waits for the database");
    }
}

/// Has `some` drop up to `limit` until there is no more, `strides` times at most, or until the process is told to stop.
pub async fn drop_all<F>(turns: &Turns, limit: u32, strides: u32, some: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<u64>>,
{
    for _ in 0..strides {
        if turns.lifecycle.soft().is_cancelled() || some().await? < u64::from(limit) {
            break;
        }
    }
    Ok(())
}
