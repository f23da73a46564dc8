//! Pauses that double, with jitter: one for retries, breakers, ejections and reconnects.

use std::{ops::RangeInclusive, time::Duration};

use rand::Rng;

/// A pause that doubles from `base` up to `max`, times a random share of `jitter`. Callers that
/// failed together should not return together. Pure: randomness is an argument.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    /// The first pause.
    pub(crate) base: Duration,
    /// The longest.
    pub(crate) max: Duration,
    /// The share of the bound that is waited, within 0 and 1.
    pub(crate) jitter: RangeInclusive<f64>,
}

impl Backoff {
    /// The pause after `failures` failures before this one, from 0.
    pub(crate) fn pause(&self, failures: u32, rng: &mut impl Rng) -> Duration {
        let doubled = self.base.saturating_mul(1 << failures.min(20));
        doubled
            .min(self.max)
            .mul_f64(rng.random_range(self.jitter.clone()))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn pauses_are_random_within_a_bound_that_doubles_up_to_its_maximum() {
        let mut rng = SmallRng::seed_from_u64(1);
        let backoff = Backoff {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
            jitter: 0.0..=1.0,
        };
        for (failures, bound) in [(0, 25), (1, 50), (2, 100), (3, 200), (4, 250), (40, 250)] {
            let bound = Duration::from_millis(bound);
            let pauses: Vec<_> = (0..200)
                .map(|_| backoff.pause(failures, &mut rng))
                .collect();
            assert!(pauses.iter().all(|pause| *pause <= bound));
            assert!(pauses.iter().any(|pause| *pause > bound / 2));
            assert!(pauses.iter().any(|pause| *pause < bound / 2));
        }
    }
}
