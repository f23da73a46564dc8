//! The instances at one moment, sorted so that a pick takes constant time whatever their number.
//!
//! A view is never changed, only replaced: when the list changes, when an instance connects or loses
//! its connection, and when one is ejected, probed or returns. Those are rare; picks are not.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use http::uri::Authority;
use tokio::time::Instant;

use super::{dial::KEEP, endpoint::Endpoint, gate::State, sampler::Sampler};
use crate::{
    call::EjectionConfig,
    discovery::{Instance, Members},
};

/// How many instances that left the list are remembered, beside as many as are listed.
const REMEMBERED: usize = 64;

#[derive(Debug)]
pub(super) struct View<S> {
    /// Whether discovery has answered.
    pub(super) known: bool,
    /// Every listed instance.
    pub(super) all: Vec<Arc<Endpoint<S>>>,
    /// Those that take calls: connected, and not ejected.
    pub(super) rotation: Vec<Arc<Endpoint<S>>>,
    /// Mean weight of those.
    pub(super) mean_weight: f64,
    /// Draws from `rotation`.
    pub(super) sampler: Sampler,
    /// Connected ones that wait for their probe.
    pub(super) ejected: Vec<Arc<Endpoint<S>>>,
    /// When the first of them may be probed.
    pub(super) next_probe: Option<Instant>,
    /// How many are connected.
    pub(super) connected: usize,
    /// How many of those take no calls: ejected or being probed.
    out: usize,
    /// Those that left the list, and when: one that comes back within minutes is no stranger.
    left: Vec<(Instant, Arc<Endpoint<S>>)>,
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
            connected: 0,
            out: 0,
            left: vec![],
        }
    }

    /// The view of `members`. Instances that were listed before, or have left the list minutes ago,
    /// keep their endpoint, and with it their connection, statistics and gate; of others it is made
    /// by `join`.
    pub(super) fn of(
        &self,
        members: &Members,
        config: &EjectionConfig,
        now: Instant,
        join: impl Fn(&Instance) -> Arc<Endpoint<S>>,
    ) -> Self {
        let list = match members {
            Members::Known(list) => &**list,
            Members::Unknown => &[],
        };
        let mut known: HashMap<&Authority, &Arc<Endpoint<S>>> = self
            .kept()
            .map(|endpoint| (endpoint.address(), endpoint))
            .collect();
        let mut seen = HashSet::new();
        let list = list
            .iter()
            .filter(|instance| seen.insert(&instance.address));
        let all = list.map(|instance| {
            let Some(endpoint) = known.remove(&instance.address) else {
                return join(instance);
            };
            endpoint.set_weight(instance.weight);
            endpoint.link().list(true);
            Arc::clone(endpoint)
        });
        let all: Vec<_> = all.collect();
        let before = self.left.iter().filter(|(since, endpoint)| {
            now.saturating_duration_since(*since) < KEEP && known.contains_key(endpoint.address())
        });
        let mut left: Vec<_> = before.cloned().collect();
        let leaving = self.all.iter();
        for endpoint in leaving.filter(|endpoint| known.contains_key(endpoint.address())) {
            endpoint.link().list(false);
            left.push((now, Arc::clone(endpoint)));
        }
        let too_many = left.len().saturating_sub(all.len() + REMEMBERED);
        left.drain(..too_many);
        Self {
            left,
            known: matches!(members, Members::Known(_)),
            ..Self::sorted(all, config)
        }
    }

    /// The same instances, sorted again by the state of their gates and links.
    pub(super) fn resorted(&self, config: &EjectionConfig) -> Self {
        Self {
            left: self.left.clone(),
            known: self.known,
            ..Self::sorted(self.all.clone(), config)
        }
    }

    /// Those that keep a connection: the listed ones, and those that left minutes ago.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Arc<Endpoint<S>>> {
        let left = self.left.iter().map(|(_, endpoint)| endpoint);
        self.all.iter().chain(left)
    }

    fn sorted(all: Vec<Arc<Endpoint<S>>>, config: &EjectionConfig) -> Self {
        let mut connected = Vec::with_capacity(all.len());
        connected.extend(
            all.iter()
                .filter(|endpoint| endpoint.link().is_ready())
                .cloned(),
        );
        let mut rotation = Vec::with_capacity(connected.len());
        let mut ejected = Vec::new();
        let mut next_probe: Option<Instant> = None;
        for endpoint in &connected {
            match endpoint.gate().state() {
                State::InRotation { .. } => rotation.push(Arc::clone(endpoint)),
                State::Ejected { until } => {
                    ejected.push(Arc::clone(endpoint));
                    next_probe = Some(next_probe.map_or(until, |next| next.min(until)));
                }
                State::Probing => {}
            }
        }
        let out = connected.len() - rotation.len();
        let few = config.panic_ratio * connected.len() as f64;
        if (rotation.len() as f64) < few || rotation.is_empty() {
            // Panic: too few are left, so all take calls. Never "no instance" on a list.
            rotation.clone_from(&connected);
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
            connected: connected.len(),
            out,
            left: vec![],
        }
    }

    /// Whether one more instance may be ejected. The cap is for instances that answer badly: those
    /// that cannot be reached get no calls as it is.
    pub(super) fn may_eject(&self, config: &EjectionConfig) -> bool {
        (self.out + 1) as f64 <= config.max_ratio * self.connected as f64
    }
}
