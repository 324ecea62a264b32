//! One user: a connection, the questions sent on it, and the answers read and counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::Void;
use super::body::Response;
use super::group::Group;
use super::stamp::Scanner;
use crate::clock;

/// Of the last bytes of an answer so many are kept, to see how it ended.
const TAIL: usize = 2048;

/// How often a user asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So often.
    Just(u32),
    /// Until nobody is left who asks a number of times.
    WhileOthers,
}

/// What a user does.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Whom to ask.
    pub to: SocketAddr,
    /// The request, whole.
    pub request: Arc<[u8]>,
    /// The deltas of each answer.
    pub deltas: u32,
    /// What the end of each answer must hold.
    pub marks: &'static [&'static str],
    /// The place in the engine's list of groups.
    pub group: usize,
    /// From the start of the run to the first question, in nanoseconds.
    pub start: u64,
    /// How often.
    pub times: Times,
    /// Whether each question has a connection of its own.
    pub fresh: bool,
    /// From an answer to the next question, in nanoseconds.
    pub pause: u64,
    /// Whether it is kept when each delta came.
    pub traced: bool,
}

/// A user at work.
#[derive(Debug)]
pub struct Visitor {
    /// What it does.
    pub visit: Visit,
    /// The connection.
    pub stream: Option<TcpStream>,
    /// Whether the connection is still being made.
    pub connecting: bool,
    /// Answers that came whole.
    pub answers: u32,
    /// When each delta came, if that is kept.
    pub trace: Vec<u64>,
    /// Name of the turn, if the answer's head gave one.
    pub turn: Option<String>,
    response: Response,
    scanner: Scanner,
    next: u64,
    asked: u64,
    last: u64,
    tail: Vec<u8>,
}

impl Visitor {
    /// One that has not begun.
    pub fn new(visit: Visit) -> Self {
        Self {
            visit,
            stream: None,
            connecting: false,
            answers: 0,
            trace: Vec::new(),
            turn: None,
            response: Response::default(),
            scanner: Scanner::default(),
            next: 0,
            asked: 0,
            last: 0,
            tail: Vec::new(),
        }
    }

    /// Begins a connection.
    pub fn connect(&mut self) -> io::Result<&TcpStream> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.visit.to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.connecting = true;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(self.stream.insert(stream))
    }

    /// Sends the question.
    pub fn ask(&mut self) -> Result<(), Void> {
        let Some(stream) = &mut self.stream else { return Err(Void::new("a question without a connection")) };
        if let Some(error) = stream.take_error()? {
            return Err(error.into());
        }
        self.connecting = false;
        self.response.clear();
        self.tail.clear();
        (self.next, self.asked) = (0, clock::now());
        // A question is smaller than any send buffer, and nothing else is in it.
        match stream.write(&self.visit.request)? {
            count if count == self.visit.request.len() => Ok(()),
            _ => Err(Void::new("a question could not be sent at once")),
        }
    }

    /// Reads what has come; says whether the answer is whole.
    pub fn read(&mut self, buffer: &mut [u8], group: &mut Group) -> Result<bool, Void> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let count = match stream.read(buffer) {
            Ok(0) => return Err(Void::new(format!("the connection was closed after {} deltas", self.next))),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let now = clock::now();
        let (expected, traced) = (u64::from(self.visit.deltas), self.visit.traced);
        let (next, last, trace, tail) = (&mut self.next, &mut self.last, &mut self.trace, &mut self.tail);
        let (asked, scanner) = (self.asked, &mut self.scanner);
        let progress = self.response.feed(&buffer[..count], |bytes| {
            scanner.scan(bytes, |stamp| {
                if stamp.number != *next || stamp.number >= expected {
                    return Err(Void::new(format!("delta {} came in the place of delta {next}", stamp.number)));
                }
                let gap = if stamp.number == 0 { 0 } else { now - *last };
                if stamp.number == 0 {
                    group.firsts.push(now - asked);
                    group.all_open = group.all_open.max(now);
                }
                if traced {
                    trace.push(now);
                }
                group.delta(stamp, now, gap);
                (*next, *last) = (*next + 1, now);
                Ok(())
            })?;
            if *next == expected {
                tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
            }
            Ok(())
        })?;
        if progress.head {
            group.heads.push(now - self.asked);
            self.turn = self.response.header("turn-id").map(str::to_owned);
        }
        if progress.ended {
            self.check_end()?;
            group.turns += 1;
            group.first_end.get_or_insert(self.last);
            self.answers += 1;
        }
        Ok(progress.ended)
    }

    fn check_end(&self) -> Result<(), Void> {
        if self.next < u64::from(self.visit.deltas) {
            return Err(Void::new(format!("an answer ended after {} of {} deltas", self.next, self.visit.deltas)));
        }
        let tail = String::from_utf8_lossy(&self.tail);
        match self.visit.marks.iter().find(|mark| !tail.contains(**mark)) {
            Some(mark) => Err(Void::new(format!("an answer ended without {mark}: …{tail}"))),
            None => Ok(()),
        }
    }
}
