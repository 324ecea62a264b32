//! A Redis of the test's own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Proxy;

/// A Redis that keeps nothing. Dropped, it is gone.
pub struct Redis {
    address: SocketAddr,
    home: TempDir,
    server: Child,
}

impl Redis {
    /// One that is empty, and answers.
    pub fn start() -> Self {
        let home = TempDir::new().unwrap();
        // A free port may be taken before we have it.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut server = spawn(address, &home);
            if answers(address, &mut server) {
                return Self { address, home, server };
            }
        }
        panic!("redis-server does not start: run scripts/test, which installs it");
    }

    /// What goes into `cluster.redis_url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The same, past a proxy.
    pub fn through(&self, proxy: &Proxy) -> String {
        format!("redis://{}", proxy.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `redis-cli` answers to these words.
    pub fn cli(&self, words: &[&str]) -> String {
        let output = cli(self.address).args(words).output().unwrap();
        assert!(output.status.success(), "redis-cli {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// It is gone at once.
    pub fn kill(&mut self) {
        let _gone = self.server.kill();
        let _reaped = self.server.wait();
    }

    /// It is back, on the same port, and empty.
    pub fn restart(&mut self) {
        self.kill();
        self.server = spawn(self.address, &self.home);
        assert!(answers(self.address, &mut self.server), "redis-server does not start again");
    }

    /// It answers nothing, and closes nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It answers again.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.server), signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(address: SocketAddr, home: &TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &address.port().to_string()]);
    command.arg("--dir").arg(home.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is missing: run scripts/test, which installs it")
}

fn cli(address: SocketAddr) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
    command
}

/// Whether it answers, before it gives up.
fn answers(address: SocketAddr, server: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) && server.try_wait().unwrap().is_none() {
        let output = cli(address).arg("PING").output().unwrap();
        if output.stdout.starts_with(b"PONG") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
