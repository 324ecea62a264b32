//! A program that runs as long as it is wanted, on cores of its own, in a folder of its own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cores;
use crate::process::Tree;

/// How long a program may take to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that runs. Dropped, it is told to end and waited for.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    folder: TempDir,
    told: Signal,
}

impl Child {
    /// Starts `command` in `folder` on these cores; what it prints goes to files there. It is told to end by `told`.
    pub fn start(mut command: Command, folder: TempDir, cores: &[usize], told: Signal) -> io::Result<Self> {
        let file = |name: &str| File::create(folder.path().join(name));
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(file("stdout")?).stderr(file("stderr")?);
        let process = cores::on(cores, || command.spawn())??;
        Ok(Self { process, folder, told })
    }

    /// Its processes.
    pub fn tree(&self) -> Tree {
        Tree::of(self.process.id())
    }

    /// What it has printed into that file.
    pub fn printed(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Asks until there is an answer.
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> io::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask(self) {
                return Ok(answer);
            }
            let ended = self.process.try_wait()?.is_some();
            if ended || begun.elapsed() > PATIENCE {
                let said = self.printed("stderr");
                return Err(io::Error::other(format!("{what}: ended: {ended}; it said: {said}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), self.told);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port of the loopback that is free now.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whether somebody answers a GET there with 200.
pub fn answers(address: SocketAddr, path: &str) -> bool {
    let get = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b"200"))
    };
    get().unwrap_or(false)
}

/// A folder of one's own.
pub fn folder() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("tidegate-bench-").tempdir()
}

/// A program of that name, wherever the machine keeps such.
pub fn program(name: &str) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|place| place.join(name));
    places.find(|place| place.is_file()).ok_or_else(|| io::Error::other(format!("missing: the program `{name}`")))
}
