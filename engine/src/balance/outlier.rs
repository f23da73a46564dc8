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

/// Answers after which one is forgotten to 1/e: an instance that turns bad after an hour of good answers is
/// seen after some five, however often it is asked.
const REMEMBERED: f64 = 16.0;
/// Time after which answers are forgotten to 1/e: of an instance that is rarely asked, among many, too
/// few would be left of a shorter one.
const FORGET: Duration = Duration::from_secs(60);
/// One answer says nothing, whatever the others answer.
const ENOUGH: f64 = 2.0;
/// How far below its siblings' an instance's share of good answers has to be.
const FAR: f64 = 0.2;
/// How improbable it has to be that an instance like its siblings answers so badly.
const CHANCE: f64 = 3e-5;

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

    /// Together with those of `other`.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            good: self.good + other.good,
            all: self.all + other.all,
        }
    }

    /// Whether the share of good ones is far below that of all.
    pub(super) fn far_below(self, all: Self) -> bool {
        self.share() < all.share() - FAR
    }

    /// How far below those of its siblings they are, if that is no chance.
    pub(super) fn below(self, siblings: Self) -> Option<f64> {
        if self.all < ENOUGH || siblings.all < ENOUGH {
            return None;
        }
        let difference = siblings.share() - self.share();
        (difference >= FAR && self.chance(siblings) <= CHANCE).then_some(difference)
    }

    /// How probable it is that so few or fewer are good of an instance that is like its siblings: the
    /// lower tail of a binomial distribution. Of a few siblings that never answered badly it is not known
    /// that they never will (Laplace's rule of succession).
    fn chance(self, siblings: Self) -> f64 {
        let (good, all) = (self.good.round(), self.all.round());
        let share = (siblings.good + 1.0) / (siblings.all + 2.0);
        // The probability of none, and from each that of one more.
        let mut exactly = (1.0 - share).powf(all);
        let mut chance = exactly;
        let mut number = 0.0;
        while number < good && chance <= CHANCE {
            exactly *= (all - number) / (number + 1.0) * share / (1.0 - share);
            number += 1.0;
            chance += exactly;
        }
        chance
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
    bad: bool,
}

impl Memory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answers: Answers::default(),
            at: now,
            bad: false,
        }
    }

    /// One more.
    pub(super) fn answered(&mut self, good: bool, now: Instant) {
        let left = 1.0 - 1.0 / REMEMBERED;
        let before = self.answers(now);
        self.answers = Answers {
            good: before.good * left + f64::from(u8::from(good)),
            all: before.all * left + 1.0,
        };
        self.at = self.at.max(now);
        self.bad = !good;
    }

    /// Whether the last one was bad.
    pub(super) fn last_was_bad(&self) -> bool {
        self.bad
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
        assert!(answers(0.0, 3.0).below(answers(9.0, 9.0)).is_none());
        // Among many it takes fewer.
        assert!(answers(0.0, 2.0).below(answers(2000.0, 2000.0)).is_some());
        assert!(answers(0.0, 1.0).below(answers(2000.0, 2000.0)).is_none());
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
    fn an_instance_that_turns_bad_after_long_is_seen_after_a_few_answers() {
        let mut now = Instant::now();
        let mut memory = Memory::new(now);
        let step = Duration::from_millis(20);
        for _ in 0..5_000 {
            now += step;
            memory.answered(true, now);
        }
        let turned = now;
        let siblings = answers(192.0, 192.0);
        while memory.answers(now).below(siblings).is_none() {
            now += step;
            memory.answered(false, now);
            assert!(now - turned < step * 8);
        }
    }
}
