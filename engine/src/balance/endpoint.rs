//! One instance as the balancer sees it: what it costs, whether it takes calls, its connection.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use http::uri::Authority;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{gate::Gate, link::Link, stats::Record};
use crate::discovery::Instance;

/// After this many answers an instance is as good as any other.
const PROVEN: u32 = 64;

/// One instance, alive as long as it is listed or a call on it runs.
#[derive(Debug)]
pub(super) struct Endpoint<S> {
    address: Authority,
    /// Changes with the list; the connection and the statistics stay.
    weight: AtomicU32,
    in_flight: AtomicU32,
    streams: AtomicU32,
    /// Answers since it joined or came back.
    proven: AtomicU32,
    record: Mutex<Record>,
    gate: Mutex<Gate>,
    link: Arc<Link<S>>,
    /// The task that keeps the link.
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl<S> Endpoint<S> {
    pub(super) fn new(instance: &Instance, now: Instant) -> Self {
        Self {
            address: instance.address.clone(),
            weight: AtomicU32::new(instance.weight),
            in_flight: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            proven: AtomicU32::new(0),
            record: Mutex::new(Record::new(now)),
            gate: Mutex::new(Gate::new()),
            link: Arc::new(Link::new()),
            keeper: Mutex::new(None),
        }
    }

    pub(super) fn address(&self) -> &Authority {
        &self.address
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many streams are open on it, idle ones too.
    pub(super) fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn stream_begins(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stream_ends(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// It has answered.
    pub(super) fn prove(&self) {
        // The count is read and written apart: one too few costs nothing.
        let proven = self.proven.load(Ordering::Relaxed);
        if proven < PROVEN {
            self.proven.store(proven + 1, Ordering::Relaxed);
        }
    }

    /// Slow start: an instance that has just joined, or come back, gets one call at first, and one more
    /// at a time for each answer. Until it answers it may be cold, and a call on it slow.
    pub(super) fn has_room(&self) -> bool {
        let proven = self.proven.load(Ordering::Relaxed);
        proven >= PROVEN || self.in_flight() <= proven
    }

    /// It came back: what it was like before is over.
    pub(super) fn start_over(&self, now: Instant) {
        self.starts_slowly();
        self.record().forget_answers(now);
    }

    /// It has joined, or is connected anew.
    pub(super) fn starts_slowly(&self) {
        self.proven.store(0, Ordering::Relaxed);
    }

    /// See [`Record::cost`]; `mean_weight` is that of all instances, `typical` what a call on any of
    /// them takes, in seconds.
    pub(super) fn cost(&self, mean_weight: f64, typical: f64, now: Instant) -> f64 {
        let weight = f64::from(self.weight()) / mean_weight;
        let record = self.record.lock();
        record.cost(self.in_flight(), weight, typical, now)
    }

    /// The same for a call that has the instance to itself.
    pub(super) fn cost_of_one(&self, typical: f64, now: Instant) -> f64 {
        self.record.lock().cost(0, 1.0, typical, now)
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock()
    }

    pub(super) fn link(&self) -> &Arc<Link<S>> {
        &self.link
    }

    /// Has `keeper` end with the endpoint.
    pub(super) fn kept_by(&self, keeper: AbortOnDropHandle<()>) {
        *self.keeper.lock() = Some(keeper);
    }
}
