//! Places that are kept for long, of which no client takes all.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use parking_lot::Mutex;

/// A client may have so many times what it leaves free: four fifths, if it is alone.
const TIMES_FREE: usize = 4;

/// Places that may be kept for days, as those of streams are. What one client has is not given back because
/// another comes, so none may have all from the beginning: it gets one more only while it has less than
/// [`TIMES_FREE`] times what is free (Choudhury and Hahne's "dynamic queue length thresholds"). However many
/// want much, a newcomer finds a place.
#[derive(Debug)]
pub(crate) struct Lasting<K>(Arc<Mutex<Taken<K>>>);

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    /// Of each client that has some; those without a name are one client.
    by_client: HashMap<Option<K>, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct LastingPlace<K: Copy + Eq + Hash> {
    places: Lasting<K>,
    client: Option<K>,
}

impl<K> Clone for Lasting<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Lasting<K> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Taken {
            all: 0,
            by_client: HashMap::new(),
        })))
    }
}

impl<K: Copy + Eq + Hash> Lasting<K> {
    /// A place of `limit` for `client`.
    pub(crate) fn take(&self, limit: usize, client: Option<K>) -> Option<LastingPlace<K>> {
        let mut taken = self.0.lock();
        let free = limit.saturating_sub(taken.all);
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        if own >= free.saturating_mul(TIMES_FREE) {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, own + 1);
        Some(LastingPlace {
            places: self.clone(),
            client,
        })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.lock().all
    }
}

impl<K: Copy + Eq + Hash> Drop for LastingPlace<K> {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Entry::Occupied(mut own) = taken.by_client.entry(self.client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(places: &Lasting<u8>, client: u8, many: usize) -> Vec<LastingPlace<u8>> {
        let each = (0..many).map_while(|_| places.take(100, Some(client)));
        each.collect()
    }

    #[test]
    fn a_client_gets_four_fifths_and_others_share_what_it_leaves() {
        let places = Lasting::default();
        let greedy = wants(&places, 1, 100);
        assert_eq!(greedy.len(), 80);
        let second = wants(&places, 2, 100);
        assert_eq!(second.len(), 16);
        let few = wants(&places, 3, 3);
        assert_eq!((few.len(), places.taken()), (3, 99));
        drop(greedy);
        assert_eq!(wants(&places, 4, 100).len(), 65);
        drop((second, few));
        assert_eq!(places.taken(), 0);
        assert!(places.0.lock().by_client.is_empty());
    }

    #[test]
    fn of_a_few_places_one_client_may_have_all() {
        let places = Lasting::<u8>::default();
        for limit in 1..=TIMES_FREE {
            let all: Vec<_> = (0..10).map_while(|_| places.take(limit, None)).collect();
            assert_eq!(all.len(), limit);
        }
    }

    #[test]
    fn a_limit_that_has_become_lower_than_what_is_taken_gives_no_more() {
        let places = Lasting::<u8>::default();
        let _taken: Vec<_> = (0..10).map_while(|_| places.take(100, None)).collect();
        assert!(places.take(10, Some(1)).is_none());
    }
}
