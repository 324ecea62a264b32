//! The loop: one epoll for the fake model's connections and its users', and a heap of what is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use super::Void;
use super::call::{Call, Heard, Next};
use super::group::Group;
use super::script::Script;
use super::visitor::{Times, Visit, Visitor};
use crate::clock::{self, MILLISECOND, SECOND};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;
/// How often whoever watches is asked.
const WATCHED_EVERY: u64 = 5 * MILLISECOND;
/// How long nothing at all may come.
const PATIENCE: u64 = 60 * SECOND;
/// Connections that may wait to be taken.
const BACKLOG: i32 = 4096;
/// The golden ratio's part: multiples of it are spread evenly however many there are.
const SPREAD: f64 = 0.618_033_988_749_895;

/// Whose event or timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Listener,
    Visitor(u32),
    /// A call, and its life.
    Call(u32, u32),
}

/// What whoever watches a run wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// That it goes on.
    Go,
    /// That users stop asking: what is under way is still read to its end.
    Wind,
    /// To be back while it goes on by itself: the next call of `run` takes it up.
    Leave,
}

/// A fake model and its users.
#[derive(Debug)]
pub struct Engine {
    /// What is counted.
    pub groups: Vec<Group>,
    /// The users, in the order they were added.
    pub visitors: Vec<Visitor>,
    epoll: OwnedFd,
    listener: TcpListener,
    script: Script,
    calls: Vec<Option<Call>>,
    free: Vec<u32>,
    lives: u32,
    questions: u32,
    timers: BinaryHeap<Reverse<(u64, Whose)>>,
    /// Calls that are to say more as soon as possible.
    soon: VecDeque<u32>,
    buffer: Vec<u8>,
    winding: bool,
    /// When the last delta came.
    alive: u64,
    /// Users that are not done…
    left: usize,
    /// …and of them, those that ask a number of times.
    counted: usize,
}

