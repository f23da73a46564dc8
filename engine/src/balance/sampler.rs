//! Random choice in proportion to weights, in constant time: Walker's alias method with Vose's
//! construction. Instances of equal weight, the usual case, need no table.

use rand::Rng;

/// Draws indices `0..len` in proportion to the weights it was built from.
#[derive(Debug)]
pub(super) struct Sampler {
    len: usize,
    /// Per index: the chance to keep it, and the index to take otherwise.
    table: Option<Box<[(f64, usize)]>>,
}

impl Sampler {
    pub(super) fn new(weights: &[u32]) -> Self {
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            len: weights.len(),
            table: (!equal).then(|| alias_table(weights)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// An index, or `None` if there are none.
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let index = rng.random_range(0..self.len);
        match &self.table {
            None => Some(index),
            Some(table) => {
                let (keep, alias) = table[index];
                Some(if rng.random::<f64>() < keep {
                    index
                } else {
                    alias
                })
            }
        }
    }
}

fn alias_table(weights: &[u32]) -> Box<[(f64, usize)]> {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    let scale = weights.len() as f64 / total;
    let mut chance: Vec<f64> = weights
        .iter()
        .map(|weight| f64::from(*weight) * scale)
        .collect();
    let mut table: Vec<(f64, usize)> = (0..weights.len()).map(|index| (1.0, index)).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|index| chance[*index] < 1.0);
    while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
        table[less] = (chance[less], more);
        chance[more] -= 1.0 - chance[less];
        if chance[more] < 1.0 {
            large.pop();
            small.push(more);
        }
    }
    table.into_boxed_slice()
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
