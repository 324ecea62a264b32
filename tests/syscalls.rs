//! What a delta asks of the system on its way through the gateway: to be told of it, to read it, to write it, and next to
//! nothing else. `strace`, which `scripts/test` installs, counts.
#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{Encoding, Gateway, Kind, Scene, Script, eventually};

/// The kind of every fresh database here.
const DATABASE: Kind = Kind::Sqlite;

/// Deltas before they are counted, while they are, and after.
const BEFORE: usize = 20;
const DELTAS: usize = 400;
const AFTER: usize = 200;
/// So far apart that none is read together with another.
const EVERY: Duration = Duration::from_millis(5);

/// What counts the calls of all threads of a process.
struct Strace {
    child: Child,
    counts: PathBuf,
}

impl Strace {
    async fn attach(gateway: &Gateway) -> Self {
        let counts = gateway.home().join("strace");
        let pid = gateway.pid().as_raw_nonzero().to_string();
        let child = Command::new("strace")
            .args(["-f", "-qq", "-c", "-U", "calls,name", "-o"])
            .arg(&counts)
            .args(["-p", &pid])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace is on the PATH: run scripts/test, which installs it");
        eventually("strace to have every thread", async || {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            let mut status = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
            status.all(|status| !status.contains("TracerPid:\t0\n")).then_some(())
        })
        .await;
        Self { child, counts }
    }

    /// Lets go, and says how often what was called.
    fn counted(mut self) -> HashMap<String, usize> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap();
        let counts = std::fs::read_to_string(&self.counts).unwrap();
        let words = counts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.filter_map(|words| Some((words.get(1)?.to_string(), words.first()?.parse().ok()?))).collect()
    }
}

#[tokio::test]
async fn a_delta_is_read_once_and_written_once() {
    // One worker: others would look whether there is work for them.
    let scene = Scene::with(|setup| setup.env("TOKIO_WORKER_THREADS", "1")).await;
    for encoding in Encoding::ALL {
        let script = Script::new().role().paced(BEFORE + DELTAS + AFTER, EVERY);
        scene.upstream.push(script.finish("stop").usage(1, 1).done());
        let conversation = scene.client.conversation().await;
        let mut stream = scene.client.ask_as(encoding, &conversation, &json!({ "content": "count" })).await;
        stream.events(BEFORE).await;
        let strace = Strace::attach(&scene.gateway).await;
        stream.events(DELTAS).await;
        let counted = strace.counted();
        stream.rest().await;

        let calls = |names: &[&str]| names.iter().filter_map(|name| counted.get(*name)).sum::<usize>();
        let waits = calls(&["epoll_wait", "epoll_pwait"]);
        let reads = calls(&["recvfrom", "recvmsg", "read", "readv"]);
        let writes = calls(&["sendto", "sendmsg", "writev"]);
        let options = calls(&["setsockopt", "getsockopt"]);
        println!("{encoding:?}: {counted:?}");
        // A few come between the count and the first or the last that was heard.
        let each = DELTAS + DELTAS / 10;
        assert!((DELTAS / 2..=each).contains(&reads), "{reads} reads for {DELTAS} deltas: {counted:?}");
        assert!((DELTAS / 2..=each).contains(&writes), "{writes} writes for {DELTAS} deltas: {counted:?}");
        assert!(options <= each / 16 + 2, "{options} socket options for {DELTAS} deltas: {counted:?}");
        assert!(waits <= 3 * each, "{waits} waits for {DELTAS} deltas: {counted:?}");
    }
}
