//! `tidegate.service`: systemd reads it, the program starts and stops as it says, and may do all that it does.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Request, Script, Upstream, announced, eventually, program};
use crate::{content, file, longest_end, settings};

/// Where the unit has the program.
const PROGRAM: &str = "/usr/local/bin/tidegate";

/// What `systemd-analyze security` may say, in tenths: from 0 for a service that may do nothing to 100.
const EXPOSURE: &str = "20";

struct Unit(String);

impl Unit {
    fn read() -> Self {
        Self(file("tidegate.service"))
    }

    /// Each value of a key, in order.
    fn all(&self, key: &str) -> Vec<&str> {
        self.0.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    }

    /// The value of a key that is there once.
    #[track_caller]
    fn one(&self, key: &str) -> &str {
        let [value] = self.all(key)[..] else { panic!("{key}: {:?}", self.all(key)) };
        value
    }

    /// A time in seconds.
    fn seconds(&self, key: &str) -> Duration {
        Duration::from_secs(self.one(key).parse().unwrap())
    }
}

/// A machine of the unit's own: its folders, and the files that docs/deploying.md has made first.
struct Machine(TempDir);

impl Machine {
    fn new(unit: &Unit) -> Self {
        let machine = Self(TempDir::new().unwrap());
        for folder in ["etc/tidegate", "run/credentials", &format!("var/lib/{}", unit.one("StateDirectory"))] {
            std::fs::create_dir_all(machine.path().join(folder)).unwrap();
        }
        machine.write("etc/tidegate/pepper", "0123456789abcdef0123456789abcdef");
        machine.write("etc/tidegate/upstream.key", "sk-of-the-upstream");
        machine.write("etc/tidegate/tidegate.toml", &machine.here(&file("tidegate.toml")));
        for credential in unit.all("LoadCredential") {
            let (name, from) = credential.split_once(':').unwrap();
            let to = machine.path().join("run/credentials").join(name);
            std::fs::copy(machine.path().join(from.trim_start_matches('/')), to).unwrap();
        }
        machine
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// The text with this machine's paths (systemd.unit(5), "Specifiers").
    fn here(&self, text: &str) -> String {
        let root = self.path().display();
        let text = text.replace("/etc/tidegate", &format!("{root}/etc/tidegate"));
        let text = text.replace("/var/lib/tidegate", &format!("{root}/var/lib/tidegate"));
        let text = text.replace("%S", &format!("{root}/var/lib")).replace("%d", &format!("{root}/run/credentials"));
        text.replace(PROGRAM, program().to_str().unwrap())
    }

    fn variables(&self, unit: &Unit) -> Vec<(String, String)> {
        let pairs = unit.all("Environment").into_iter().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), self.here(value))).collect()
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_nothing_left_open() {
    let unit = Unit::read();
    let machine = Machine::new(&unit);
    let copy = machine.path().join("tidegate.service");
    std::fs::write(&copy, unit.0.replace(PROGRAM, program().to_str().unwrap())).unwrap();
    assert_eq!(content(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy)), "");
    let offline = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE];
    content(Command::new("systemd-analyze").args(offline).arg(&copy));
}

#[test]
fn the_unit_waits_for_the_end_and_its_settings_are_known() {
    let unit = Unit::read();
    let machine = Machine::new(&unit);
    let config = settings(&machine.here(&file("tidegate.toml")), &machine.variables(&unit));
    assert!(unit.seconds("TimeoutStopSec") > longest_end(&config), "systemd kills what still ends");
    // What alerts.yaml calls full follows from these.
    let alerts = file("alerts.yaml");
    for bound in [
        format!("tidegate_connections > 0.8 * 0.75 * {}", unit.one("LimitNOFILE")),
        format!("tidegate_turns_live > 0.8 * {}", config.limits.max_live_turns),
        format!("tidegate_unsaved_bytes > 0.5 * {}", config.limits.unsaved_bytes),
    ] {
        assert!(alerts.contains(&bound), "alerts.yaml does not say {bound}");
    }
}

/// The program as the unit starts it, under strace. Dropped, it is killed.
struct Traced(Child);

