//! The protocol of leases and resuming as a small model, walked through every order of its steps.
//!
//! One turn; a replica that runs it, and others that take it when they think that one is dead, rightly or not; the record; a stream
//! of Redis that may forget everything; and a reader that goes wherever it likes. Any step may come before or after any other: a
//! process that stands still is one whose steps come late. What a cursor is owed is asked of the program itself
//! (`domain::cursor`); the rest is written anew, so that it can be wrong, and [`Guard`]s can be left out to see that this is found.
#![cfg(test)]

use std::collections::HashMap;

use tidegate::domain::cursor::{Crash, Extent, Owed};

/// Who may have the turn: the one that admitted it, and those that take it.
const EPOCHS: usize = 3;

/// What keeps the promises; each can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// The journal of a replica that is fenced saves nothing.
    Fence,
    /// An end is written by the lease that is the newest, and once.
    Epoch,
    /// Recovery goes on numbering far behind the last saved event.
    Jump,
    /// Redis takes no entry that is not above the last.
    Ids,
    /// A piece of the stream that does not follow the cursor is not read: the record is.
    Gap,
    /// Who has seen what is lost is given a snapshot.
    Snapshot,
    /// Rows behind a gap are not read, but for the gap of a crash that begins at the cursor: the turn is looked at again.
    Rows,
    /// Who follows the stream looks at the record as well, now and then.
    Poll,
}

/// An event: its seq, and under which lease it was appended. Two that differ only in the lease have one seq and two meanings.
type Event = (u64, u8);

/// A process, by the lease under which it has the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    /// It does not have the turn yet.
    Waiting,
    /// It runs the turn: the last event it has appended, and passed on; whether the end is committed.
    Running { appended: u64, passed: u64, ended: bool },
    /// It has taken the turn.
    Taken,
    /// It has, and has read how far the record goes.
    Recovering { saved: u64 },
    /// It has ended the turn, and passed on so many of the events of that.
    Ended { passed: usize },
    /// It has heard that the turn is another's, or is dead.
    Gone,
}

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// Nowhere: it is about to look at the turn.
    Away,
    /// It has looked at the turn, and is about to read rows.
    Looked { finished: bool },
    /// It follows the stream.
    Stream,
    /// It has read the end.
    Home,
}

/// S and R.
type Both = (u64, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    processes: [Process; EPOCHS],
    /// The record: its rows, the lease that may end the turn, the replica that may save nothing more, the end.
    rows: Vec<Event>,
    epoch: u8,
    fenced: u8,
    end: Option<(u64, Option<Both>)>,
    /// Every event that anybody has appended: a reader beside the process may have seen it.
    shown: Vec<Event>,
    stream: Vec<Event>,
    losses: u8,
    place: Place,
    cursor: u64,
    /// What the reader has, a snapshot's part included.
    fold: Vec<Event>,
}

/// What is wrong with a state, or with a step into one.
type Breach = String;

struct Model {
    /// Deltas of the answer; the event before them is `turn.started`, which is saved with the admission.
    deltas: u64,
    /// How often Redis may forget everything.
    losses: u8,
    /// All but this hold.
    without: Option<Guard>,
}

/// A step: what it is, whether it is a fault that need not happen, and where it leads.
struct Step {
    name: String,
    fault: bool,
    to: State,
}

impl State {
    fn first() -> Self {
        let mut processes = [Process::Waiting; EPOCHS];
        processes[0] = Process::Running { appended: 1, passed: 1, ended: false };
        Self {
            processes,
            rows: vec![(1, 1)],
            epoch: 1,
            fenced: 0,
            end: None,
            shown: vec![(1, 1)],
            stream: vec![(1, 1)],
            losses: 0,
            place: Place::Away,
            cursor: 0,
            fold: Vec::new(),
        }
    }

    fn saved(&self) -> u64 {
        self.rows.iter().map(|(seq, _)| *seq).max().unwrap_or(0)
    }

