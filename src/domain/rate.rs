//! So many a minute: the generic cell rate algorithm (ITU-T I.371), on a clock of nanoseconds that never goes back.
//!
//! Of each one who is bounded one number is kept: the moment at which all they have taken will be theirs again. Whoever has
//! taken nothing for a minute may take all of it at once; what was taken comes back one by one, evenly.

use std::time::Duration;

const MINUTE: u64 = 60_000_000_000;

/// So many a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    most: u64,
}

/// What somebody may still take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// So many at once.
    pub remaining: u64,
    /// All of it again after this.
    pub whole_in: Duration,
}

impl Rate {
    /// `most` a minute, at least one.
    pub fn new(most: u64) -> Self {
        Self { most: most.clamp(1, MINUTE) }
    }

    /// How long one takes to come back, in nanoseconds.
    pub fn each(self) -> u64 {
        MINUTE / self.most
    }

    /// All of it, as time in nanoseconds.
    pub fn whole(self) -> u64 {
        self.each() * self.most
    }

    /// What is left at `now` to whom `taken` is kept of.
    pub fn left(self, taken: u64, now: u64) -> Left {
        let owed = taken.saturating_sub(now);
        let remaining = self.whole().saturating_sub(owed) / self.each();
        Left { remaining, whole_in: Duration::from_nanos(owed) }
    }

    /// Takes one: what is kept from now on.
    ///
    /// # Errors
    /// How long until there is one to be taken.
    pub fn take(self, taken: u64, now: u64) -> Result<u64, Duration> {
        let next = taken.max(now).saturating_add(self.each());
        match next.checked_sub(now.saturating_add(self.whole())) {
            Some(early) if early > 0 => Err(Duration::from_nanos(early)),
            Some(_) | None => Ok(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop, proptest};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn all_of_a_minute_may_be_taken_at_once_and_not_one_more() {
        for most in [1, 2, 7, 50, 60, 1000, 99_999, 1_000_003] {
            let (rate, mut taken) = (Rate::new(most), 0);
            for _ in 0..most {
                taken = rate.take(taken, SECOND).unwrap();
            }
            let wait = rate.take(taken, SECOND).unwrap_err();
            assert_eq!(rate.left(taken, SECOND).remaining, 0, "{most}");
            let then = SECOND + u64::try_from(wait.as_nanos()).unwrap();
            assert!(rate.take(taken, then - 1).is_err(), "{most}");
            assert!(rate.take(taken, then).is_ok(), "{most}: after {wait:?}");
            assert_eq!(rate.left(taken, SECOND + MINUTE).remaining, most);
        }
    }

    #[test]
    fn what_was_taken_comes_back_evenly() {
        let rate = Rate::new(60);
        let taken = (0..60).fold(0, |taken, _| rate.take(taken, 0).unwrap());
        let at = |second: u64| rate.left(taken, second * SECOND);
        assert_eq!((at(0).remaining, at(1).remaining, at(30).remaining, at(90).remaining), (0, 1, 30, 60));
        assert_eq!((at(0).whole_in, at(45).whole_in), (Duration::from_secs(60), Duration::from_secs(15)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// In no stretch of time there are more than a minute's and what came back in it.
        #[test]
        fn no_pattern_of_asking_gets_more(most in 1u64..100, pauses in prop::collection::vec(0u64..3 * SECOND, 1..300)) {
            let (rate, mut taken, mut now, mut let_in) = (Rate::new(most), 0, 0u64, Vec::new());
            for pause in pauses {
                now += pause;
                let left = rate.left(taken, now).remaining;
                match rate.take(taken, now) {
                    Ok(next) => {
                        assert!(left > 0);
                        taken = next;
                        let_in.push(now);
                    }
                    Err(_) => assert_eq!(left, 0),
                }
            }
            for (at, begin) in let_in.iter().enumerate() {
                for (further, end) in let_in[at..].iter().enumerate() {
                    let back = (end - begin) / rate.each();
                    assert!((further as u64) < most + back);
                }
            }
        }
    }
}
