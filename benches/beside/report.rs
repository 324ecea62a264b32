//! Everything that was measured, as JSON.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::drive::Void;
use crate::figures::{Figures, Rounds};
use crate::table::Line;
use crate::work::Work;

/// One run: one gateway, one work, one round.
#[derive(Debug)]
pub struct Run {
    /// The round, from 1.
    pub round: u32,
    /// Who is measured in this pair.
    pub subject: String,
    /// Whether this is nginx's half of it.
    pub is_nginx: bool,
    /// What was done.
    pub work: Work,
    /// The machine's load before it.
    pub load: f64,
    /// What came of it.
    pub outcome: Result<Figures, Void>,
}

impl Run {
    /// Its figures, if it counts.
    pub fn figures(&self) -> Option<&Figures> {
        self.outcome.as_ref().ok()
    }

    fn to_json(&self) -> Value {
        let gateway = if self.is_nginx { "nginx" } else { &self.subject };
        let mut run = json!({
            "round": self.round, "subject": self.subject, "gateway": gateway, "work": self.work.name(), "load": self.load,
        });
        match &self.outcome {
            Ok(figures) => run["figures"] = json!(figures.all()),
            Err(void) => run["void"] = json!(void.to_string()),
        }
        run
    }
}

/// Writes it all.
pub fn write(path: &Path, machine: &Value, runs: &[Run], lines: &[Line]) -> io::Result<()> {
    let rounds = |rounds: Rounds| json!({"median": rounds.median, "min": rounds.min, "max": rounds.max});
    let line = |line: &Line| {
        json!({
            "subject": line.subject, "work": line.row.work.name(), "row": line.row.name, "unit": line.row.unit,
            "figure": line.row.figure, "ours": line.ours.map(rounds), "beside": line.beside.map(rounds),
            "ratio": line.ratio.map(rounds), "limit": line.row.must_be(), "holds": line.holds,
        })
    };
    let report = json!({
        "machine": machine,
        "rows": lines.iter().map(line).collect::<Vec<_>>(),
        "runs": runs.iter().map(Run::to_json).collect::<Vec<_>>(),
    });
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(&report)?)
}
