//! Logs: on stderr, so that stdout is for whoever started us.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Installs the process's one log; the level is `RUST_LOG`'s, else `info`.
pub(super) fn install(format: LogFormat) {
    let terminal = io::stderr().is_terminal();
    let asked = env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let parsed = asked.map(EnvFilter::try_new).transpose();
    let wrong = parsed.is_err();
    let filter = parsed.ok().flatten().unwrap_or_else(|| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    // It fails when there is one already, which then is the one.
    let _ = if json { log.json().flatten_event(true).try_init() } else { log.with_ansi(terminal).try_init() };
    if wrong {
        tracing::warn!("RUST_LOG cannot be read; the level is info");
    }
}
