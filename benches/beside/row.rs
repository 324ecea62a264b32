//! A row of the table: which figure, beside which, and what it must be.

use crate::work::Work;

/// What a figure stands beside.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    /// The same figure of nginx in the same round.
    Nginx,
    /// Another figure of the same run.
    Own(&'static str),
    /// Nothing.
    Alone,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// At most that.
    Most(f64),
    /// At most so many times what stands beside it, and so much more.
    Times(f64, f64),
    /// At least so many times what stands beside it.
    Least(f64),
    /// Shown only.
    Shown,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The work that gives it.
    pub work: Work,
    /// What a reader of the table reads.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The figure.
    pub figure: &'static str,
    /// What it stands beside.
    pub beside: Beside,
    /// What it must be.
    pub limit: Limit,
}

impl Row {
    /// How far the figure is from its limit, in its unit; less than nothing when it is out of it.
    pub fn spare(&self, ours: f64, beside: Option<f64>) -> Option<f64> {
        match self.limit {
            Limit::Most(most) => Some(most - ours),
            Limit::Times(times, more) => Some(times * beside? + more - ours),
            Limit::Least(times) => Some(ours - times * beside?),
            Limit::Shown => None,
        }
    }

    /// Its limit in words.
    pub fn must_be(&self) -> String {
        let it = if matches!(self.beside, Beside::Nginx) { "nginx" } else { "it" };
        match self.limit {
            Limit::Most(most) => format!("≤ {most}"),
            Limit::Times(1.0, 0.0) => format!("≤ {it}"),
            Limit::Times(times, 0.0) => format!("≤ {times} × {it}"),
            Limit::Times(1.0, more) => format!("≤ {it} + {more}"),
            Limit::Times(times, more) => format!("≤ {times} × {it} + {more}"),
            Limit::Least(times) => format!("≥ {times} × {it}"),
            Limit::Shown => String::new(),
        }
    }
}
