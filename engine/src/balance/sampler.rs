//! Random choice in proportion to weights, in constant time. Instances of equal weight, the usual
//! case, need no table.

use rand::Rng;
use rand_distr::{Distribution, weighted::WeightedAliasIndex};

/// Draws indices `0..len` in proportion to the weights it was built from.
#[derive(Debug)]
pub(super) struct Sampler {
    len: usize,
    /// Absent if all weights are equal.
    table: Option<WeightedAliasIndex<u32>>,
}

impl Sampler {
    pub(super) fn new(weights: &[u32]) -> Self {
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let table = || WeightedAliasIndex::new(weights.to_vec()).ok();
        Self {
            len: weights.len(),
            table: if equal { None } else { table() },
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// An index, or `None` if there are none.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Option<usize> {
        match &self.table {
            _ if self.len == 0 => None,
            None => Some(rng.random_range(0..self.len)),
            Some(table) => Some(table.sample(rng)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn nothing_to_draw_from_draws_nothing() {
        assert_eq!(
            Sampler::new(&[]).draw(&mut SmallRng::seed_from_u64(1)),
            None
        );
    }

    proptest! {
        #[test]
        fn draws_are_in_proportion_to_the_weights(
            weights in proptest::collection::vec(1_u32..20, 1..8), seed: u64
        ) {
            let sampler = Sampler::new(&weights);
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut counts = vec![0_u32; weights.len()];
            const DRAWS: u32 = 20_000;
            for _ in 0..DRAWS {
                counts[sampler.draw(&mut rng).unwrap()] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let (share, wanted) =
                    (f64::from(*count) / f64::from(DRAWS), f64::from(*weight) / f64::from(total));
                prop_assert!((share - wanted).abs() < 0.03, "{share} for {wanted}");
            }
        }
    }
}
