//! The table: each row's medians, the spread of its paired ratios, and whether it is within its limit.

use std::io::{self, Write};

use crate::figures::Rounds;
use crate::options::Database;
use crate::report::Run;
use crate::row::{Beside, Row};
use crate::rows;

/// A row with its figures.
#[derive(Clone, Debug)]
pub struct Line {
    /// The row.
    pub row: Row,
    /// Whose.
    pub subject: String,
    /// Its figure; `None` when no run counts.
    pub ours: Option<Rounds>,
    /// What stands beside it.
    pub beside: Option<Rounds>,
    /// One by the other, round by round.
    pub ratio: Option<Rounds>,
    /// Whether it is within its limit; `None` when it has none.
    pub holds: Option<bool>,
}

/// The lines of one subject, of what was done. Only SQLite in `relaxed` and replicas have limits.
pub fn lines(runs: &[Run], subject: &str) -> Vec<Line> {
    let has_limits = [Database::Relaxed, Database::Cluster].iter().any(|database| subject == database.name());
    let of_subject = |row: &Row| runs.iter().any(|run| run.subject == subject && run.work == row.work);
    let lines = rows::all().into_iter().filter(of_subject).map(|row| line(runs, subject, row, has_limits));
    // A figure that none has is none of this subject's.
    let is_void = |line: &Line| {
        runs.iter().any(|run| run.subject == subject && run.work == line.row.work && run.outcome.is_err())
    };
    lines.filter(|line| line.ours.is_some() || is_void(line)).collect()
}

fn line(runs: &[Run], subject: &str, row: Row, has_limits: bool) -> Line {
    let of = |round: u32, is_nginx: bool, name: &str| {
        let mut same = runs.iter().filter(|run| run.round == round && run.subject == subject && run.work == row.work);
        same.find(|run| run.is_nginx == is_nginx)?.figures()?.get(name)
    };
    let rounds = runs.iter().map(|run| run.round).max().unwrap_or(0);
    // Paired: in each round the figure is held against its own neighbour, and both must count.
    let pair = |round| {
        let beside = match row.beside {
            Beside::Nginx => Some(of(round, true, row.figure)?),
            Beside::Own(name) => Some(of(round, false, name)?),
            Beside::Alone => None,
        };
        Some((of(round, false, row.figure)?, beside))
    };
    let pairs: Vec<(f64, Option<f64>)> = (1..=rounds).filter_map(pair).collect();
    let spare = Rounds::of(pairs.iter().filter_map(|(ours, beside)| row.spare(*ours, *beside)));
    Line {
        row,
        subject: subject.to_owned(),
        ours: Rounds::of(pairs.iter().map(|(ours, _)| *ours)),
        beside: Rounds::of(pairs.iter().filter_map(|(_, beside)| *beside)),
        ratio: Rounds::of(
            pairs.iter().filter_map(|(ours, beside)| Some(ours / (*beside)?)).filter(|it| it.is_finite()),
        ),
        holds: spare.map(|spare| spare.median >= 0.0).filter(|_| has_limits),
    }
}

/// Prints the lines of one subject.
pub fn print(subject: &str, lines: &[Line]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n## {subject}\n")?;
    writeln!(out, "| what | unit | ours | beside it | ratio, median [min..max] | must be | |")?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for line in lines {
        let median = |rounds: Option<Rounds>| rounds.map_or(String::new(), |rounds| digits(rounds.median));
        let ratio = line.ratio.map_or(String::new(), |ratio| {
            format!("{} [{}..{}]", digits(ratio.median), digits(ratio.min), digits(ratio.max))
        });
        let (limit, holds) = match (line.ours, line.holds) {
            (None, _) => (String::new(), "**void**"),
            (_, Some(true)) => (line.row.must_be(), "holds"),
            (_, Some(false)) => (line.row.must_be(), "**over**"),
            (_, None) => (String::new(), ""),
        };
        let (Row { name, unit, .. }, ours, beside) = (line.row, median(line.ours), median(line.beside));
        writeln!(out, "| {name} | {unit} | {ours} | {beside} | {ratio} | {limit} | {holds} |")?;
    }
    Ok(())
}

/// About three digits that count.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        0.0 => 0,
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}