    fn save(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            // `on conflict do nothing`.
            if !self.rows.iter().any(|(seq, _)| *seq == event.0) {
                self.rows.push(event);
            }
        }
        self.rows.sort();
    }

    fn show(&mut self, event: Event) {
        if !self.shown.contains(&event) {
            self.shown.push(event);
            self.shown.sort();
        }
    }

    /// The reader is told an event.
    fn tell(&mut self, event: Event) -> Result<(), Breach> {
        if self.fold.iter().any(|(seq, by)| *seq == event.0 && *by != event.1) {
            return Err(format!("the reader saw another event {}", event.0));
        }
        if event.0 <= self.cursor {
            return Err(format!("the reader is told event {} again", event.0));
        }
        self.cursor = event.0;
        self.fold.push(event);
        if self.end.is_some_and(|(last, _)| last == event.0) {
            self.place = Place::Home;
        }
        Ok(())
    }
}

impl Model {
    fn holds(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    /// Everything that can happen next.
    fn steps(&self, state: &State) -> Result<Vec<Step>, Breach> {
        let mut steps = Vec::new();
        for at in 0..EPOCHS {
            self.process(state, at, &mut steps)?;
        }
        if state.losses < self.losses && !state.stream.is_empty() {
            let to = State { stream: Vec::new(), losses: state.losses + 1, ..state.clone() };
            steps.push(Step { name: "Redis forgets everything".into(), fault: true, to });
        }
        self.reader(state, &mut steps)?;
        Ok(steps)
    }

    fn process(&self, state: &State, at: usize, steps: &mut Vec<Step>) -> Result<(), Breach> {
        let lease = u8::try_from(at).unwrap() + 1;
        let mut step = |name: &str, fault: bool, process: Process, change: &dyn Fn(&mut State)| {
            let mut to = state.clone();
            to.processes[at] = process;
            change(&mut to);
            steps.push(Step { name: format!("{lease} {name}"), fault, to });
        };
        let here = state.processes[at];
        let lost = state.fenced >= lease && self.holds(Guard::Fence);
        // Whether an end under this lease is written.
        let ends = !self.holds(Guard::Epoch) || (state.epoch == lease && state.end.is_none());
        match here {
            Process::Waiting => {
                // It thinks that whoever has the turn is dead; the two parts of a take-over are two transactions.
                let before = lease - 1;
                if state.epoch == before && state.end.is_none() {
                    let alive = state.processes[at - 1] != Process::Gone;
                    if state.fenced < before {
                        step("fences", alive, here, &|to| to.fenced = before);
                    } else {
                        step("takes the turn", false, Process::Taken, &|to| to.epoch = lease);
                    }
                }
            }
            Process::Running { appended, passed, ended } => {
                if appended <= self.deltas {
                    let process = Process::Running { appended: appended + 1, passed, ended };
                    step("appends", false, process, &|to| to.show((appended + 1, lease)));
                }
                if passed < appended {
                    let process = Process::Running { appended, passed: passed + 1, ended };
                    step("passes on", false, process, &|to| self.pass_on(to, (passed + 1, lease)));
                }
                if state.saved() < appended && !ended {
                    let rows = (1..=appended).map(|seq| (seq, lease));
                    if lost {
                        step("finds its journal fenced", false, Process::Gone, &|_| {});
                    } else {
                        step("saves", false, here, &|to| to.save(rows.clone()));
                    }
                }
                if appended == self.deltas + 1 && !ended {
                    let last = appended + 1;
                    let process = Process::Running { appended: last, passed, ended: true };
                    match ends {
                        true if state.end.is_some() => return Err("the turn has a second end".into()),
                        true => step("ends", false, process, &|to| {
                            to.save((1..=last).map(|seq| (seq, lease)));
                            to.end = Some((last, None));
                            to.show((last, lease));
                        }),
                        false => step("hears that the turn is another's", false, Process::Gone, &|_| {}),
                    }
                }
                step("dies", true, Process::Gone, &|_| {});
            }
            Process::Taken => {
                let saved = state.saved();
                step("reads how far the record goes", false, Process::Recovering { saved }, &|_| {});
                if at + 1 < EPOCHS {
                    step("dies", true, Process::Gone, &|_| {});
                }
            }
            Process::Recovering { saved } => {
                let resumed = self.crash(saved).resumed;
                let events = [(resumed, lease), (resumed + 1, lease)];
                match ends {
                    true if state.end.is_some() => return Err("the turn has a second end".into()),
                    true => step("interrupts it", false, Process::Ended { passed: 0 }, &|to| {
                        to.save(events);
                        to.end = Some((resumed + 1, Some((saved, resumed))));
                        events.into_iter().for_each(|event| to.show(event));
                    }),
                    false => step("hears that the turn is another's", false, Process::Gone, &|_| {}),
                }
                if at + 1 < EPOCHS {
                    step("dies", true, Process::Gone, &|_| {});
                }
            }
            Process::Ended { passed } => {
                let mine = state.rows.iter().filter(|(_, by)| *by == lease).nth(passed).copied();
                if let Some(event) = mine {
                    step("passes on", false, Process::Ended { passed: passed + 1 }, &|to| self.pass_on(to, event));
                }
            }
            Process::Gone => {}
        }
        Ok(())
    }

    fn pass_on(&self, state: &mut State, event: Event) {
        let above = state.stream.last().is_none_or(|(seq, _)| *seq < event.0);
        if above || !self.holds(Guard::Ids) {
            state.stream.push(event);
        }
    }

    fn crash(&self, saved: u64) -> Crash {
        if self.holds(Guard::Jump) { Crash::after(saved) } else { Crash { saved, resumed: saved + 1 } }
    }

    fn reader(&self, state: &State, steps: &mut Vec<Step>) -> Result<(), Breach> {
        let mut step = |name: &str, change: &dyn Fn(&mut State) -> Result<(), Breach>| {
            let mut to = state.clone();
            change(&mut to)?;
            steps.push(Step { name: format!("reader {name}"), fault: false, to });
            Result::<(), Breach>::Ok(())
        };
        if state.place == Place::Home {
            return Ok(());
        }
        // Beside the process that has the turn it sees what is appended at once, saved or not, until that one hears of its loss.
        if let Process::Running { appended, .. } = state.processes[0]
            && (1..appended).contains(&state.cursor)
        {
            let event = (state.cursor + 1, 1);
            step("reads beside the process", &|to| {
                to.place = Place::Away;
                to.tell(event)
            })?;
        }
        match state.place {
            Place::Away => step("looks at the turn", &|to| self.look(to)),
            Place::Looked { finished } => {
                let rows = self.rows(state);
                if rows.is_empty() {
                    // The record is changing under its eyes, or there is nothing yet.
                    let place = if finished { Place::Away } else { Place::Stream };
                    step("finds no rows", &|to| {
                        to.place = place;
                        Ok(())
                    })
                } else {
                    step("reads rows", &|to| {
                        to.place = Place::Away;
                        rows.iter().try_for_each(|row| to.tell(*row))
                    })
                }
            }
            Place::Stream => {
                let next = state.stream.iter().find(|(seq, _)| *seq > state.cursor).copied();
                if let Some(event) = next {
                    let follows = event.0 == state.cursor + 1 || !self.holds(Guard::Gap);
                    step("reads the stream", &|to| {
                        if follows {
                            to.tell(event)
                        } else {
                            to.place = Place::Away;
                            Ok(())
                        }
                    })?;
                }
                if self.holds(Guard::Poll) {
                    step("looks away from the stream", &|to| {
                        to.place = Place::Away;
                        Ok(())
                    })?;
                }
                Ok(())
            }
            Place::Home => Ok(()),
        }
    }

    /// The reader looks at the turn; what it is owed may be a snapshot.
    fn look(&self, state: &mut State) -> Result<(), Breach> {
        let crash = state.end.and_then(|(_, crash)| crash);
        let last = state.end.map_or_else(|| state.saved(), |(last, _)| last);
        let known = crash.map(|(saved, resumed)| Crash { saved, resumed });
        let extent = Extent { finished: state.end.is_some(), last, kept: true, crash: known };
        match extent.owed(state.cursor) {
            Owed::Nothing => return Err("204 for a reader that has not read the end".into()),
            Owed::Snapshot(seq) if self.holds(Guard::Snapshot) => {
                let Some((saved, _)) = crash else { return Err("a snapshot, and there was no crash".into()) };
                state.fold = state.rows.iter().filter(|(row, _)| *row <= saved).copied().collect();
                state.cursor = seq;
            }
            Owed::Snapshot(_) | Owed::Events(_) => {
                state.place = Place::Looked { finished: extent.finished };
            }
        }
        Ok(())
    }

    /// The rows that a reader gets: two at most, and none behind a gap but that of a crash.
    fn rows(&self, state: &State) -> Vec<Event> {
        let mut last = state.cursor;
        let after = state.rows.iter().filter(|(seq, _)| *seq > state.cursor);
        let rows = after.take(2).take_while(|(seq, _)| {
            let follows = *seq == last + 1 || *seq == Crash::after(last).resumed;
            last = *seq;
            follows || !self.holds(Guard::Rows)
        });
        rows.copied().collect()
    }

    /// What must be so in every state.
    fn check(&self, state: &State) -> Result<(), Breach> {
        if let Some(two) = state.shown.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(format!("event {} has two meanings", two[0].0));
        }
        if state.stream.windows(2).any(|two| two[0].0 >= two[1].0) {
            return Err("the stream of Redis does not rise".into());
        }
        let Some((last, crash)) = state.end else { return Ok(()) };
        let seqs: Vec<u64> = state.rows.iter().map(|(seq, _)| *seq).collect();
        let due: Vec<u64> = match crash {
            None => (1..=last).collect(),
            Some((saved, resumed)) => (1..=saved).chain(resumed..=last).collect(),
        };
        if seqs != due {
            return Err(format!("after its end the record has {seqs:?}; {due:?} are due"));
        }
        if state.place == Place::Home && state.fold != state.rows {
            return Err(format!("the reader has {:?}, and the record {:?}", state.fold, state.rows));
        }
        Ok(())
    }
}

