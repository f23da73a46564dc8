//! One instance as the balancer sees it: what it costs, whether it takes calls, its connection.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use http::uri::Authority;
use tokio::time::Instant;

use super::{gate::Gate, stats::Estimate};
use crate::discovery::Instance;

/// One instance, alive as long as it is listed or a call on it runs.
#[derive(Debug)]
pub(super) struct Endpoint<S> {
    address: Authority,
    /// Changes with the list; the connection and the statistics stay.
    weight: AtomicU32,
    in_flight: AtomicU32,
    estimate: Mutex<Estimate>,
    gate: Mutex<Gate>,
    /// Made by the first call: most of a long list may never be used.
    channel: OnceLock<S>,
}

impl<S> Endpoint<S> {
    pub(super) fn new(instance: &Instance, now: Instant) -> Self {
        Self {
            address: instance.address.clone(),
            weight: AtomicU32::new(instance.weight),
            in_flight: AtomicU32::new(0),
            estimate: Mutex::new(Estimate::new(now)),
            gate: Mutex::new(Gate::new()),
            channel: OnceLock::new(),
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

    /// See [`Estimate::cost`]; `mean_weight` is that of all instances.
    pub(super) fn cost(&self, mean_weight: f64, now: Instant) -> f64 {
        let weight = f64::from(self.weight()) / mean_weight;
        lock(&self.estimate).cost(self.in_flight(), weight, now)
    }

    pub(super) fn estimate(&self) -> MutexGuard<'_, Estimate> {
        lock(&self.estimate)
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    pub(super) fn channel(&self, connect: impl FnOnce(&Authority) -> S) -> &S {
        self.channel.get_or_init(|| connect(&self.address))
    }
}

/// Statistics that a panicking thread left behind are still statistics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
