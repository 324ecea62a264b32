//! What a run costs the gateway, its database, and ourselves.

use std::time::Duration;

use crate::clock;
use crate::drive::Void;
use crate::figures::Figures;
use crate::gateway::Gateway;
use crate::process::{Cpu, Tree};

/// Before and after a run nothing is sent for so long: what it left to do is done.
const REST: Duration = Duration::from_millis(200);

/// What a run costs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    gateway: Option<Cpu>,
    database: Option<Cpu>,
    ours: u64,
    took: u64,
}

/// Runs something, and says what it cost.
pub fn of(gateway: &Gateway, run: impl FnOnce() -> Result<(), Void>) -> Result<Cost, Void> {
    let cpu = |tree: &Option<Tree>| tree.as_ref().map(Tree::cpu);
    std::thread::sleep(REST);
    let before = (cpu(&gateway.tree), cpu(&gateway.database), clock::thread_cpu(), clock::now());
    run()?;
    let (ours, took) = (clock::thread_cpu() - before.2, clock::now() - before.3);
    std::thread::sleep(REST);
    let since = |before: Option<Cpu>, now: Option<Cpu>| {
        let (before, now) = (before?, now?);
        Some(Cpu { ran: now.ran.saturating_sub(before.ran), waited: now.waited.saturating_sub(before.waited) })
    };
    Ok(Cost {
        gateway: since(before.0, cpu(&gateway.tree)),
        database: since(before.1, cpu(&gateway.database)),
        ours,
        took,
    })
}

/// What the gateway's processes have run so far, in nanoseconds.
pub fn ran(gateway: &Gateway) -> Option<u64> {
    gateway.tree.as_ref().map(|tree| tree.cpu().ran)
}

impl Cost {
    /// Notes it, under names that end with `suffix`.
    pub fn note(&self, figures: &mut Figures, suffix: &str, deltas: u64) {
        let each = |nanoseconds: u64| nanoseconds as f64 / 1000.0 / deltas.max(1) as f64;
        let part = |nanoseconds: u64| nanoseconds as f64 / self.took.max(1) as f64;
        if let Some(cpu) = self.gateway {
            figures.set(format!("cpu_us_per_delta{suffix}"), each(cpu.ran));
            figures.set(format!("waited_us_per_delta{suffix}"), each(cpu.waited));
            figures.set(format!("gateway_busy{suffix}"), part(cpu.ran));
        }
        if let Some(cpu) = self.database {
            figures.set(format!("database_us_per_delta{suffix}"), each(cpu.ran));
        }
        figures.set(format!("bench_busy{suffix}"), part(self.ours));
        figures.set(format!("bench_us_per_delta{suffix}"), each(self.ours));
        figures.set(format!("deltas{suffix}"), deltas as f64);
        figures.set(format!("seconds{suffix}"), self.took as f64 / clock::SECOND as f64);
    }
}
