//! What a process and its children take: CPU to the nanosecond, and memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;

use crate::clock::SECOND;

/// What `/proc/PID/stat` counts in: a hundredth of a second on every Linux.
const TICK: u64 = SECOND / 100;

/// CPU of a process's tree since its beginning, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// Computed.
    pub ran: u64,
    /// Waited for the core while it could have computed: another program's share, or its own threads in each other's
    /// way.
    pub waited: u64,
}

/// A process and its children.
#[derive(Debug)]
pub struct Tree {
    root: u32,
    /// The last that was seen of each thread of each process: one that has ended still counts.
    threads: RefCell<HashMap<(u32, u32), Cpu>>,
}

impl Tree {
    /// Of this process.
    pub fn of(root: u32) -> Self {
        Self { root, threads: RefCell::default() }
    }

    /// The CPU of every thread there is or has been.
    pub fn cpu(&self) -> Cpu {
        let mut threads = self.threads.borrow_mut();
        let mut total = Cpu::default();
        for process in self.processes() {
            for thread in tasks(process) {
                // Time on the core, time waiting for it, and how many times.
                let Ok(text) = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")) else { continue };
                let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
                let (ran, waited) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                threads.insert((process, thread), Cpu { ran, waited });
            }
            let seen = threads.iter().filter(|((of, _), _)| *of == process).map(|(_, cpu)| cpu);
            let seen =
                seen.fold(Cpu::default(), |sum, cpu| Cpu { ran: sum.ran + cpu.ran, waited: sum.waited + cpu.waited });
            let (own, children) = ticks(process);
            // Threads that came and went between two looks are in the process's own count alone.
            total.ran += seen.ran.max(own) + children;
            total.waited += seen.waited;
        }
        total
    }

    /// Resident memory now, in bytes.
    pub fn memory(&self) -> u64 {
        let resident = |process| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.processes().into_iter().filter_map(resident).sum::<u64>() * 1024
    }

    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.root];
        let mut at = 0;
        while let Some(process) = found.get(at).copied() {
            at += 1;
            for thread in tasks(process) {
                let children =
                    fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).unwrap_or_default();
                found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
        }
        found
    }
}

fn tasks(process: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// What the kernel counts of a process, ended threads included, and of its children that have ended; both are rounded
/// down to its ticks.
fn ticks(process: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may hold spaces; the times are fields 14 to 17, and field 3 is the first after it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11);
    let times: Vec<u64> = fields.take(4).map(|ticks| ticks.parse().unwrap_or(0) * TICK).collect();
    let sum = |from: usize| times.iter().skip(from).take(2).sum();
    (sum(0), sum(2))
}
