//! Tidegate, with everything on that is on by default.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

use ::tidegate::domain::stream::Durability;
use rustix::process::Signal;
use tempfile::TempDir;

use super::api::{Api, Wire};
use super::child::{Child, answers, folder};
use super::postgres::Postgres;
use super::{Gateway, Record};
use crate::options::Database;

/// Where it runs, and what it is before.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The fake model.
    pub model: SocketAddr,
    /// The core.
    pub core: usize,
    /// How it is asked.
    pub wire: Wire,
}

/// Starts it on this core, in front of the fake model, with an empty record.
pub fn start(place: Place, database: Database, postgres: Option<&Postgres>) -> io::Result<Gateway> {
    let folder = folder()?;
    let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let (url, spare) = match postgres {
        Some(postgres) if database.is_server() => (postgres.fresh()?, postgres.fresh()?),
        Some(_) | None => (file("tidegate.db"), file("spare.db")),
    };
    let durability = if database == Database::Strict { Durability::Strict } else { Durability::Relaxed };
    let record = Record { url, spare, durability };
    let of_database = postgres.filter(|_| database.is_server()).map(Postgres::tree);
    Ok(Gateway { database: of_database, ..on(place, record, folder, None)? })
}

/// Starts a replica on this record, that shares the Redis at `redis`, if there is one.
pub fn replica(place: Place, record: Record, postgres: &Postgres, redis: Option<&str>) -> io::Result<Gateway> {
    Ok(Gateway { database: Some(postgres.tree()), ..on(place, record, folder()?, redis)? })
}

fn on(place: Place, record: Record, folder: TempDir, redis: Option<&str>) -> io::Result<Gateway> {
    let Place { model, core, wire } = place;
    let word = if record.durability == Durability::Strict { "strict" } else { "relaxed" };
    let cluster = redis.map(|url| format!("[cluster]\nredis_url = \"{url}\"\n\n")).unwrap_or_default();
    let settings = format!(
        "listen = \"127.0.0.1:0\"\ndefault_model = \"gpt-4o-mini\"\n\n[database]\nurl = \"{}\"\n\n{cluster}\
         [stream]\ndurability = \"{word}\"\n\n[[upstreams]]\nname = \"model\"\nkind = \"openai\"\n\
         base_url = \"http://{model}/v1\"\nmodels = [\"*\"]\n",
        record.url
    );
    fs::write(folder.path().join("tidegate.toml"), settings)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(["serve", "--config", "tidegate.toml"]);
    let mut child = Child::start(command, folder, &[core], Signal::TERM)?;
    let address = child.until("Tidegate does not say where it listens", |child| {
        let printed = child.printed("stdout");
        printed.split_once('\n')?.0.rsplit_once("http://")?.1.parse::<SocketAddr>().ok()
    })?;
    child.until("Tidegate does not get ready", |_| answers(address, "/readyz").then_some(()))?;
    Ok(Gateway {
        address,
        api: Api::Tidegate(wire),
        tree: Some(child.tree()),
        database: None,
        record: Some(record),
        child: Some(child),
    })
}
