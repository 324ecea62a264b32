//! One question, and all that its clients do about it: data.

use crate::support::Encoding;

/// What the model does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A few deltas.
    Short,
    /// Some seconds of them.
    Long,
    /// Very many at once, and some seconds more.
    Hasty,
    /// It goes on until it is stopped, or everything is over.
    Held,
}

impl Answer {
    /// The word of a question that asks for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Hasty => "hasty",
            Self::Held => "held",
        }
    }
}

/// How a client reads.
#[derive(Clone, Debug)]
pub struct Habits {
    /// It leaves after so many frames of a visit, and comes back with its cursor; when the list is at its end, it stays.
    pub leaves: Vec<usize>,
    /// For how long it is away, in milliseconds.
    pub away: u64,
    /// After the last of its visits it does not come back.
    pub for_good: bool,
    /// The encoding of each visit, over and over.
    pub encodings: [Encoding; 3],
}

impl Habits {
    /// Those of a client that stays, in this encoding.
    pub fn faithful(encoding: Encoding) -> Self {
        Self { leaves: Vec::new(), away: 10, for_good: false, encodings: [encoding; 3] }
    }

    fn at_random(rng: &mut fastrand::Rng) -> Self {
        let visits = rng.usize(..4);
        Self {
            leaves: (0..visits).map(|_| rng.usize(1..40)).collect(),
            away: rng.u64(1..900),
            for_good: visits > 0 && rng.u32(..6) == 0,
            encodings: std::array::from_fn(|_| Encoding::ALL[rng.usize(..2)]),
        }
    }
}

/// One question, and all that its clients do about it. Times in milliseconds: of `at` from the seed's beginning, of the
/// rest from the turn's.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When it is asked.
    pub at: u64,
    /// Its number.
    pub number: usize,
    /// In which conversation, by its number.
    pub conversation: usize,
    /// What the model does with it.
    pub answer: Answer,
    /// `if_busy`.
    pub if_busy: &'static str,
    /// Whether it has an idempotency key, and is asked again until it is answered.
    pub keyed: bool,
    /// How whoever asks reads.
    pub habits: Habits,
    /// When others begin to read, and how.
    pub onlookers: Vec<(u64, Habits)>,
    /// When somebody stops it.
    pub stop: Option<u64>,
    /// When it is asked again under the same key, though it was answered.
    pub again: Option<u64>,
}

impl Plan {
    /// A question at random: the first one of each conversation, then further ones. In a crowd the first have long answers, so that
    /// all of them are live at once.
    pub fn at_random(rng: &mut fastrand::Rng, number: usize, conversations: usize, last: u64, crowd: bool) -> Self {
        let first = number < conversations;
        let all = [Answer::Short, Answer::Long, Answer::Long, Answer::Hasty, Answer::Held];
        let answers = if crowd && first { &all[1..] } else { &all[..] };
        let keyed = rng.u32(..4) > 0;
        Self {
            at: if first { rng.u64(..last / 2) } else { rng.u64(last / 4..last) },
            number,
            conversation: if first { number } else { rng.usize(..conversations) },
            answer: answers[rng.usize(..answers.len())],
            if_busy: ["queue", "queue", "interrupt", "reject"][rng.usize(..4)],
            keyed,
            habits: Habits::at_random(rng),
            onlookers: (0..rng.usize(..3)).map(|_| (rng.u64(..2500), Habits::at_random(rng))).collect(),
            stop: (rng.u32(..5) == 0).then(|| rng.u64(..2500)),
            again: (keyed && rng.u32(..3) == 0).then(|| rng.u64(..2500)),
        }
    }

    /// Nothing else has this text.
    pub fn question(&self, seed: u64) -> String {
        format!("{} {seed}.{}", self.answer.word(), self.number)
    }
}
