//! Several replicas before clients that believe nothing, while whatever can fail does: what fails when is made from a seed.
//!
//! A [`schedule`] is data: questions with all that their clients do, and faults. It is played on a [`stage`] of servers,
//! replicas and a balancer of its own; every reader is a [`witness`], and when all is calm every turn is judged
//! ([`verdict`]). `scripts/soak` plays many, and one again.
//!
//! To add a fault: 1. a variant in `fault.rs`, and whether it may cost something; 2. its share there in `at_random`, which makes other
//! schedules of all seeds; 3. how it is done, in `replica.rs` or `stage.rs`. To add a promise: a check in `verdict.rs`.
#![cfg(test)]

mod asker;
mod balancer;
mod calamities;
mod fault;
mod field;
mod lateness;
mod plan;
mod postgres;
mod replica;
mod schedule;
mod stage;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod tally;
mod truth;
mod verdict;
mod witness;

use std::net::TcpListener;

use futures::FutureExt;

use self::schedule::Schedule;
use self::tally::Tally;

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Postgres;
/// How many questions a fixed seed asks.
const QUESTIONS: usize = 30;

macro_rules! fixed {
    ($($name:ident: $seed:literal),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let tally = Box::pin(story::tell(&Schedule::of($seed, QUESTIONS))).await;
            println!("{}\n{tally}", Tally::HEAD);
        }
    )*};
}

fixed! {
    the_promises_hold_in_seed_1: 1,
    the_promises_hold_in_seed_2: 2,
    the_promises_hold_in_seed_3: 3,
    the_promises_hold_in_seed_4: 4,
    the_promises_hold_in_seed_5: 5,
    the_promises_hold_in_seed_6: 6,
    the_promises_hold_in_seed_7: 7,
    the_promises_hold_in_seed_8: 8,
    the_promises_hold_in_seed_9: 9,
    the_promises_hold_in_seed_10: 10,
}

/// Plays `TIDEGATE_TEST_SEEDS` seeds from `TIDEGATE_TEST_SEED` on, each with `TIDEGATE_TEST_QUESTIONS` questions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "as long as one likes: scripts/soak"]
async fn soak() {
    let given = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (first, count) = (given("TIDEGATE_TEST_SEED", 1), given("TIDEGATE_TEST_SEEDS", 1));
    let questions = usize::try_from(given("TIDEGATE_TEST_QUESTIONS", QUESTIONS as u64)).unwrap();
    let (mut sum, mut failed) = (Tally::default(), Vec::new());
    println!("{}", Tally::HEAD);
    for seed in first..first + count {
        let schedule = Schedule::of(seed, questions);
        match std::panic::AssertUnwindSafe(Box::pin(story::tell(&schedule))).catch_unwind().await {
            Ok(tally) => {
                println!("{tally}");
                sum.add(&tally);
            }
            Err(_) => {
                println!("{seed:>6} FAILED: {}", story::again(&schedule));
                failed.push(seed);
            }
        }
    }
    println!(
        "\n{count} seeds of {questions} questions, {} replicas\n\nturns          {}\nlive at most   {}\nevents shown   {}\n\
         faults         {}\nresumes        {}\nlost, as promise 4 allows  {}\ninterrupted    {}\nstopped        {}\n\
         unprovoked     {}\nsettled after at most  {:.1} s\nfailed seeds   {failed:?}",
        schedule::REPLICAS,
        sum.turns,
        sum.live,
        sum.events,
        sum.faults,
        sum.resumes,
        sum.lost,
        sum.interrupted,
        sum.stopped,
        sum.unprovoked,
        sum.settled.as_secs_f64()
    );
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

#[test]
fn a_schedule_is_made_from_its_seed_alone() {
    let told = |seed| Schedule::of(seed, QUESTIONS).to_string();
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
