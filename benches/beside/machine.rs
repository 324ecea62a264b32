//! On what the figures were made.

use std::fs;

use serde_json::{Value, json};

/// The machine, as far as it bears on the figures.
pub fn machine() -> Value {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let one = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": cpu.lines().filter(|line| line.starts_with("processor")).count(),
        "kernel": one("/proc/sys/kernel/osrelease"),
        "congestion_control": one("/proc/sys/net/ipv4/tcp_congestion_control"),
    })
}

/// How many programs wanted to compute in the last minute: what else the machine did.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
