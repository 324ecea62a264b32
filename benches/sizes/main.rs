//! What 1,000 turns leave in the database, by what it is for; and what they send through Redis. `benches/README.md` says how to
//! run it, `docs/sizing.md` what came of it.

mod database;
mod gateway;
mod redis;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use tempfile::TempDir;

use self::database::Database;
use self::gateway::Gateway;
use self::redis::Redis;

type Failed = Box<dyn std::error::Error>;

/// Turns, in so many conversations, and so many of them at once.
const TURNS: usize = 1000;
const CONVERSATIONS: usize = 250;
const AT_ONCE: usize = 50;

/// Rows and bytes, indexes with them.
#[derive(Clone, Copy, Default)]
struct Size {
    rows: i64,
    bytes: i64,
}

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        let _ = writeln!(io::stderr(), "to be run by `cargo bench --bench sizes`");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sizes: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failed> {
    let home = TempDir::new()?;
    measure("SQLite", &Database::file(&home), None).await?;
    match std::env::var("TIDEGATE_TEST_POSTGRES_URL") {
        Ok(server) => {
            let database = Database::on(&server).await?;
            let redis = std::env::var("TIDEGATE_TEST_REDIS_URL").ok();
            let measured = measure("PostgreSQL", &database, redis.as_deref()).await;
            database.drop().await?;
            measured
        }
        Err(_) => say("PostgreSQL: TIDEGATE_TEST_POSTGRES_URL is not set, so it is left out"),
    }
}

fn say(line: &str) -> Result<(), Failed> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

async fn measure(name: &str, database: &Database, redis_url: Option<&str>) -> Result<(), Failed> {
    let home = TempDir::new()?;
    let mut gateway = Gateway::start(&home, database.url(), redis_url, 86_400).await?;
    let empty = database.sizes().await?;
    let redis = match redis_url {
        Some(url) => Some((Redis::at(url)?, Redis::at(url)?.traffic().await?)),
        None => None,
    };
    gateway.ask(TURNS, CONVERSATIONS, AT_ONCE).await?;
    let deltas = gateway.deltas().await?;
    gateway.indexed(database, TURNS).await?;
    if let Some((redis, (came, went))) = redis {
        let (came, went) = (redis.traffic().await?.0 - came, redis.traffic().await?.1 - went);
        say(&format!("Redis, for each of {deltas} deltas: {} bytes in, {} out", came / deltas, went / deltas))?;
    }
    gateway.end().await?;
    let full = database.sizes().await?;

    // All that was kept for replay goes at the next sweep.
    let mut gateway = Gateway::start(&home, database.url(), None, 0).await?;
    database.emptied("journal").await?;
    gateway.end().await?;
    let after = database.sizes().await?;
    say(&format!("{name}: {TURNS} turns in {CONVERSATIONS} conversations, {deltas} deltas"))?;
    say("| for | rows | KiB | after retention: rows | KiB |\n|---|--:|--:|--:|--:|")?;
    let mut sum = [Size::default(), Size::default()];
    for (group, size) in &full {
        let grown = |sizes: &BTreeMap<&str, Size>| {
            let (now, before) =
                (sizes.get(group).copied().unwrap_or_default(), empty.get(group).copied().unwrap_or_default());
            Size { rows: now.rows - before.rows, bytes: now.bytes - before.bytes }
        };
        let (then, later) = (grown(&full), grown(&after));
        for (sum, one) in sum.iter_mut().zip([then, later]) {
            *sum = Size { rows: sum.rows + one.rows, bytes: sum.bytes + one.bytes };
        }
        if size.rows > 0 {
            row(group, then, later)?;
        }
    }
    row("all", sum[0], sum[1])
}

fn row(name: &str, then: Size, later: Size) -> Result<(), Failed> {
    let kib = |size: Size| size.bytes >> 10;
    say(&format!("| {name} | {} | {} | {} | {} |", then.rows, kib(then), later.rows, kib(later)))
}
