//! Places of which no client takes all, as long as others want some.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// For so long after half of the places was taken, clients are told apart.
const CROWDED: Duration = Duration::from_secs(10);
/// How often it is looked who wants how many.
const LOOK: Duration = Duration::from_millis(50);
/// What of a client's demand is remembered from one look to the next.
const REMEMBERED: f64 = 0.95;
/// What is not given to those that want much, for those that come anew and those that want little.
const SPARED: f64 = 0.1;
/// Clients that are told apart at one time; further ones have what is left.
const CLIENTS: usize = 1000;

/// Places for so many. Those that want little get it; what is left is shared equally by those that want much
/// ("max-min fairness"), but for a tenth, so that a newcomer finds a place. A client that is alone may have
/// all.
///
/// Clients are only told apart once half was taken, and for some seconds after: before, there is enough for
/// everybody, and nothing to count. Also then, a client that wants much gets more than its share while little
/// is taken: what others wanted a moment ago does not keep places empty.
///
/// For what is given back soon, such as a request's. What is kept for long is not given back to a newcomer:
/// see [`Lasting`](super::Lasting).
#[derive(Debug)]
pub(crate) struct Fair<K>(Arc<Inner<K>>);

impl<K> Clone for Fair<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Fair<K> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            taken: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            shares: Mutex::default(),
        }))
    }
}

#[derive(Debug)]
struct Inner<K> {
    taken: AtomicUsize,
    /// Whether clients are told apart.
    crowded: AtomicBool,
    shares: Mutex<Shares<K>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Copy + Eq + Hash> {
    fair: Fair<K>,
    /// Whose it is, if that is counted.
    client: Option<Option<K>>,
}

impl<K: Copy + Eq + Hash> Fair<K> {
    /// A place of `limit` for `client`; those without a name are one client. Where there is enough for all, the
    /// `clock` is not read.
    pub(crate) fn take(
        &self,
        limit: usize,
        client: Option<K>,
        clock: impl FnOnce() -> Instant,
    ) -> Option<Place<K>> {
        let inner = &*self.0;
        let is_crowded = inner.crowded.load(Ordering::Relaxed);
        if !is_crowded && inner.taken.load(Ordering::Relaxed) < limit / 2 {
            return self.one_more(limit).then(|| Place {
                fair: self.clone(),
                client: None,
            });
        }
        let now = clock();
        let mut shares = inner.shares.lock();
        let taken = inner.taken.load(Ordering::Relaxed);
        let (client, may) = shares.ask(client, taken, limit, now);
        inner
            .crowded
            .store(shares.is_crowded(now), Ordering::Relaxed);
        if !may {
            return None;
        }
        if self.one_more(limit) {
            return Some(Place {
                fair: self.clone(),
                client,
            });
        }
        // The last one was taken meanwhile, by a client that is not counted.
        if let Some(client) = client {
            shares.gave_back(client);
        }
        None
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    fn one_more(&self, limit: usize) -> bool {
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        let taken = &self.0.taken;
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .is_ok()
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let inner = &*self.fair.0;
        inner.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client {
            inner.shares.lock().gave_back(client);
        }
    }
}

/// Who has how many, and wants how many. Pure: what time it is, is an argument.
#[derive(Debug)]
struct Shares<K> {
    clients: HashMap<Option<K>, Share>,
    /// The most that one client may have.
    most: usize,
    /// When half was taken last.
    crowded: Option<Instant>,
    looked: Option<Instant>,
}

/// One client's.
#[derive(Debug, Default)]
struct Share {
    taken: usize,
    /// The most it had since the last look, and what it was refused.
    peak: usize,
    refused: usize,
    /// How many it wants.
    demand: f64,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            most: usize::MAX,
            crowded: None,
            looked: None,
        }
    }
}

