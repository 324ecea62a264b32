//! The gateway as its users have it: a process, a config file, a port.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::setup::Setup;
use super::{Client, Database, PATIENCE, Request, eventually};

impl Setup {
    /// Starts it, and waits until it is ready.
    pub async fn start(self) -> Gateway {
        let mut gateway = self.launch();
        gateway.await_ready().await;
        gateway
    }

    /// Starts it, and does not wait.
    pub fn launch(self) -> Gateway {
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("tidegate.toml"), self.config.to_string()).unwrap();
        let (environment, arguments) = (self.environment, self.arguments);
        let child = spawn(home.path(), &environment, &arguments);
        Gateway { child, home, environment, arguments, scheme: String::new(), address: None, client: None }
    }

    /// Starts what must not start: its exit code, and what it said.
    pub async fn fails(self) -> (i32, String) {
        let mut gateway = self.launch();
        let status = gateway.exit().await;
        (status.code().unwrap_or(-1), gateway.log())
    }
}

/// A gateway that runs, or did. Dropped, it is killed and waited for.
pub struct Gateway {
    child: Child,
    home: TempDir,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    scheme: String,
    address: Option<SocketAddr>,
    client: Option<Client>,
}

impl Gateway {
    /// One that keeps its record there; it has no upstream yet.
    pub fn on(database: &Database) -> Setup {
        Self::at(&database.url())
    }

    /// The same, by the database's URL.
    pub fn at(database_url: &str) -> Setup {
        Setup::new(database_url)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the gateway has not been ready yet")
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        self.client.clone().expect("the gateway has not been ready yet")
    }

    /// Its working directory, with `tidegate.toml` in it.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Waits until it listens and, without TLS, says that it is ready.
    pub async fn await_ready(&mut self) {
        if let Err(status) = self.try_ready().await {
            panic!("the gateway ended ({status}):\n{}", self.log());
        }
    }

    /// The same, where it may end before: then how.
    pub async fn try_ready(&mut self) -> Result<(), ExitStatus> {
        let start = Instant::now();
        let (scheme, address) = loop {
            if let Some(announced) = self.announced() {
                break announced;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status);
            }
            assert!(start.elapsed() < PATIENCE, "the gateway does not say where it listens:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        (self.scheme, self.address) = (scheme, Some(address));
        let client = self.client.get_or_insert_with(|| Client::new(address)).clone();
        if self.scheme == "https" {
            return Ok(());
        }
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(status);
            }
            if client.try_send(Request::get("/readyz")).await.is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            assert!(start.elapsed() < PATIENCE, "the gateway does not get ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Scheme and address on the first line it printed.
    fn announced(&self) -> Option<(String, SocketAddr)> {
        announced(&std::fs::read_to_string(self.home.path().join("stdout")).ok()?)
    }

    /// What it has printed and logged, all its lives together.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        format!("{}{}", read("stdout"), read("stderr"))
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Has it read these settings in place of its own, and waits until it says how that went: that line.
    pub async fn reload(&self, setup: Setup) -> String {
        std::fs::write(self.home().join("tidegate.toml"), setup.config.to_string()).unwrap();
        self.hang_up().await
    }

    /// SIGHUP, and the line that answers it.
    pub async fn hang_up(&self) -> String {
        let answers = || {
            let log = self.log();
            let lines = log.lines().filter(|line| line.contains("reloaded")).map(str::to_owned);
            lines.collect::<Vec<_>>()
        };
        let before = answers().len();
        self.signal(Signal::HUP);
        eventually("the settings to be read again", async || answers().into_iter().nth(before)).await
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the gateway does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts it again after its end, on the same database and the same port, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.relaunch();
        self.await_ready().await;
    }

    /// The same, without waiting.
    pub fn relaunch(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "the gateway still runs");
        let mut environment = self.environment.clone();
        environment.push(("TIDEGATE_LISTEN".to_owned(), self.address().to_string()));
        File::create(self.home.path().join("stdout")).unwrap();
        self.child = spawn(self.home.path(), &environment, &self.arguments);
    }

    /// Its resident memory now, in bytes.
    pub fn memory(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The most resident memory it ever had, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Whether it still holds the connection from that port (state ESTABLISHED in `/proc/net/tcp`).
    pub fn holds(&self, port: u16) -> bool {
        let (ours, theirs) = (format!(":{:04X}", self.address().port()), format!(":{port:04X}"));
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let mut next = || columns.next().unwrap_or_default();
            next().ends_with(&ours) && next().ends_with(&theirs) && next() == "01"
        })
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if !std::thread::panicking() {
            assert!(!log.contains("panicked"), "something panicked in the gateway:\n{log}");
        } else {
            let from = log.char_indices().rev().nth(8000).map_or(0, |(at, _)| at);
            eprintln!("--- the gateway said ---\n{}\n---", &log[from..]);
        }
    }
}

/// Scheme and address in what a gateway printed, once its first line is whole.
pub fn announced(printed: &str) -> Option<(String, SocketAddr)> {
    let (line, _) = printed.split_once('\n')?;
    let url = line.trim_end().rsplit(' ').next()?.trim_end_matches('/');
    let (scheme, address) = url.split_once("://")?;
    let address = address.parse().unwrap_or_else(|_| panic!("the first line does not end with the URL: {line}"));
    Some((scheme.to_owned(), address))
}

/// The built program.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tidegate"))
}

fn spawn(home: &Path, environment: &[(String, String)], arguments: &[String]) -> Child {
    let file = |name: &str| File::options().create(true).append(true).open(home.join(name)).unwrap();
    let mut command = Command::new(program());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command
        .args(["serve", "--config", "tidegate.toml"])
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap()
}