impl Engine {
    /// A fake model that listens on this port of the loopback; 0 = any.
    pub fn new(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, data(Whose::Listener), EventFlags::IN)?;
        Ok(Self {
            groups: Vec::new(),
            visitors: Vec::new(),
            epoll,
            listener,
            script: Script::new(),
            calls: Vec::new(),
            free: Vec::new(),
            lives: 0,
            questions: 0,
            timers: BinaryHeap::new(),
            soon: VecDeque::new(),
            buffer: vec![0; 256 << 10],
            winding: false,
            alive: 0,
            left: 0,
            counted: 0,
        })
    }

    /// Where the fake model listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Adds a group with room for so many deltas; gives its place.
    pub fn group(&mut self, deltas: usize) -> usize {
        self.groups.push(Group::with_room(deltas));
        self.groups.len() - 1
    }

    /// Adds a user, whose time is counted from now.
    pub fn add(&mut self, visit: Visit) -> usize {
        let place = self.visitors.len();
        self.left += 1;
        self.counted += usize::from(visit.times != Times::WhileOthers);
        self.timers.push(Reverse((clock::now() + visit.start, Whose::Visitor(place as u32))));
        self.visitors.push(Visitor::new(visit));
        place
    }

    /// Runs until all users are done, or until `watch` wants to be back.
    pub fn run(&mut self, mut watch: impl FnMut(&Self) -> Word) -> Result<(), Void> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut watched = 0;
        (self.winding, self.alive) = (false, clock::now());
        while self.left > 0 {
            let now = clock::now();
            if now >= watched + WATCHED_EVERY {
                watched = now;
                match watch(self) {
                    Word::Go => {}
                    Word::Wind => self.winding = true,
                    Word::Leave => return Ok(()),
                }
            }
            if now > self.alive + PATIENCE {
                return Err(Void::new(format!(
                    "nothing came for {} s; {} streams were open",
                    PATIENCE / SECOND,
                    self.left
                )));
            }
            self.due(now)?;
            self.say_soon()?;
            let next = self.timers.peek().map_or(u64::MAX, |Reverse((due, _))| *due).min(watched + WATCHED_EVERY);
            let wait = if self.soon.is_empty() { next.saturating_sub(clock::now()) } else { 0 };
            let timeout = Timespec { tv_sec: (wait / SECOND).cast_signed(), tv_nsec: (wait % SECOND).cast_signed() };
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
            for event in &events {
                self.event(whose(event.data.u64()), event.flags)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, whose: Whose, flags: EventFlags) -> Result<(), Void> {
        match whose {
            Whose::Listener => self.accept(),
            Whose::Visitor(place) => self.visitor(place),
            Whose::Call(place, life) => {
                if flags.contains(EventFlags::OUT) {
                    self.flush(place, life)?;
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.hear(place, life)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Does what is due.
    fn due(&mut self, now: u64) -> Result<(), Void> {
        while let Some(Reverse((due, whose))) = self.timers.peek().copied()
            && due <= now
        {
            self.timers.pop();
            match whose {
                Whose::Visitor(place) => self.ask(place)?,
                Whose::Call(place, life) => self.step(place, life)?,
                Whose::Listener => {}
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), Void> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.calls.push(None);
                self.calls.len() as u32 - 1
            });
            self.lives += 1;
            epoll::add(&self.epoll, &stream, data(Whose::Call(place, self.lives)), EventFlags::IN)?;
            self.calls[place as usize] = Some(Call::new(stream, self.lives));
        }
    }

    fn call(&mut self, place: u32, life: u32) -> Option<&mut Call> {
        self.calls.get_mut(place as usize)?.as_mut().filter(|call| call.life == life)
    }

    fn hear(&mut self, place: u32, life: u32) -> Result<(), Void> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let phase = f64::from(self.questions) * SPREAD % 1.0;
        let heard = self.call(place, life).map_or(Ok(Heard::Nothing), |call| call.read(&mut buffer, phase));
        self.buffer = buffer;
        match heard? {
            Heard::Nothing => {}
            Heard::Question(due) => {
                self.questions += 1;
                self.timers.push(Reverse((due, Whose::Call(place, life))));
            }
            Heard::End => {
                self.calls[place as usize] = None;
                self.free.push(place);
            }
        }
        Ok(())
    }

    fn step(&mut self, place: u32, life: u32) -> Result<(), Void> {
        let Some(Some(call)) = self.calls.get_mut(place as usize) else { return Ok(()) };
        if call.life != life {
            return Ok(());
        }
        match call.step(&mut self.script)? {
            Next::At(due) => self.timers.push(Reverse((due, Whose::Call(place, life)))),
            Next::Soon => self.soon.push_back(place),
            Next::Question => {}
            Next::Writable => {
                let both = EventFlags::IN | EventFlags::OUT;
                epoll::modify(&self.epoll, &call.stream, data(Whose::Call(place, life)), both)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, place: u32, life: u32) -> Result<(), Void> {
        let Some(Some(call)) = self.calls.get_mut(place as usize) else { return Ok(()) };
        let next = if call.life == life { call.flush(&mut self.script)? } else { Next::Writable };
        if next != Next::Writable {
            epoll::modify(&self.epoll, &call.stream, data(Whose::Call(place, life)), EventFlags::IN)?;
        }
        match next {
            Next::At(due) => self.timers.push(Reverse((due, Whose::Call(place, life)))),
            Next::Soon => self.soon.push_back(place),
            Next::Question | Next::Writable => {}
        }
        Ok(())
    }

    /// One delta for each stream that goes as fast as it can, in turn.
    fn say_soon(&mut self) -> Result<(), Void> {
        for _ in 0..self.soon.len() {
            let Some(place) = self.soon.pop_front() else { break };
            if let Some(life) = self.calls[place as usize].as_ref().map(|call| call.life) {
                self.step(place, life)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, place: u32) -> Result<(), Void> {
        let visitor = &mut self.visitors[place as usize];
        if visitor.stream.is_some() {
            return visitor.ask();
        }
        let stream = visitor.connect()?;
        epoll::add(&self.epoll, stream, data(Whose::Visitor(place)), EventFlags::OUT)?;
        Ok(())
    }

    fn visitor(&mut self, place: u32) -> Result<(), Void> {
        let visitor = &mut self.visitors[place as usize];
        if visitor.connecting {
            visitor.ask()?;
            let Some(stream) = &visitor.stream else { return Ok(()) };
            epoll::modify(&self.epoll, stream, data(Whose::Visitor(place)), EventFlags::IN)?;
            return Ok(());
        }
        let group = &mut self.groups[visitor.visit.group];
        let whole = visitor.read(&mut self.buffer, group)?;
        self.alive = self.alive.max(group.last);
        if !whole {
            return Ok(());
        }
        let again = match visitor.visit.times {
            Times::Just(times) => visitor.answers < times,
            Times::WhileOthers => self.counted > 0,
        };
        let again = again && !self.winding;
        if !again || visitor.visit.fresh {
            visitor.stream = None;
        }
        if again {
            self.timers.push(Reverse((clock::now() + visitor.visit.pause, Whose::Visitor(place))));
        } else {
            self.left -= 1;
            self.counted -= usize::from(visitor.visit.times != Times::WhileOthers);
        }
        Ok(())
    }
}

/// An event's data: who in the upper half, which in the lower; a call's life lies between them.
fn data(whose: Whose) -> EventData {
    EventData::new_u64(match whose {
        Whose::Listener => 0,
        Whose::Visitor(place) => 1 << 62 | u64::from(place),
        Whose::Call(place, life) => 2 << 62 | u64::from(life) << 24 | u64::from(place),
    })
}

fn whose(data: u64) -> Whose {
    match data >> 62 {
        0 => Whose::Listener,
        1 => Whose::Visitor(data as u32),
        _ => Whose::Call(data as u32 & 0xff_ffff, (data >> 24) as u32),
    }
}
