//! The instances at one moment, sorted so that a pick takes constant time whatever their number.
//!
//! A view is never changed, only replaced: when the list changes, and when an instance is
//! ejected, probed or returns. Those are rare; picks are not.

use std::{collections::HashMap, sync::Arc};

use http::uri::Authority;
use tokio::time::Instant;

use super::{endpoint::Endpoint, gate::State, sampler::Sampler};
use crate::{
    call::EjectionConfig,
    discovery::{Instance, Members},
};

#[derive(Debug)]
pub(super) struct View<S> {
    /// Whether discovery has answered.
    pub(super) known: bool,
    /// Every listed instance.
    pub(super) all: Vec<Arc<Endpoint<S>>>,
    /// Those that take calls.
    pub(super) rotation: Vec<Arc<Endpoint<S>>>,
    /// Mean weight of those.
    pub(super) mean_weight: f64,
    /// Draws from `rotation`.
    pub(super) sampler: Sampler,
    /// Those that wait for their probe.
    pub(super) ejected: Vec<Arc<Endpoint<S>>>,
    /// When the first of them may be probed.
    pub(super) next_probe: Option<Instant>,
    /// How many take no calls: ejected or being probed.
    pub(super) out: usize,
}

impl<S> View<S> {
    pub(super) fn unknown() -> Self {
        Self {
            known: false,
            all: vec![],
            rotation: vec![],
            mean_weight: 1.0,
            sampler: Sampler::new(&[]),
            ejected: vec![],
            next_probe: None,
            out: 0,
        }
    }

    /// The view of `members`. Instances that were listed before keep their endpoint, and with it
    /// their connection, statistics and gate.
    pub(super) fn of(&self, members: &Members, config: &EjectionConfig, now: Instant) -> Self {
        let Members::Known(list) = members else {
            return Self::unknown();
        };
        let known: HashMap<&Authority, &Arc<Endpoint<S>>> = self
            .all
            .iter()
            .map(|endpoint| (endpoint.address(), endpoint))
            .collect();
        let endpoint = |instance: &Instance| match known.get(&instance.address) {
            Some(endpoint) => {
                endpoint.set_weight(instance.weight);
                Arc::clone(endpoint)
            }
            None => Arc::new(Endpoint::new(instance, now)),
        };
        Self::sorted(list.iter().map(endpoint).collect(), config)
    }

    /// The same instances, sorted again by the state of their gates.
    pub(super) fn resorted(&self, config: &EjectionConfig) -> Self {
        match self.known {
            true => Self::sorted(self.all.clone(), config),
            false => Self::unknown(),
        }
    }

    fn sorted(all: Vec<Arc<Endpoint<S>>>, config: &EjectionConfig) -> Self {
        let mut rotation = Vec::with_capacity(all.len());
        let mut ejected = Vec::new();
        let mut next_probe: Option<Instant> = None;
        for endpoint in &all {
            match endpoint.gate().state() {
                State::InRotation { .. } => rotation.push(Arc::clone(endpoint)),
                State::Ejected { until } => {
                    ejected.push(Arc::clone(endpoint));
                    next_probe = Some(next_probe.map_or(until, |next| next.min(until)));
                }
                State::Probing => {}
            }
        }
        let out = all.len() - rotation.len();
        if (rotation.len() as f64) < config.panic_ratio * all.len() as f64 || rotation.is_empty() {
            // Panic: too few are left, so all take calls. Never "no instance" on a list.
            rotation.clone_from(&all);
        }
        let weights: Vec<u32> = rotation.iter().map(|endpoint| endpoint.weight()).collect();
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        Self {
            known: true,
            all,
            mean_weight: total / weights.len().max(1) as f64,
            rotation,
            sampler: Sampler::new(&weights),
            ejected,
            next_probe,
            out,
        }
    }

    /// Whether one more instance may be ejected.
    pub(super) fn may_eject(&self, config: &EjectionConfig) -> bool {
        (self.out + 1) as f64 <= config.max_ratio * self.all.len() as f64
    }
}
