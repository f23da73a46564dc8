//! A bounded map from clients to what is remembered of them.

use std::collections::HashMap;

use parking_lot::Mutex;

const SHARDS: usize = 64;

/// At most so many keys, in shards that are locked one at a time.
///
/// When a shard is full, the eighth of its entries with the smallest values goes. The stored
/// values are such that those are the clients that used the least, or have been quiet for
/// longest: forgetting one that has its whole limit again loses nothing, and one that is being
/// throttled is the last to go.
#[derive(Debug)]
pub(super) struct Keys<V> {
    shards: Box<[Mutex<HashMap<u64, V>>]>,
    per_shard: usize,
}

impl<V: Copy + Ord> Keys<V> {
    pub(super) fn new(max_keys: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self {
            shards,
            per_shard: (max_keys / SHARDS).max(1),
        }
    }

    /// Replaces the value of `key` by what `decide` makes of it, if it makes anything.
    pub(super) fn update<R>(
        &self,
        key: u64,
        decide: impl FnOnce(Option<V>) -> (Option<V>, R),
    ) -> R {
        let shard = &self.shards[key as usize % SHARDS];
        let mut shard = shard.lock();
        let (value, result) = decide(shard.get(&key).copied());
        if let Some(value) = value {
            if shard.len() >= self.per_shard && !shard.contains_key(&key) {
                make_room(&mut shard);
            }
            shard.insert(key, value);
        }
        result
    }

    /// How many keys are remembered.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

fn make_room<V: Copy + Ord>(shard: &mut HashMap<u64, V>) {
    let mut values: Vec<V> = shard.values().copied().collect();
    let cut = values.len() / 8;
    let (_, limit, _) = values.select_nth_unstable(cut);
    let limit = *limit;
    shard.retain(|_, value| *value > limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_keys_stay_within_the_cap_and_the_newest_are_kept() {
        let keys = Keys::new(6_400);
        for n in 0..1_000_000_u64 {
            keys.update(n, |_| (Some(n), ()));
            if n % 50_000 == 0 {
                assert!(keys.len() <= 6_400);
            }
        }
        assert!(keys.len() <= 6_400 && keys.len() >= 5_000, "{}", keys.len());
        assert!((999_000..1_000_000).all(|n| keys.update(n, |old| (None, old.is_some()))));
    }

    #[test]
    fn equal_values_do_not_keep_a_full_shard_full() {
        let keys = Keys::new(64);
        for n in 0..1000 {
            keys.update(n, |_| (Some(0), ()));
        }
        assert!(keys.len() <= 64);
    }
}
