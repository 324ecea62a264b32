//! Who computes where.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps this thread, and what it starts from now on, on these cores.
pub fn stay(on: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in on {
        set.set(*core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Does something on these cores: what it starts stays there.
pub fn on<T>(cores: &[usize], work: impl FnOnce() -> T) -> io::Result<T> {
    let before = sched_getaffinity(None)?;
    stay(cores)?;
    let done = work();
    sched_setaffinity(None, &before)?;
    Ok(done)
}

/// The cores this process may use at all, but for one.
pub fn all_but(core: usize) -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|other| *other != core && allowed.is_set(*other)).collect())
}
