//! Whether an instance answers so much worse than its siblings that chance does not explain it: pure.
//!
//! Failures in a row find an instance that is broken for everybody. One that is merely the wrong one,
//! behind whose address another service listens or a build without half of the methods, answers at
//! once and in good order, only never well. What an answer such as NOT_FOUND is worth shows in what
//! the others answer to the like of it. (gRPC A50 and Envoy's outlier detection compare success rates;
//! their deviation over all instances needs at least five of them and a hundred calls each. Here each
//! is compared with all others together, which works for two.)

use std::time::Duration;

use tokio::time::Instant;

/// Time over which answers are forgotten to 1/e: long enough for a few calls, short enough for an
/// instance that turns bad after an hour of good answers to be seen within seconds.
const FORGET: Duration = Duration::from_secs(10);
/// Fewer answers than this say nothing.
const ENOUGH: f64 = 5.0;
/// How far below its siblings' an instance's share of good answers has to be.
const FAR: f64 = 0.2;
/// How many standard deviations away from chance: one in about 30,000.
const SIGMAS: f64 = 4.0;

/// Answers of late.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Answers {
    pub(super) good: f64,
    pub(super) all: f64,
}

impl Answers {
    fn share(self) -> f64 {
        self.good / self.all.max(f64::MIN_POSITIVE)
    }

    /// Without those of `one`.
    pub(super) fn without(self, one: Self) -> Self {
        Self {
            good: (self.good - one.good).max(0.0),
            all: (self.all - one.all).max(0.0),
        }
    }

    /// Together with those of `other`.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            good: self.good + other.good,
            all: self.all + other.all,
        }
    }

    /// How far below those of its siblings they are, if that is no chance.
    pub(super) fn below(self, siblings: Self) -> Option<f64> {
        if self.all < ENOUGH || siblings.all < ENOUGH {
            return None;
        }
        let difference = siblings.share() - self.share();
        // The difference of two proportions, if in truth they were one.
        let one = self.and(siblings).share();
        let deviation = (one * (1.0 - one) * (1.0 / self.all + 1.0 / siblings.all)).sqrt();
        (difference >= FAR && difference >= SIGMAS * deviation).then_some(difference)
    }

    /// Whether most are good: an instance that answers otherwise is still the odd one.
    pub(super) fn mostly_good(self) -> bool {
        self.share() >= 0.5
    }
}

/// Remembers the answers of one instance, and forgets them.
#[derive(Debug)]
pub(super) struct Memory {
    answers: Answers,
    at: Instant,
}

impl Memory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answers: Answers::default(),
            at: now,
        }
    }

    /// One more.
    pub(super) fn answered(&mut self, good: bool, now: Instant) {
        self.answers = self.answers(now);
        self.at = self.at.max(now);
        self.answers.all += 1.0;
        self.answers.good += f64::from(u8::from(good));
    }

    /// What is left of them.
    pub(super) fn answers(&self, now: Instant) -> Answers {
        let silence = now.saturating_duration_since(self.at);
        let left = (-silence.as_secs_f64() / FORGET.as_secs_f64()).exp();
        Answers {
            good: self.answers.good * left,
            all: self.answers.all * left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(good: f64, all: f64) -> Answers {
        Answers { good, all }
    }

    #[test]
    fn one_of_four_that_never_answers_well_stands_out_after_a_few_calls() {
        assert!(answers(0.0, 5.0).below(answers(15.0, 15.0)).is_some());
        assert!(answers(0.0, 4.0).below(answers(300.0, 300.0)).is_none());
        // And one of two.
        assert!(answers(0.0, 10.0).below(answers(10.0, 10.0)).is_some());
    }

    #[test]
    fn what_all_answer_alike_makes_none_stand_out() {
        for share in [0.0, 0.3, 0.9, 1.0] {
            let (own, siblings) = (answers(100.0 * share, 100.0), answers(300.0 * share, 300.0));
            assert_eq!(own.below(siblings), None, "{share}");
        }
        assert_eq!(answers(0.0, 1000.0).below(answers(0.0, 3000.0)), None);
    }

    #[test]
    fn a_little_worse_is_not_worse_and_better_is_never_worse() {
        assert_eq!(answers(850.0, 1000.0).below(answers(3000.0, 3000.0)), None);
        assert_eq!(answers(10.0, 10.0).below(answers(0.0, 3000.0)), None);
    }

    #[test]
    fn chance_makes_none_stand_out() {
        use rand::{Rng, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(1);
        for share in [0.1, 0.5, 0.9] {
            for _ in 0..2_000 {
                let mut drawn = |n: u32| {
                    let good = (0..n).filter(|_| rng.random_bool(share)).count();
                    answers(good as f64, f64::from(n))
                };
                let (own, siblings) = (drawn(20), drawn(60));
                assert_eq!(own.below(siblings), None, "{own:?} {siblings:?}");
            }
        }
    }

    #[test]
    fn an_instance_that_turns_bad_after_long_is_seen_within_ten_seconds() {
        let mut now = Instant::now();
        let mut memory = Memory::new(now);
        let step = Duration::from_millis(20);
        for _ in 0..50_000 {
            now += step;
            memory.answered(true, now);
        }
        let turned = now;
        let siblings = answers(1500.0, 1500.0);
        while memory.answers(now).below(siblings).is_none() {
            now += step;
            memory.answered(false, now);
            assert!(now - turned < Duration::from_secs(10));
        }
    }
}
