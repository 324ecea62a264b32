//! One reader of one turn, through all its visits: it believes nothing, and remembers everything.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::field::{DEAD, Field};
use super::plan::Habits;
use crate::support::{Encoding, Fold, Frame, Request, Stream};

/// How long it stays away besides where nobody let it in.
const REFUSED: Duration = Duration::from_millis(300);

/// One connection of a reader.
pub struct Visit {
    /// Who served it.
    pub replica: Option<usize>,
    /// Its cursor at the beginning.
    pub cursor: u64,
    /// All it was told.
    pub frames: Vec<Frame>,
    /// When it began, after the seed's beginning.
    at: Duration,
    /// How it ended.
    how: String,
}

/// One reader of one turn.
pub struct Witness {
    field: Arc<Field>,
    /// The turn.
    pub turn: String,
    habits: Habits,
    /// What it has made of all it was told.
    pub fold: Fold,
    /// Its connections, one after the other.
    pub visits: Vec<Visit>,
}

impl Witness {
    /// A reader that has seen nothing yet.
    pub fn new(field: &Arc<Field>, turn: &str, habits: Habits) -> Self {
        Self { field: field.clone(), turn: turn.to_owned(), habits, fold: Fold::new(), visits: Vec::new() }
    }

    /// Reads on, from a connection that is open or a new one, until the turn's end: or until it leaves for good.
    pub async fn follow(mut self, first: Option<(Stream, Option<usize>)>) -> Self {
        let mut open = first;
        loop {
            if let Some((stream, replica)) = open.take() {
                self.visit(stream, replica).await;
            }
            if self.fold.ended || (self.habits.for_good && self.visits.len() >= self.habits.leaves.len()) {
                return self;
            }
            if self.field.is_enough() {
                panic!("a reader that went on reading has not reached the end\n{}", self.tell());
            }
            tokio::time::sleep(Duration::from_millis(self.habits.away)).await;
            open = self.come_back().await;
            if open.is_none() {
                tokio::time::sleep(REFUSED).await;
            }
        }
    }

    async fn come_back(&mut self) -> Option<(Stream, Option<usize>)> {
        let encoding = self.habits.encodings[self.visits.len() % self.habits.encodings.len()];
        let target = format!("/v1/turns/{}/events", self.turn);
        let request = match encoding {
            Encoding::Ndjson => Request::get(&format!("{target}?after={}", self.fold.seq)),
            Encoding::Sse => Request::get(&target).header("last-event-id", &self.fold.seq.to_string()),
        };
        let (mut stream, replica) = self.field.open(request.accept(encoding)).await?;
        match stream.status() {
            200 => Some((stream, replica)),
            // It is told to come back later.
            429 | 503 => None,
            status => panic!("{status} for a reader at {}: {}\n{}", self.fold.seq, stream.text().await, self.tell()),
        }
    }

    async fn visit(&mut self, mut stream: Stream, replica: Option<usize>) {
        let most = self.habits.leaves.get(self.visits.len()).copied().unwrap_or(usize::MAX);
        let at = self.field.begun.elapsed();
        self.visits.push(Visit { replica, cursor: self.fold.seq, frames: Vec::new(), at, how: "open".to_owned() });
        let (mut alive, mut signs) = (Instant::now(), 0);
        let how = loop {
            let told = tokio::time::timeout(DEAD / 5, stream.try_event()).await;
            let signs_now = stream.pings + stream.comments().len();
            let Ok(told) = told else {
                if signs_now > signs {
                    (alive, signs) = (Instant::now(), signs_now);
                }
                if alive.elapsed() >= DEAD || self.field.is_enough() {
                    break "nothing came any more".to_owned();
                }
                continue;
            };
            (alive, signs) = (Instant::now(), signs_now);
            let Some(frame) = told else { break format!("{:?}", stream.closing) };
            self.see(&frame);
            let visit = self.visits.last_mut().unwrap();
            visit.frames.push(frame);
            if visit.frames.len() >= most {
                break "left".to_owned();
            }
        };
        self.visits.last_mut().unwrap().how = how;
    }

    fn see(&mut self, frame: &Frame) {
        match (frame.kind(), frame.seq()) {
            ("closed", None) => {
                let code = frame.json["code"].as_str().unwrap_or_default();
                assert!(matches!(code, "draining" | "lost_lease" | "unavailable"), "{}\n{}", frame.json, self.tell());
            }
            // It is told that the end is not saved, and comes back for the saved one.
            ("turn.finished", None) => assert_eq!(frame.json["saved"], false, "{}", self.tell()),
            ("snapshot", Some(_)) => self.apply(frame),
            (_, Some(seq)) => {
                self.field.truth.note(&self.turn, seq, frame);
                self.apply(frame);
            }
            _ => panic!("an event without a number: {}\n{}", frame.json, self.tell()),
        }
    }

    fn apply(&mut self, frame: &Frame) {
        let sound = std::panic::AssertUnwindSafe(|| self.fold.apply(&frame.json));
        if let Err(panic) = std::panic::catch_unwind(sound) {
            eprintln!("{}{}", self.tell(), self.field.truth.tell(&self.turn, self.fold.seq));
            std::panic::resume_unwind(panic);
        }
    }

    /// How often it came back.
    pub fn returns(&self) -> usize {
        self.visits.len().saturating_sub(1)
    }

    /// Its visits, for people.
    pub fn tell(&self) -> String {
        let mut told = format!("a reader of {}, now at {}:\n", self.turn, self.fold.seq);
        for visit in &self.visits {
            let brief = |frame: Option<&Frame>| {
                let (kind, seq) = (frame.map_or("–", Frame::kind), frame.and_then(Frame::seq));
                format!("{kind} {}", seq.map_or_else(String::new, |seq| seq.to_string()))
            };
            let (first, last) = (brief(visit.frames.first()), brief(visit.frames.last()));
            let (at, count) = (visit.at.as_millis(), visit.frames.len());
            let _ = writeln!(
                told,
                "  at {at} ms on {:?} after {}: {count} frames, from {first} to {last}; {}",
                visit.replica, visit.cursor, visit.how
            );
        }
        told
    }
}
