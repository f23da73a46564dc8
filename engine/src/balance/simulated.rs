//! The balancer without sockets, tasks and clock: who simulates a fleet says what time it is, who is
//! connected, and how attempts end. What is decided is the balancer's own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::uri::Authority;
use rand::Rng;
use tokio::time::Instant;

use super::{
    Shared, attempt::Attempt, dial::PAUSES, endpoint::Endpoint, guard::InFlight, picker::Wanted,
    view::View,
};
use crate::{
    call::{Config, Outcome, transport::Established},
    discovery::{Instance, Members},
};

/// How an instance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As the balancer does.
    Ours,
    /// Of two connected ones that with fewer calls in flight, as Envoy's least-request has it.
    LeastRequest,
    /// Each connected one in turn, as gRPC's `round_robin` has it.
    RoundRobin,
}

/// A balancer.
pub(crate) struct Simulated {
    shared: Shared<()>,
    choice: Choice,
    turn: AtomicUsize,
}

/// An attempt on its way.
pub(crate) struct Sent {
    address: Authority,
    attempt: Attempt<()>,
    in_flight: InFlight<()>,
}

impl Sent {
    /// Where to.
    pub(crate) fn address(&self) -> &Authority {
        &self.address
    }
}

impl Simulated {
    /// One without instances.
    pub(crate) fn new(config: &Config, choice: Choice) -> Self {
        Self {
            shared: Shared::new("fleet", config),
            choice,
            turn: AtomicUsize::new(0),
        }
    }

    /// Uses `list` from now on; returns who has to be connected to.
    pub(crate) fn apply(&self, list: Arc<[Instance]>, now: Instant) -> Vec<Authority> {
        let joined = std::cell::RefCell::new(Vec::new());
        let join = |instance: &Instance| {
            joined.borrow_mut().push(instance.address.clone());
            Arc::new(Endpoint::new(instance, now))
        };
        let members = Members::Known(list);
        self.shared
            .replace(|view, config| view.of(&members, config, now, join));
        joined.into_inner()
    }

    /// Those at `addresses` have come up, if they are listed.
    pub(crate) fn up(&self, addresses: &[Authority]) {
        self.each(addresses, |endpoint| {
            endpoint.starts_slowly();
            endpoint.link().up(Arc::new(Established::alone(())));
        });
    }

    /// Those at `addresses` have no connection.
    pub(crate) fn down(&self, addresses: &[Authority], now: Instant) {
        self.each(addresses, |endpoint| endpoint.link().failed("down", now));
    }

    /// How long to wait before another attempt to connect, after so many.
    pub(crate) fn pause(failures: u32, rng: &mut impl Rng) -> std::time::Duration {
        PAUSES.pause(failures, rng)
    }

    /// Sends an attempt of a call that was tried on `tried`; `None` if nobody is connected.
    pub(crate) fn send(
        &self,
        tried: &[Authority],
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<Sent> {
        let wanted = Wanted {
            tried,
            streams: false,
        };
        let chosen = match self.choice {
            Choice::Ours => self.shared.choose(wanted, now, rng).ok()??,
            Choice::LeastRequest | Choice::RoundRobin => {
                let view = self.shared.view.load();
                let endpoint = self.baseline(&view, rng)?;
                super::Chosen {
                    endpoint: Arc::clone(endpoint),
                    established: endpoint.link().established()?,
                    probe: false,
                }
            }
        };
        Some(Sent {
            address: chosen.endpoint.address().clone(),
            in_flight: InFlight::begin(&chosen.endpoint),
            attempt: Attempt::begin(chosen, now),
        })
    }

    fn baseline<'v>(
        &self,
        view: &'v View<()>,
        rng: &mut impl Rng,
    ) -> Option<&'v Arc<Endpoint<()>>> {
        let len = view.rotation.len();
        if len == 0 {
            return None;
        }
        if self.choice == Choice::RoundRobin {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            return view.rotation.get(turn % len);
        }
        let (one, other) = (rng.random_range(0..len), rng.random_range(0..len));
        let (one, other) = (view.rotation.get(one)?, view.rotation.get(other)?);
        match other.in_flight() < one.in_flight() {
            true => Some(other),
            false => Some(one),
        }
    }

    /// `sent` has ended.
    pub(crate) fn ended(&self, sent: Sent, outcome: Outcome, at: Instant, rng: &mut impl Rng) {
        let Sent {
            mut attempt,
            in_flight,
            ..
        } = sent;
        drop(in_flight);
        // Who has no ejection learns nothing.
        if self.choice == Choice::Ours {
            attempt.end(&self.shared, outcome, at, rng);
        }
    }

    /// Those that are ejected.
    pub(crate) fn ejected(&self) -> Vec<Authority> {
        let view = self.shared.view.load();
        let out = view.ejected.iter();
        out.map(|endpoint| endpoint.address().clone()).collect()
    }

    /// How often an instance was ejected so far.
    pub(crate) fn ejections(&self) -> u64 {
        self.shared.ejections.load(Ordering::Relaxed)
    }

    fn each(&self, addresses: &[Authority], act: impl Fn(&Endpoint<()>)) {
        let wanted: std::collections::HashSet<&Authority> = addresses.iter().collect();
        for endpoint in &self.shared.view.load().all {
            if wanted.contains(endpoint.address()) {
                act(endpoint);
            }
        }
        self.shared.replace(|view, config| view.resorted(config));
    }
}