/// What a walk came to.
#[derive(Debug)]
struct Walked {
    states: usize,
    ended: usize,
}

/// Walks through all states; a breach is told with the steps that lead to it.
fn walk(model: &Model) -> Result<Walked, String> {
    let mut numbers = HashMap::from([(State::first(), 0)]);
    let mut states = vec![State::first()];
    // How each was reached first, and from where each can be reached by what is no fault.
    let mut reached: Vec<(usize, String)> = vec![(0, "the beginning".into())];
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let story = |reached: &[(usize, String)], mut at: usize, breach: &str| {
        let mut told = vec![format!("→ {breach}")];
        while at > 0 {
            told.push(reached[at].1.clone());
            at = reached[at].0;
        }
        told.reverse();
        told.join("\n")
    };
    let mut at = 0;
    while at < states.len() {
        let state = states[at].clone();
        model.check(&state).map_err(|breach| story(&reached, at, &breach))?;
        let steps = model.steps(&state).map_err(|breach| story(&reached, at, &breach))?;
        for step in steps {
            let number = *numbers.entry(step.to).or_insert_with_key(|to| {
                states.push(to.clone());
                reached.push((at, step.name));
                before.push(Vec::new());
                states.len() - 1
            });
            if !step.fault {
                before[number].push(at);
            }
        }
        at += 1;
    }
    // From wherever it is, a reader that goes on reading comes to the end, once nothing more fails.
    let mut open: Vec<usize> = (0..states.len()).filter(|at| states[*at].place == Place::Home).collect();
    let mut comes: Vec<bool> = states.iter().map(|state| state.place == Place::Home).collect();
    let ended = open.len();
    while let Some(at) = open.pop() {
        for from in &before[at] {
            if !std::mem::replace(&mut comes[*from], true) {
                open.push(*from);
            }
        }
    }
    match comes.iter().position(|comes| !comes) {
        Some(at) => Err(story(&reached, at, &format!("the reader never reaches the end from {:?}", states[at]))),
        None => Ok(Walked { states: states.len(), ended }),
    }
}

#[test]
fn in_whatever_order_things_happen_the_promises_hold() {
    let walked = walk(&Model { deltas: 3, losses: 2, without: None }).unwrap_or_else(|story| panic!("{story}"));
    println!("{walked:?}");
    // Readers come to an end of either kind, and there is something to walk through.
    assert!(walked.states > 10_000 && walked.ended > 100, "{walked:?}");
}

#[test]
fn a_guard_that_is_left_out_is_missed() {
    for (guard, breach) in [
        (Guard::Fence, "the record has"),
        (Guard::Epoch, "a second end"),
        (Guard::Jump, "two meanings"),
        (Guard::Ids, "does not rise"),
        (Guard::Gap, "the reader has"),
        (Guard::Snapshot, "never reaches the end"),
        (Guard::Rows, "the reader has"),
        (Guard::Poll, "never reaches the end"),
    ] {
        let story = walk(&Model { deltas: 2, losses: 1, without: Some(guard) })
            .expect_err(&format!("nothing is wrong without {guard:?}"));
        println!("without {guard:?}:\n{story}\n");
        assert!(story.lines().any(|line| line.starts_with('→') && line.contains(breach)), "without {guard:?}: {story}");
    }
}
