//! A PostgreSQL server of our own, as Debian sets one up, away from the gateway's core.

use std::cell::Cell;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, getuid};

use super::child::{Child, folder, free_port};
use crate::process::Tree;

/// A server that runs as long as it is wanted.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    port: u16,
    programs: PathBuf,
    databases: Cell<u32>,
}

impl Postgres {
    /// Starts one on these cores.
    pub fn start(cores: &[usize]) -> io::Result<Self> {
        let (folder, programs, port) = (folder()?, programs()?, free_port()?);
        let owner = owner()?;
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let own = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command.current_dir(folder.path());
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let made =
            own("initdb").args(["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]).output()?;
        if !made.status.success() {
            return Err(io::Error::other(format!("initdb: {}", String::from_utf8_lossy(&made.stderr))));
        }
        let mut command = own("postgres");
        command.arg("-D").arg(folder.path().join("data")).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
        // A fast shutdown.
        let mut child = Child::start(command, folder, cores, Signal::INT)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        child.until("PostgreSQL does not listen", |_| TcpStream::connect(address).ok())?;
        let server = Self { child, port, programs, databases: Cell::new(0) };
        // It listens before it is ready.
        let ready = server.programs.join("pg_isready");
        let port = port.to_string();
        let is_ready = || Command::new(&ready).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
        while !is_ready()?.success() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(server)
    }

    /// An empty database; its URL.
    pub fn fresh(&self) -> io::Result<String> {
        let number = self.databases.replace(self.databases.get() + 1);
        let (name, port) = (format!("bench{number}"), self.port.to_string());
        let made = Command::new(self.programs.join("createdb"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", &name])
            .output()?;
        if !made.status.success() {
            return Err(io::Error::other(format!("createdb: {}", String::from_utf8_lossy(&made.stderr))));
        }
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }

    /// Its processes.
    pub fn tree(&self) -> Tree {
        self.child.tree()
    }

    /// Its version, as it says itself.
    pub fn version(&self) -> io::Result<String> {
        let said = Command::new(self.programs.join("postgres")).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }
}

/// Where Debian keeps the newest server's programs.
fn programs() -> io::Result<PathBuf> {
    let missing = || io::Error::other("missing: PostgreSQL's initdb and postgres");
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| missing())?;
    let mut versions: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    versions.retain(|path| path.join("initdb").is_file());
    versions.sort();
    versions.pop().ok_or_else(missing)
}

/// Who it runs as, when we are root: it refuses to be root itself.
fn owner() -> io::Result<Option<(u32, u32)>> {
    if !getuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let mut ids = line.unwrap_or_default().split(':').skip(1).map(str::parse);
    match (ids.next(), ids.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok(Some((user, group))),
        _ => Err(io::Error::other("missing: the user postgres, which the Debian package makes")),
    }
}
