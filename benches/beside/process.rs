//! What a process and its children take: CPU to the nanosecond, and memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;

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
    /// The last that was seen of each thread: one that has ended still counts.
    threads: RefCell<HashMap<u32, Cpu>>,
}

impl Tree {
    /// Of this process.
    pub fn of(root: u32) -> Self {
        Self { root, threads: RefCell::default() }
    }

    /// The CPU of every thread there is or has been, as far as it was seen.
    pub fn cpu(&self) -> Cpu {
        let mut threads = self.threads.borrow_mut();
        for process in self.processes() {
            for thread in tasks(process) {
                // schedstat: time on the core, time waiting for it, and how many times (proc_pid_schedstat).
                let Ok(text) = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")) else { continue };
                let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
                let (ran, waited) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                threads.insert(thread, Cpu { ran, waited });
            }
        }
        let sum = |of: fn(&Cpu) -> u64| threads.values().map(of).sum();
        Cpu { ran: sum(|cpu| cpu.ran), waited: sum(|cpu| cpu.waited) }
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
