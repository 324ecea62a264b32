//! Gateways beside nginx: one command that starts a fake model, its users and each gateway in turn, and measures what
//! a delta costs on its way. `benches/README.md` says how to run it and how to read it.

mod clock;
mod cores;
mod cost;
mod drive;
mod figures;
mod gateway;
mod machine;
mod options;
mod process;
mod report;
mod row;
mod rows;
mod table;
mod work;

use std::io::{self, Write};
use std::process::ExitCode;

use ::tidegate::domain::stream::Durability;
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::drive::Void;
use crate::drive::engine::Engine;
use crate::figures::Figures;
use crate::gateway::api::Api;
use crate::gateway::postgres::Postgres;
use crate::gateway::redis::Redis;
use crate::gateway::tidegate::Place;
use crate::gateway::{Gateway, Record, nginx, tidegate};
use crate::options::{Database, Options};
use crate::process::Tree;
use crate::report::Run;
use crate::work::{Peers, Stage, Work};

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        let _ = writeln!(io::stderr(), "to be run by `cargo bench --bench beside`");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(voids) => {
            let _ = writeln!(io::stderr(), "{voids} runs are void: their figures count nowhere");
            ExitCode::FAILURE
        }
        Err(void) => {
            let _ = writeln!(io::stderr(), "beside: {void}");
            ExitCode::FAILURE
        }
    }
}

/// Does everything; says how many runs are void.
fn run(options: &Options) -> Result<usize, Void> {
    // Each stream is two descriptors here.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let away = cores::all_but(options.gateway_core)?;
    cores::stay(&[options.bench_core])?;
    let subjects: Vec<Option<Database>> =
        if options.url.is_some() { vec![None] } else { options.databases.iter().copied().map(Some).collect() };
    let needs_server = subjects.iter().flatten().any(|database| database.is_server());
    let postgres = if needs_server { Some(Postgres::start(&away)?) } else { None };
    let mut machine = machine::machine();
    machine["nginx"] = json!(nginx::version()?);
    machine["tidegate"] = json!(env!("CARGO_PKG_VERSION"));
    machine["postgres"] = json!(postgres.as_ref().map(Postgres::version).transpose()?);
    machine["quick"] = json!(options.quick);
    let bench = Bench { options, postgres, away };
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for work in Work::value_variants() {
            if !options.only.is_empty() && !options.only.contains(work) {
                continue;
            }
            for subject in subjects.iter().filter(|subject| work.is_for(**subject)) {
                if work.is_beside_nginx() {
                    runs.push(bench.measure(round, *work, *subject, true));
                }
                runs.push(bench.measure(round, *work, *subject, false));
            }
        }
    }
    let mut all = Vec::new();
    for subject in &subjects {
        let lines = table::lines(&runs, name(*subject));
        table::print(name(*subject), &lines)?;
        all.extend(lines);
    }
    report::write(&options.json, &machine, &runs, &all)?;
    Ok(runs.iter().filter(|run| run.outcome.is_err()).count())
}

fn name(subject: Option<Database>) -> &'static str {
    subject.map_or("the other", Database::name)
}

struct Bench<'a> {
    options: &'a Options,
    postgres: Option<Postgres>,
    /// The cores of what is not measured.
    away: Vec<usize>,
}

impl Bench<'_> {
    fn measure(&self, round: u32, work: Work, subject: Option<Database>, is_nginx: bool) -> Run {
        let load = machine::load();
        let who = if is_nginx { "nginx" } else { name(subject) };
        let mut err = io::stderr();
        let _ = write!(err, "round {round}: {}, {who} … ", work.name());
        let outcome = self.attempt(work, subject, is_nginx);
        let _ = match &outcome {
            Ok(_) => writeln!(err, "done"),
            Err(void) => writeln!(err, "VOID: {void}"),
        };
        Run { round, subject: name(subject).to_owned(), is_nginx, work, load, outcome }
    }

    fn attempt(&self, work: Work, subject: Option<Database>, is_nginx: bool) -> Result<Figures, Void> {
        let Options { gateway_core: core, quick, wire, .. } = *self.options;
        let engine = Engine::new(self.options.upstream_port)?;
        let model = engine.address()?;
        let place = Place { model, core, wire };
        let (gateway, peers) = match (subject, &self.postgres) {
            _ if is_nginx => (nginx::start(model, core)?, None),
            (Some(Database::Cluster), Some(postgres)) => self.replicas(place, postgres)?,
            (Some(database), postgres) => (tidegate::start(place, database, postgres.as_ref())?, None),
            (None, _) => (self.other()?, None),
        };
        let mut stage = Stage { engine, gateway, peers, core, quick };
        work.run(&mut stage).map_err(|void| Void::new(format!("{void}\n{}", stage.gateway.last_words())))
    }

    /// Two replicas with a Redis, and a gateway without, all on one core.
    fn replicas(&self, place: Place, postgres: &Postgres) -> Result<(Gateway, Option<Peers>), Void> {
        let redis = Redis::start(&self.away)?;
        let record = |url: String| Record { spare: url.clone(), url, durability: Durability::Relaxed };
        let (shared, own) = (record(postgres.fresh()?), record(postgres.fresh()?));
        let start = |record: &Record, redis| tidegate::replica(place, record.clone(), postgres, redis);
        let url = redis.url();
        let (gateway, other) = (start(&shared, Some(&*url))?, start(&shared, Some(&*url))?);
        let alone = start(&own, None)?;
        Ok((gateway, Some(Peers { alone, other, redis })))
    }

    /// The gateway that runs already.
    fn other(&self) -> Result<Gateway, Void> {
        Ok(Gateway {
            address: self.options.url.ok_or_else(|| Void::new("no gateway is named"))?,
            api: Api::completions(&self.options.path),
            tree: self.options.pid.map(Tree::of),
            database: None,
            record: None,
            child: None,
        })
    }
}
