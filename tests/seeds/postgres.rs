//! A PostgreSQL server of the seed's own, that dies and is started again.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::getuid;
use tempfile::TempDir;

/// A server. Dropped, it is gone.
pub struct Postgres {
    home: TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
}

impl Postgres {
    /// Starts one. It may lose nothing that was committed when it dies, but for the power.
    pub fn start() -> Self {
        let home = TempDir::new_in("/tmp").unwrap();
        let owner = owner();
        if let Some((user, group)) = owner {
            chown(home.path(), Some(user), Some(group)).unwrap();
        }
        let server = Self { home, programs: programs(), owner, port: super::free_port() };
        server.run("initdb", &["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nfsync = off\nfull_page_writes = off\n\
             synchronous_commit = on\nmax_connections = 120\nshared_buffers = '64MB'\n",
            server.port
        );
        // The settings that come last hold.
        let file = server.home.path().join("data/postgresql.conf");
        let defaults = fs::read_to_string(&file).unwrap();
        fs::write(&file, defaults + &settings).unwrap();
        server.run("pg_ctl", &["start", "-w", "-s", "-D", "data", "-l", "log"]);
        server
    }

    /// Its URL, of the database `postgres`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Dies without a word to anybody, and is there again.
    pub fn restart(&self) {
        self.run("pg_ctl", &["restart", "-m", "immediate", "-w", "-s", "-D", "data", "-l", "log"]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().unwrap();
        // A server that stays keeps what it inherits open: its log is a file for that reason.
        let said = String::from_utf8_lossy(&output.stderr);
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{program} {arguments:?}: {said}\n{log}");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.home.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl").args(["stop", "-m", "immediate", "-s", "-D", "data"]).output();
    }
}

/// Where the newest server's programs are.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|versions| versions.filter_map(Result::ok));
    let mut versions: Vec<_> = versions.into_iter().flatten().map(|entry| entry.path().join("bin")).collect();
    let path = std::env::var("PATH").unwrap_or_default();
    versions.extend(std::env::split_paths(&path));
    versions.retain(|path| path.join("initdb").is_file() && path.join("pg_ctl").is_file());
    versions.sort();
    versions.pop().expect("PostgreSQL's initdb and pg_ctl are installed: scripts/test does it")
}

/// Whom it runs as where we are root: it refuses to be root itself.
fn owner() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let mut ids = line.expect("the user postgres, which the Debian package makes").split(':').skip(1);
    let mut id = || ids.next().and_then(|id| id.parse().ok()).unwrap();
    Some((id(), id()))
}