impl Traced {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_program_runs_as_the_unit_says_and_may_do_all_that_it_does() {
    let (unit, upstream) = (Unit::read(), Upstream::start().await);
    let machine = Machine::new(&unit);
    upstream.always(Script::answer(&["It ", "runs."]));
    let [stdout, stderr, calls] = ["stdout", "stderr", "calls"].map(|name| machine.path().join(name));
    let mut command = Command::new("strace");
    // The program itself is the child, and strace its grandchild.
    command.args(["-D", "-f", "-qq", "-o"]).arg(&calls);
    command.args(machine.here(unit.one("ExecStart")).split(' ')).env_clear();
    command.envs(machine.variables(&unit)).current_dir(machine.here(unit.one("WorkingDirectory")));
    // Other tests have these ports too, and nobody here pays a provider.
    command.env("TIDEGATE_LISTEN", "127.0.0.1:0").env("TIDEGATE_METRICS__LISTEN", "127.0.0.1:0");
    command.env("TIDEGATE_UPSTREAMS__0__BASE_URL", upstream.base_url()).env("TIDEGATE_LIMITS__DRAIN_DELAY_S", "0");
    command.stdin(Stdio::null()).stdout(std::fs::File::create(&stdout).unwrap());
    let spawned = command.stderr(std::fs::File::create(&stderr).unwrap()).spawn();
    let mut traced = Traced(spawned.expect("strace is on the PATH: run scripts/test, which installs it"));
    let log = || std::fs::read_to_string(&stderr).unwrap();
    let (_, address) = eventually("the program to say where it listens", async || {
        let printed = std::fs::read_to_string(&stdout).unwrap();
        announced(&printed)
    })
    .await;
    let client = Client::new(address);
    eventually("the program to be ready", async || {
        client.try_send(Request::get("/readyz")).await.ok().filter(|reply| reply.status == 200)
    })
    .await;

    let mut make = Command::new(program());
    make.args(["keys", "create", "--application", "default", "--role", "admin", "--config"]);
    let made = content(make.arg(machine.path().join("etc/tidegate/tidegate.toml")).env_clear());
    let key = made.split_whitespace().find(|word| word.starts_with("tg_")).unwrap();
    let told = client.bearing(key).post("/v1/chat/stream", &json!({"message": "Does it?"})).await.expect(200);
    assert_eq!(told["content"], "It runs.");
    assert_eq!(upstream.call(0).await.header("authorization"), Some("Bearer sk-of-the-upstream"));

    let reload = unit.one("ExecReload").replace("$MAINPID", &traced.0.id().to_string());
    let mut words = reload.split(' ');
    content(Command::new(words.next().unwrap()).args(words));
    eventually("the settings to be read again", async || log().contains("reloaded").then_some(())).await;
    // The thread of checkpoints is nicer than others, once it has looked for the first time.
    let trace = || std::fs::read_to_string(&calls).unwrap();
    eventually("the checkpoints' thread to be nice", async || called(&trace()).contains("setpriority").then_some(()))
        .await;
    assert_eq!(unit.one("KillSignal"), "SIGTERM");
    traced.signal(Signal::TERM);
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = traced.0.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < unit.seconds("TimeoutStopSec"), "{}", log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(status.success(), "{}", log());

    let allowed = allowed(&unit);
    let mut called = called(&trace());
    if rustix::process::geteuid().is_root() {
        // SQLite gives what it makes to the owner of the database; the unit's user makes it as its own.
        called.remove("fchown");
    }
    assert_eq!(
        called.difference(&allowed).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "SystemCallFilter forbids these"
    );
}

/// The names of the calls in what strace has written.
fn called(trace: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (_, call) = line.split_once(char::is_whitespace)?;
        let (name, _) = call.trim_start().split_once('(')?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then(|| name.to_owned())
    };
    trace.lines().filter_map(name).collect()
}

/// What the unit's filters leave, by the sets of this systemd.
fn allowed(unit: &Unit) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for filter in unit.all("SystemCallFilter") {
        match filter.strip_prefix('~') {
            Some(taken) => taken.split(' ').flat_map(calls_of).for_each(|call| {
                allowed.remove(&call);
            }),
            None => allowed.extend(filter.split(' ').flat_map(calls_of)),
        }
    }
    // systemd.exec(5), "SystemCallFilter=": always allowed.
    allowed.extend(["execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn"].map(str::to_owned));
    allowed
}

/// The calls of a set, and of those in it.
fn calls_of(set: &str) -> BTreeSet<String> {
    let (mut open, mut calls) = (VecDeque::from([set.to_owned()]), BTreeSet::new());
    while let Some(next) = open.pop_front() {
        if !next.starts_with('@') {
            calls.insert(next);
            continue;
        }
        let listed = content(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", &next]));
        let names = listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        open.extend(names.map(str::to_owned));
    }
    calls
}