impl<K: Copy + Eq + Hash> Shares<K> {
    /// Whether `client` may have one of `limit` places while `taken` are, and under which name it is
    /// counted, if it is.
    fn ask(
        &mut self,
        client: Option<K>,
        taken: usize,
        limit: usize,
        now: Instant,
    ) -> (Option<Option<K>>, bool) {
        if taken >= limit / 2 {
            self.crowded = Some(now);
        }
        let due = |looked: Instant| now.saturating_duration_since(looked) >= LOOK;
        if self.looked.is_none_or(due) {
            self.looked = Some(now);
            self.look(limit);
        }
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            // One of those that are not told apart: which of them wants much, nobody knows.
            return (None, taken < limit);
        }
        let share = self.clients.entry(client).or_default();
        let is_little = share.taken + taken < limit / 2;
        let may = taken < limit && (share.taken < self.most || is_little);
        match may {
            true => {
                share.taken += 1;
                share.peak = share.peak.max(share.taken);
            }
            false => share.refused += 1,
        }
        (Some(client), may)
    }

    /// Sees who wants how many, and so how many each may have.
    fn look(&mut self, limit: usize) {
        self.clients.retain(|_, share| {
            let wanted = (share.peak + share.refused) as f64;
            share.demand = wanted.max(share.demand * REMEMBERED);
            (share.peak, share.refused) = (share.taken, 0);
            share.taken > 0 || share.demand >= 1.0
        });
        let mut demands: Vec<_> = self.clients.values().map(|share| share.demand).collect();
        demands.sort_unstable_by(f64::total_cmp);
        let mut left = limit as f64 * (1.0 - SPARED);
        self.most = limit;
        if demands.len() < 2 || demands.iter().sum::<f64>() <= left {
            return;
        }
        for (served, demand) in demands.iter().enumerate() {
            let equal = left / (demands.len() - served) as f64;
            if *demand > equal {
                self.most = (equal as usize).max(1);
                return;
            }
            left -= demand;
        }
    }

    fn is_crowded(&self, now: Instant) -> bool {
        self.crowded
            .is_some_and(|crowded| now.saturating_duration_since(crowded) < CROWDED)
    }

    fn gave_back(&mut self, client: Option<K>) {
        if let Some(share) = self.clients.get_mut(&client) {
            share.taken = share.taken.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// What it gets of so many it wants at once.
    fn wants(fair: &Fair<u8>, client: u8, places: usize, now: Instant) -> Vec<Place<u8>> {
        let each = (0..places).filter_map(|_| fair.take(100, Some(client), || now));
        each.collect()
    }

    #[test]
    fn a_client_that_is_alone_gets_all_there_is() {
        let (fair, mut now) = (Fair::default(), Instant::now());
        for _ in 0..20 {
            now += S / 5;
            let places = wants(&fair, 1, 150, now);
            assert_eq!((places.len(), fair.taken()), (100, 100));
        }
        assert_eq!(fair.taken(), 0);
    }

    #[test]
    fn four_greedy_clients_leave_room_for_a_fifth_wave_after_wave() {
        let (fair, mut now) = (Fair::default(), Instant::now());
        let mut served = 0;
        for _ in 0..100 {
            now += S / 5;
            let waves: Vec<_> = (1..=4)
                .map(|client| wants(&fair, client, 50, now))
                .collect();
            served += wants(&fair, 5, 3, now).len();
            drop(waves);
        }
        // Until it was seen who wants what.
        assert_eq!(served, 98 * 3);
    }

    #[test]
    fn those_that_want_much_share_what_those_that_want_little_leave() {
        let (fair, mut now) = (Fair::default(), Instant::now());
        let mut got = (0, 0, 0);
        for _ in 0..100 {
            now += S / 5;
            let many = wants(&fair, 1, 90, now);
            let more = wants(&fair, 2, 90, now);
            let few = wants(&fair, 3, 10, now);
            got = (many.len(), more.len(), few.len());
        }
        assert_eq!(got, (40, 40, 10));
    }

    #[test]
    fn a_client_that_has_left_is_forgotten_and_all_is_as_before() {
        let (fair, mut now) = (Fair::default(), Instant::now());
        for _ in 0..10 {
            now += S / 5;
            let _both = (wants(&fair, 1, 90, now), wants(&fair, 2, 90, now));
        }
        for _ in 0..100 {
            now += S / 5;
            drop(wants(&fair, 1, 90, now));
        }
        assert_eq!(wants(&fair, 1, 90, now).len(), 90);
        now += CROWDED + S;
        let _first = fair.take(100, Some(3), || now);
        let _second = fair.take(100, Some(3), || now);
        assert!(!fair.0.crowded.load(Ordering::Relaxed));
    }

    #[test]
    fn a_limit_of_one_is_one() {
        let (fair, now) = (Fair::<u8>::default(), Instant::now());
        let first = fair.take(1, None, || now).unwrap();
        assert!(fair.take(1, None, || now).is_none());
        drop(first);
        assert!(fair.take(1, None, || now).is_some());
    }

    #[test]
    fn more_clients_than_are_told_apart_are_served_all_the_same() {
        let (fair, mut now) = (Fair::<usize>::default(), Instant::now());
        let limit = 3 * CLIENTS;
        for _ in 0..3 {
            let places: Vec<_> = (0..limit)
                .filter_map(|client| {
                    now += LOOK / 1000;
                    fair.take(limit, Some(client), || now)
                })
                .collect();
            assert_eq!((places.len(), fair.taken()), (limit, limit));
            assert!(fair.0.shares.lock().clients.len() <= CLIENTS);
        }
        assert_eq!(fair.taken(), 0);
    }

    #[test]
    fn what_others_wanted_a_moment_ago_keeps_no_place_empty() {
        let (fair, mut now) = (Fair::default(), Instant::now());
        let all = wants(&fair, 0, 60, now);
        drop(all);
        // Twenty pages, one after the other, that ask for ten things at once each.
        for page in (1..=20).cycle().take(100) {
            now += S / 50;
            let got = wants(&fair, page, 10, now).len();
            assert_eq!(got, 10, "{:?}", fair.0.shares.lock().most);
        }
    }
}
