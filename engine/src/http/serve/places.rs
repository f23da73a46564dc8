//! How many connections may be open: in all, and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of a listener.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Mutex<HashMap<IpAddr, usize>>,
    taken: Arc<AtomicUsize>,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    peer: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// `taken` counts the open connections.
    pub(super) fn new(max: usize, per_peer: usize, taken: Arc<AtomicUsize>) -> Self {
        Self(Arc::new(Inner {
            all: Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            per_peer,
            peers: Mutex::default(),
            taken,
        }))
    }

    /// A place for whoever comes next, if one is free.
    pub(super) fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.all).try_acquire_owned().ok()
    }

    /// Waits for one.
    pub(super) async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.0.all).acquire_owned().await.ok()
    }

    /// Gives `permit` to a connection from `peer`, unless that has too many as it is.
    pub(super) fn take(&self, permit: OwnedSemaphorePermit, peer: IpAddr) -> Option<Place> {
        let mut peers = self.0.peers.lock();
        let count = peers.entry(peer).or_default();
        if *count >= self.0.per_peer {
            return None;
        }
        *count += 1;
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            places: self.clone(),
            peer,
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let inner = &self.places.0;
        inner.taken.fetch_sub(1, Ordering::Relaxed);
        let mut peers = inner.peers.lock();
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_no_more_than_its_share_and_gets_it_back() {
        let taken = Arc::default();
        let places = Places::new(3, 2, Arc::clone(&taken));
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let take = |peer| places.take(places.free().unwrap(), peer);
        let first = take(one).unwrap();
        let second = take(one).unwrap();
        assert!(take(one).is_none());
        // What was refused took no place.
        let third = take(other).unwrap();
        assert!(places.free().is_none());
        assert_eq!(taken.load(Ordering::Relaxed), 3);
        drop(first);
        assert!(take(one).is_some());
        drop((second, third));
        assert!(places.0.peers.lock().is_empty());
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }
}
