//! What lies in `deploy/`, held against the program and run as far as it runs without a machine of its own. `scripts/test`
//! installs what that takes.
#![cfg(test)]

mod alerts;
mod backup;
mod image;
mod proxies;
mod replicas;
#[path = "../support/mod.rs"]
mod support;
mod unit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tidegate::config::load::File;
use tidegate::config::{Config, Flags, load};

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Sqlite;

/// What a process that ends may take after its time of grace: five seconds for connections, two for traces.
const AFTER_GRACE: Duration = Duration::from_secs(7);

/// A path in the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file in `deploy/`.
fn file(name: &str) -> String {
    std::fs::read_to_string(path("deploy").join(name)).unwrap()
}

/// Runs a tool, which must be content, and gives what it printed.
#[track_caller]
fn content(command: &mut Command) -> String {
    let output = command.output();
    let Output { status, stdout, stderr } =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}: run scripts/test, which installs it"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{command:?}: {stdout}{stderr}");
    assert_eq!(stderr, "", "{command:?}");
    stdout
}

/// The settings that come of this file and these variables. Fails where one of them is unknown, or cannot be.
#[track_caller]
fn settings(text: &str, variables: &[(String, String)]) -> Config {
    let file = File { name: "deploy/tidegate.toml".to_owned(), text: text.to_owned() };
    let loaded = load(Some(&file), variables.to_vec(), Flags::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    loaded.config
}

/// How long such a gateway may take to end.
fn longest_end(config: &Config) -> Duration {
    Duration::from_secs(config.limits.drain_delay_s + config.limits.grace_s) + AFTER_GRACE
}
