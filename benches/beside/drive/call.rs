//! One connection of the fake model's, and the answer it gives on it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use memchr::memmem;

use super::plan::Plan;
use super::script::Script;
use crate::clock;

/// What a request's head may be long at most.
const HEAD: usize = 16 << 10;

/// One connection, with one request at a time.
#[derive(Debug)]
pub struct Call {
    /// The connection.
    pub stream: TcpStream,
    /// Tells timers of an earlier connection at the same place from its own.
    pub life: u32,
    inbox: Vec<u8>,
    unsent: Vec<u8>,
    playing: Option<Playing>,
}

#[derive(Clone, Copy, Debug)]
struct Playing {
    plan: Plan,
    next: u32,
    due: u64,
}

/// What came over a connection.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    /// Not enough yet.
    Nothing,
    /// A question, to be answered from then on.
    Question(u64),
    /// Its end.
    End,
}

/// When a connection is to be looked after again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Then.
    At(u64),
    /// As soon as possible.
    Soon,
    /// When it takes bytes again.
    Writable,
    /// When a question comes.
    Question,
}

impl Call {
    /// A connection that has just been made.
    pub fn new(stream: TcpStream, life: u32) -> Self {
        Self { stream, life, inbox: Vec::with_capacity(1024), unsent: Vec::new(), playing: None }
    }

    /// Reads what has come. `phase` is where in its interval a spread stream is to start, of 1.
    pub fn read(&mut self, buffer: &mut [u8], phase: f64) -> io::Result<Heard> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Ok(Heard::End),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Heard::Nothing),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Heard::End),
            Err(error) => return Err(error),
        };
        self.inbox.extend_from_slice(&buffer[..count]);
        let Some(head) = memmem::find(&self.inbox, b"\r\n\r\n") else {
            return if self.inbox.len() > HEAD {
                Err(io::Error::other("a head without an end"))
            } else {
                Ok(Heard::Nothing)
            };
        };
        let whole = head + 4 + content_length(&self.inbox[..head])?;
        if self.inbox.len() < whole {
            return Ok(Heard::Nothing);
        }
        let plan =
            Plan::find(&self.inbox[head + 4..whole]).ok_or_else(|| io::Error::other("a question without a plan"))?;
        if self.playing.is_some() || self.inbox.len() > whole {
            return Err(io::Error::other("a question before the last one was answered"));
        }
        self.inbox.clear();
        let phase = if plan.spread { f64::from(plan.every_us) * phase } else { 0.0 };
        let due = clock::now() + (f64::from(plan.first_us) + phase) as u64 * 1000;
        self.playing = Some(Playing { plan, next: 0, due });
        Ok(Heard::Question(due))
    }

    /// Says what is due now.
    pub fn step(&mut self, script: &mut Script) -> io::Result<Next> {
        if !self.unsent.is_empty() {
            return Ok(Next::Writable);
        }
        let Some(playing) = &mut self.playing else { return Ok(Next::Question) };
        let plan = playing.plan;
        let ended = playing.next == plan.deltas;
        playing.next += 1;
        playing.due += u64::from(plan.every_us) * 1000;
        let due = playing.due;
        match playing.next {
            _ if ended => send(&mut self.stream, script.end(), &mut self.unsent)?,
            1 => send(&mut self.stream, &script.opening(clock::now()), &mut self.unsent)?,
            next => send(&mut self.stream, script.delta(next - 1, clock::now()), &mut self.unsent)?,
        }
        if ended {
            self.playing = None;
        }
        Ok(if !self.unsent.is_empty() {
            Next::Writable
        } else if ended {
            Next::Question
        } else if plan.every_us == 0 {
            Next::Soon
        } else {
            Next::At(due)
        })
    }

    /// Writes what could not be written before, and then says what has become due.
    pub fn flush(&mut self, script: &mut Script) -> io::Result<Next> {
        let unsent = std::mem::take(&mut self.unsent);
        send(&mut self.stream, &unsent, &mut self.unsent)?;
        if !self.unsent.is_empty() {
            return Ok(Next::Writable);
        }
        match self.playing {
            Some(playing) if playing.due > clock::now() => Ok(Next::At(playing.due)),
            Some(_) => self.step(script),
            None => Ok(Next::Question),
        }
    }
}

/// Writes what the connection takes, and keeps the rest.
fn send(stream: &mut TcpStream, bytes: &[u8], unsent: &mut Vec<u8>) -> io::Result<()> {
    let count = match stream.write(bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    unsent.extend_from_slice(&bytes[count..]);
    Ok(())
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let lines = std::str::from_utf8(head).map_err(io::Error::other)?.split("\r\n");
    let mut values = lines.filter_map(|line| line.split_once(':'));
    let found = values.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    found.and_then(|(_, value)| value.trim().parse().ok()).ok_or_else(|| io::Error::other("no Content-Length"))
}
