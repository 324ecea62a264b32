//! What happens in a seed, and when: data, made from the seed and the number of questions alone.

use std::fmt;

use super::fault::{Common, Fault};
use super::plan::Plan;

/// How many replicas there are.
pub const REPLICAS: usize = 3;
/// The last moment at which a fault begins, in milliseconds.
const LAST: u64 = 4200;
/// More questions than this are a crowd: the first in each conversation are all asked before anything fails.
const CROWD: usize = 100;
/// So many milliseconds each question of a crowd gives the machine for that.
const LEAD: u64 = 6;
/// Questions are asked up to here.
const ASKED: u64 = 3800;

/// What happens in a seed. Times in milliseconds from its beginning.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The seed.
    pub seed: u64,
    /// How many questions are asked.
    pub questions: usize,
    /// Whether replicas have a Redis.
    pub redis: bool,
    /// Between two deltas of most answers.
    pub pace: u64,
    /// The questions.
    pub plans: Vec<Plan>,
    /// What happens to each replica, one thing after the other.
    pub faults: [Vec<(u64, Fault)>; REPLICAS],
    /// What happens to all of them.
    pub common: Vec<(u64, Common)>,
}

impl Schedule {
    /// The schedule of a seed. In three seeds of four the replicas share a Redis.
    pub fn of(seed: u64, questions: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let redis = rng.u32(..4) > 0;
        // However many questions there are, so many events come in a second.
        let pace = (questions as u64 * 1000 / 1500).clamp(15, 250);
        let crowd = questions > CROWD;
        let conversations = questions - questions / if crowd { 8 } else { 4 };
        let lead = if crowd { (questions as u64 * LEAD).max(ASKED / 2) } else { 0 };
        let plans = (0..questions).map(|at| Plan::at_random(&mut rng, at, conversations, ASKED, crowd)).collect();
        let faults = std::array::from_fn(|_| {
            let mut faults = Vec::new();
            let mut at = lead + rng.u64(300..1500);
            while at < lead + LAST {
                let fault = Fault::at_random(&mut rng, redis);
                faults.push((at, fault));
                at += fault.lasts() + rng.u64(300..1800);
            }
            faults
        });
        let mut common = Vec::new();
        let mut at = lead + rng.u64(500..5000);
        while at < lead + LAST {
            common.push((at, Common::at_random(&mut rng, redis)));
            at += rng.u64(1000..4000);
        }
        Self { seed, questions, redis, pace, plans, faults, common }
    }

    /// How many faults there are.
    pub fn count(&self) -> usize {
        self.faults.iter().map(Vec::len).sum::<usize>() + self.common.len()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {} questions, a delta every {} ms, redis: {}",
            self.seed, self.questions, self.pace, self.redis
        )?;
        for (replica, faults) in self.faults.iter().enumerate() {
            for (at, fault) in faults {
                writeln!(f, "  {at:5} ms  replica {replica}: {fault:?}")?;
            }
        }
        for (at, fault) in &self.common {
            writeln!(f, "  {at:5} ms  all: {fault:?}")?;
        }
        for plan in &self.plans {
            writeln!(f, "  {plan:?}")?;
        }
        Ok(())
    }
}
