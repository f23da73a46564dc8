//! The connection to one instance, and what is known while there is none: gRPC's connectivity states.
//!
//! A task of its own keeps it ([`dial`](super::dial)); calls only look. What is decided here takes
//! time as an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::call::transport::Established;

/// A call that finds no connection at all has an instance dialled again this much after its last failure:
/// sooner, the callers of a dead service would flood its hosts.
pub(super) const REDIAL: Duration = Duration::from_millis(20);

/// Whether an instance is connected.
#[derive(Clone, Debug)]
pub(super) enum Connectivity {
    /// It is being dialled, or about to be.
    Connecting,
    /// It is connected.
    Ready,
    /// It could not be reached, and is dialled again by itself after a while.
    Failed {
        /// When that was.
        at: Instant,
        /// Why.
        why: Arc<str>,
    },
}

/// The connection to one instance.
#[derive(Debug)]
pub(super) struct Link<S> {
    /// What calls use, without a lock.
    established: ArcSwapOption<Established<S>>,
    connectivity: Mutex<Connectivity>,
    listed: AtomicBool,
    /// Tells the task that keeps it to look again.
    look: Notify,
}

impl<S> Link<S> {
    pub(super) fn new() -> Self {
        Self {
            established: ArcSwapOption::empty(),
            connectivity: Mutex::new(Connectivity::Connecting),
            listed: AtomicBool::new(true),
            look: Notify::new(),
        }
    }

    /// The connection, while it is up.
    pub(super) fn established(&self) -> Option<Arc<Established<S>>> {
        self.established.load_full()
    }

    /// Whether it is up.
    pub(super) fn is_ready(&self) -> bool {
        self.established.load().is_some()
    }

    /// How it is.
    pub(super) fn connectivity(&self) -> Connectivity {
        self.connectivity.lock().clone()
    }

    /// Has an instance that failed dialled again at once.
    pub(super) fn redial(&self) {
        let mut connectivity = self.connectivity.lock();
        if let Connectivity::Failed { .. } = &*connectivity {
            *connectivity = Connectivity::Connecting;
            self.look.notify_one();
        }
    }

    /// `used` takes no more calls, as one of them has found: `true` if that is news.
    pub(super) fn spent(&self, used: &Arc<Established<S>>) -> bool {
        // Another may have come up in the meantime.
        let current = self.established.compare_and_swap(used, None);
        let news = current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, used));
        if news {
            self.look.notify_one();
        }
        news
    }

    /// Tells the task that keeps it that something has changed.
    pub(super) fn look_again(&self) {
        self.look.notify_one();
    }

    /// Whether its instance is listed: one that is not keeps its connection for a while, and gets no
    /// other.
    pub(super) fn list(&self, listed: bool) {
        self.listed.store(listed, Ordering::Relaxed);
        self.look.notify_one();
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// Waits for a reason to look again.
    pub(super) async fn look(&self) {
        self.look.notified().await;
    }

    /// Whether `established` is what calls use.
    pub(super) fn uses(&self, established: &Arc<Established<S>>) -> bool {
        let current = self.established.load();
        current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, established))
    }

    pub(super) fn connecting(&self) {
        self.established.store(None);
        *self.connectivity.lock() = Connectivity::Connecting;
    }

    pub(super) fn is_connecting(&self) -> bool {
        matches!(*self.connectivity.lock(), Connectivity::Connecting)
    }

    pub(super) fn up(&self, established: Arc<Established<S>>) {
        *self.connectivity.lock() = Connectivity::Ready;
        self.established.store(Some(established));
    }

    pub(super) fn failed(&self, why: &str, at: Instant) {
        self.established.store(None);
        let why = Arc::from(why);
        *self.connectivity.lock() = Connectivity::Failed { at, why };
    }
}
