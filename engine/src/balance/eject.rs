//! Which instances are ejected, within the cap, and what is said of it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::Rng;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Shared,
    endpoint::Endpoint,
    gate::{Cause, GateTransition},
    outlier::Answers,
};
use crate::call::EjectionConfig;

/// How often instances are compared with one another at most.
const COMPARE_EVERY: Duration = Duration::from_millis(250);

impl<S> Shared<S> {
    /// The answers of late of each instance that takes calls.
    fn answers(&self, now: Instant) -> Vec<(Arc<Endpoint<S>>, Answers)> {
        let view = self.view.load();
        let rotation = view.rotation.iter();
        rotation
            .map(|endpoint| (Arc::clone(endpoint), endpoint.record().answers(now)))
            .collect()
    }

    /// Ejects instances that answer far worse than their siblings, the worst first. Looked at now and
    /// then: it costs as much as there are instances.
    pub(super) fn compare(&self, now: Instant, rng: &mut impl Rng) {
        {
            let mut compared = self.compared.lock();
            if compared.is_some_and(|at| now.saturating_duration_since(at) < COMPARE_EVERY) {
                return;
            }
            *compared = Some(now);
        }
        let each = self.answers(now);
        let all = together(each.iter());
        // Those that are no worse than all together are the measure: where a tenth is wrong, an answer
        // of the wrong ones is no excuse for another.
        let good = together(each.iter().filter(|(_, own)| !own.far_below(all)));
        let mut odd: Vec<_> = each
            .into_iter()
            // What has answered well meanwhile has only a bad past.
            .filter(|(endpoint, own)| own.far_below(all) && endpoint.record().answered_badly())
            .filter_map(|(endpoint, own)| Some((own.below(good)?, endpoint)))
            .collect();
        odd.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        for (_, endpoint) in odd {
            let moved = self.eject_odd(&endpoint, now, rng);
            // It may be out already, or no more may be.
            if moved != GateTransition::Stayed {
                self.moved(&endpoint, moved);
            }
        }
    }

    /// Whether `endpoint`, whose probe was declined, was ejected for answers like that and its siblings
    /// do better.
    pub(super) fn still_odd(&self, endpoint: &Endpoint<S>, now: Instant) -> bool {
        let cause = endpoint.gate().cause();
        cause == Cause::Odd && together(self.answers(now).iter()).mostly_good()
    }

    fn eject_odd(
        &self,
        endpoint: &Endpoint<S>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> GateTransition {
        self.eject(|may_eject, config| {
            let mut gate = endpoint.gate();
            match may_eject {
                true => gate.eject_as(Cause::Odd, config, now, rng),
                false => GateTransition::Stayed,
            }
        })
    }

    /// Counts a failure of `endpoint`.
    pub(super) fn fail(
        &self,
        endpoint: &Endpoint<S>,
        probe: bool,
        foreign: bool,
        now: Instant,
        rng: &mut impl Rng,
    ) -> GateTransition {
        self.eject(|may_eject, config| {
            let mut gate = endpoint.gate();
            match foreign && may_eject && !probe {
                true => gate.eject_as(Cause::Foreign, config, now, rng),
                false => gate.failure(probe, may_eject, config, now, rng),
            }
        })
    }

    /// Does what may eject an instance. The cap on ejections is looked at and used up under one
    /// lock: failures that come together must not eject more than it allows.
    fn eject(&self, act: impl FnOnce(bool, &EjectionConfig) -> GateTransition) -> GateTransition {
        let replacing = self.replacing.lock();
        let options = self.options.load();
        let config = &options.ejection;
        let moved = act(self.view.load().may_eject(config), config);
        if let GateTransition::Ejected(_) = moved {
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
        if moved != GateTransition::Stayed {
            let next = self.view.load().resorted(config);
            self.view.store(Arc::new(next));
        }
        drop(replacing);
        moved
    }

    /// Says what happened to `endpoint` and sorts the view again.
    pub(super) fn moved(&self, endpoint: &Endpoint<S>, moved: GateTransition) {
        let (upstream, instance) = (self.name, endpoint.address());
        match moved {
            GateTransition::Ejected(duration) => warn!(
                %upstream, %instance,
                duration = %humantime::format_duration(std::time::Duration::from_millis(duration.as_millis() as u64)),
                because = endpoint.gate().cause().as_str(),
                "ejected: the instance gets no calls for a while"
            ),
            GateTransition::Returned => {
                info!(%upstream, %instance, "an ejected instance answers again and gets calls");
                self.replace(|view, config| view.resorted(config));
            }
            GateTransition::Stayed => self.replace(|view, config| view.resorted(config)),
        }
    }
}

fn together<'e, E: 'e>(some: impl Iterator<Item = &'e (E, Answers)>) -> Answers {
    some.fold(Answers::default(), |all, (_, answers)| all.and(*answers))
}
