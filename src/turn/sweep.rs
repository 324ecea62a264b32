//! What is no longer kept: events past their retention, keys and counters past their time, admissions nobody was told of;
//! conversations that have expired, or are older than their application keeps any; and people who are being forgotten.

use std::time::Duration;

use super::{Turns, expiry, recover, retention};
use crate::domain::clock::Timestamp;
use crate::store::Result;

/// How often admissions of unknown outcome are looked after.
const SUSPECTS: Duration = Duration::from_secs(1);
/// How often the rest is.
const ROUND: u32 = 10;
/// How long a fenced replica is remembered, in microseconds.
const REPLICAS_KEPT: i64 = 3_600_000_000;
/// How much goes in one transaction.
const LIMIT: u32 = 100;

/// The task. It ends with the lifecycle's soft token.
pub async fn run(turns: Turns) {
    let soft = turns.lifecycle.soft().clone();
    // The longer things are kept, the less often it matters to look.
    let (mut round, mut looks) = (0u32, Looks::default());
    loop {
        tokio::select! {
            () = soft.cancelled() => return,
            () = tokio::time::sleep(SUSPECTS) => {}
        }
        turns.withdraw_suspects().await;
        round += 1;
        let due = turns.settings.stream.retention_s < 60 || round.is_multiple_of(ROUND);
        if due && let Err(error) = sweep(&turns, &mut looks).await {
            tracing::warn!(%error, "the sweep waits for the database");
        }
    }
}

/// Looks through all conversations, each for something else.
#[derive(Default)]
struct Looks {
    silent: expiry::Look,
    old: retention::Look,
}

async fn sweep(turns: &Turns, looks: &mut Looks) -> Result<()> {
    recover::stragglers(turns).await?;
    let kept = i64::try_from(turns.settings.stream.retention_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
    let now = turns.now();
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(kept));
    while turns.store.drop_journals(before, now, LIMIT).await? == u64::from(LIMIT) {}
    while turns.store.forget_keys(now, LIMIT).await? == u64::from(LIMIT) {}
    while turns.store.forget_quotas(now, LIMIT).await? == u64::from(LIMIT) {}
    let before = Timestamp::from_micros(now.as_micros().saturating_sub(REPLICAS_KEPT));
    while turns.store.forget_replicas(before, LIMIT).await? == u64::from(LIMIT) {}
    looks.silent.go_on(turns).await?;
    looks.old.go_on(turns).await?;
    turns.forget_on().await
}
