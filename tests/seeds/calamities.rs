//! What was done to the replicas, and when it really was: what excuses a loss, and what does not.

use std::fmt::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Something that went on for a while.
struct Calamity {
    /// Whom it befell; `None` = all.
    replica: Option<usize>,
    what: String,
    may_cost: bool,
    from: Instant,
    to: Option<Instant>,
}

/// All that happened.
pub struct Calamities {
    begun: Instant,
    list: Mutex<Vec<Calamity>>,
}

impl Calamities {
    /// None yet.
    pub fn new(begun: Instant) -> Self {
        Self { begun, list: Mutex::new(Vec::new()) }
    }

    /// One begins; its number.
    pub fn begin(&self, replica: Option<usize>, what: String, may_cost: bool) -> usize {
        let mut list = self.list.lock().unwrap();
        list.push(Calamity { replica, what, may_cost, from: Instant::now(), to: None });
        list.len() - 1
    }

    /// It is over.
    pub fn end(&self, number: usize) {
        self.list.lock().unwrap()[number].to = Some(Instant::now());
    }

    /// Whether one that may cost something befell one of `replicas` (of all, where there are none named) between the
    /// two moments. What was cut off may take until `after` its end to find out what became of it.
    pub fn excuse(&self, replicas: &[usize], from: Instant, to: Instant, after: Duration) -> bool {
        self.list.lock().unwrap().iter().any(|calamity| {
            let meant = replicas.is_empty() || calamity.replica.is_none_or(|replica| replicas.contains(&replica));
            let over = calamity.to.is_some_and(|over| over + after < from);
            calamity.may_cost && meant && calamity.from <= to && !over
        })
    }

    /// All of them, for people.
    pub fn tell(&self) -> String {
        let mut told = String::new();
        for calamity in &*self.list.lock().unwrap() {
            let at = |moment: Instant| moment.saturating_duration_since(self.begun).as_millis();
            let to = calamity.to.map_or_else(|| "…".to_owned(), |to| at(to).to_string());
            let whom = calamity.replica.map_or_else(|| "all".to_owned(), |replica| format!("replica {replica}"));
            let _ = writeln!(told, "  {:5}–{to} ms  {whom}: {}", at(calamity.from), calamity.what);
        }
        told
    }
}
