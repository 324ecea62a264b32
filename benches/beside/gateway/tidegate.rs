//! Tidegate, with everything on that is on by default.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

use ::tidegate::domain::stream::Durability;
use rustix::process::Signal;

use super::api::{Api, Wire};
use super::child::{Child, answers, folder};
use super::postgres::Postgres;
use super::{Gateway, Record};
use crate::options::Database;

/// Starts it on this core, in front of the fake model, with an empty record.
pub fn start(
    model: SocketAddr,
    core: usize,
    wire: Wire,
    database: Database,
    postgres: Option<&Postgres>,
) -> io::Result<Gateway> {
    let folder = folder()?;
    let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let (url, spare) = match (database, postgres) {
        (Database::Postgres, Some(postgres)) => (postgres.fresh()?, postgres.fresh()?),
        (Database::Relaxed | Database::Strict | Database::Postgres, _) => (file("tidegate.db"), file("spare.db")),
    };
    let (durability, word) = match database {
        Database::Strict => (Durability::Strict, "strict"),
        Database::Relaxed | Database::Postgres => (Durability::Relaxed, "relaxed"),
    };
    let record = Record { url, spare, durability };
    let settings = format!(
        "listen = \"127.0.0.1:0\"\ndefault_model = \"gpt-4o-mini\"\n\n[database]\nurl = \"{}\"\n\n\
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
    let of_database = postgres.filter(|_| database == Database::Postgres).map(Postgres::tree);
    Ok(Gateway {
        address,
        api: Api::Tidegate(wire),
        tree: Some(child.tree()),
        database: of_database,
        record: Some(record),
        child: Some(child),
    })
}
