//! A Redis of our own, away from the gateway's core.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use rustix::process::Signal;

use super::child::{Child, folder, free_port, program};
use crate::clock;
use crate::process::Tree;

/// A server that runs as long as it is wanted, and keeps nothing.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    address: SocketAddr,
}

impl Redis {
    /// Starts one on these cores.
    pub fn start(cores: &[usize]) -> io::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program("redis-server")?);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
        let mut child = Child::start(command, folder()?, cores, Signal::TERM)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        child.until("Redis does not listen", |_| TcpStream::connect(address).ok())?;
        Ok(Self { child, address })
    }

    /// What goes into `cluster.redis_url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Its processes.
    pub fn tree(&self) -> Tree {
        self.child.tree()
    }

    /// How many bytes it has been sent so far.
    pub fn received(&self) -> io::Result<f64> {
        let mut line = Line::new(self.address)?;
        let stats = line.ask("INFO stats")?;
        let stats = String::from_utf8_lossy(&stats).into_owned();
        let bytes = stats.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:")?.trim().parse().ok());
        bytes.ok_or_else(|| io::Error::other("Redis does not say what it received"))
    }

    /// How long it takes to read these turns' streams, whole, one after the other on one connection, in nanoseconds.
    pub fn ranges(&self, turns: &[String]) -> io::Result<Vec<u64>> {
        let mut line = Line::new(self.address)?;
        let mut times = Vec::with_capacity(turns.len());
        for turn in turns {
            let begun = clock::now();
            line.ask(&format!("XRANGE tidegate:turn:{turn} - +"))?;
            times.push(clock::now() - begun);
        }
        Ok(times)
    }
}

/// A connection on which commands are asked in line.
struct Line(BufReader<TcpStream>);

impl Line {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, command: &str) -> io::Result<Vec<u8>> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = Vec::new();
        self.read(&mut answer)?;
        Ok(answer)
    }

    /// One value (redis.io, RESP2); what is text in it goes to `answer`.
    fn read(&mut self, answer: &mut Vec<u8>) -> io::Result<()> {
        let mut head = String::new();
        self.0.read_line(&mut head)?;
        let (kind, rest) = head.trim_end().split_at_checked(1).unwrap_or_default();
        let count = || rest.parse::<i64>().map_err(io::Error::other);
        match kind {
            "*" => {
                for _ in 0..count()? {
                    self.read(answer)?;
                }
            }
            "$" => {
                let mut text = vec![0; usize::try_from(count()? + 2).unwrap_or(0)];
                self.0.read_exact(&mut text)?;
                answer.extend_from_slice(&text);
            }
            "+" | ":" => answer.extend_from_slice(rest.as_bytes()),
            _ => return Err(io::Error::other(format!("Redis says {head}"))),
        }
        Ok(())
    }
}
