//! One instance as the balancer sees it: what it costs, whether it takes calls, its connection.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwapOption;
use http::uri::Authority;
use parking_lot::{Mutex, MutexGuard};
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
    channel: ArcSwapOption<S>,
    /// Held while the channel is made or forgotten, so that none is made twice.
    making: Mutex<()>,
}

impl<S> Endpoint<S> {
    pub(super) fn new(instance: &Instance, now: Instant) -> Self {
        Self {
            address: instance.address.clone(),
            weight: AtomicU32::new(instance.weight),
            in_flight: AtomicU32::new(0),
            estimate: Mutex::new(Estimate::new(now)),
            gate: Mutex::new(Gate::new()),
            channel: ArcSwapOption::empty(),
            making: Mutex::default(),
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
        self.estimate.lock().cost(self.in_flight(), weight, now)
    }

    pub(super) fn estimate(&self) -> MutexGuard<'_, Estimate> {
        self.estimate.lock()
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock()
    }

    /// Its channel, made by `connect` if it has none.
    pub(super) fn channel(&self, connect: impl FnOnce(&Authority) -> S) -> S
    where
        S: Clone,
    {
        if let Some(channel) = &*self.channel.load() {
            return S::clone(channel);
        }
        let _making = self.making.lock();
        if let Some(channel) = &*self.channel.load() {
            return S::clone(channel);
        }
        let channel = connect(&self.address);
        self.channel.store(Some(Arc::new(channel.clone())));
        channel
    }

    /// The next call makes another channel; calls on the present one keep it to their end.
    pub(super) fn forget_channel(&self) {
        let _making = self.making.lock();
        self.channel.store(None);
    }
}
