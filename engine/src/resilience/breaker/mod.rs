//! The circuit breaker of a service: an upstream that keeps failing is not called until it is well.
//!
//! It stands inside the retries, so that each attempt counts, and around the attempt's timeout, so
//! that a hang is an outcome and not a caller that left. [`state`] decides, [`self::core`] shares the
//! decision among concurrent calls, this file is the tower layer, the log line and the metrics.

mod core;
pub(super) mod state;
mod window;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

pub use self::state::State;
pub(crate) use self::state::Status;
use self::{
    core::{Core, Permit},
    state::Machine,
};
use crate::call::{Around, BreakerConfig, Call, CallService, Failed, Guarded, now};

type RealLock = Mutex<Machine>;

/// The breaker of one service. Clones share it.
#[derive(Clone)]
pub(crate) struct Breaker(Arc<Inner>);

struct Inner {
    name: &'static str,
    core: Arc<Core<RealLock>>,
    status: watch::Receiver<Status>,
    transitions: Arc<Transitions>,
}

/// A breaker has changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerChange {
    /// The upstream's name in the configuration.
    pub upstream: &'static str,
    /// The state it was in.
    pub from: State,
    /// The state it is in.
    pub to: State,
}

/// Is told of every change, in order, on the thread of the call that made it: it must not wait.
pub(crate) type Listener = Arc<dyn Fn(&BreakerChange) + Send + Sync>;

/// How often each state was entered.
#[derive(Debug, Default)]
struct Transitions([AtomicU64; 3]);

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("status", &self.status())
            .finish()
    }
}

impl Breaker {
    /// A closed breaker for the service `name`, whose changes `listeners` are told. A probe that takes longer than `probe_timeout`
    /// counts as hung.
    pub(crate) fn new(
        name: &'static str,
        config: &BreakerConfig,
        probe_timeout: Duration,
        listeners: &[Listener],
    ) -> Self {
        let listeners = listeners.to_vec();
        let machine = Machine::new(config.clone(), probe_timeout, Instant::now());
        let (sender, status) = watch::channel(machine.status());
        let transitions = Arc::new(Transitions::default());
        let counted = Arc::clone(&transitions);
        let on_change = Box::new(move |status: Status| {
            let was = sender.send_replace(status);
            if was.state != status.state {
                counted.0[status.state as usize].fetch_add(1, Ordering::Relaxed);
                log_transition(name, was, status);
                let change = BreakerChange {
                    upstream: name,
                    from: was.state,
                    to: status.state,
                };
                listeners.iter().for_each(|listener| listener(&change));
            }
        });
        Self(Arc::new(Inner {
            name,
            core: Arc::new(Core::new(machine, on_change)),
            status,
            transitions,
        }))
    }

    /// Its state, since when, and who decides.
    pub(crate) fn status(&self) -> Status {
        *self.0.status.borrow()
    }

    /// Receives every change of state.
    #[cfg(test)]
    pub(crate) fn subscribe(&self) -> watch::Receiver<Status> {
        self.0.status.clone()
    }

    /// How often `state` was entered.
    pub(crate) fn transitions_to(&self, state: State) -> u64 {
        self.0.transitions.0[state as usize].load(Ordering::Relaxed)
    }

    /// Makes another configuration effective; the state is kept where it can be, see
    /// [`Machine::reconfigure`].
    pub(crate) fn reconfigure(&self, config: &BreakerConfig, probe_timeout: Duration) {
        let now = now();
        let kept = self
            .0
            .core
            .step(|machine| machine.reconfigure(config.clone(), probe_timeout, now));
        if !kept {
            info!(
                upstream = self.0.name,
                "the circuit breaker's window has another length: it counts from zero"
            );
        }
    }
}

fn log_transition(upstream: &str, was: Status, status: Status) {
    let lasted = (status.since - was.since).as_millis() as u64;
    let lasted = humantime::format_duration(Duration::from_millis(lasted));
    match status.state {
        State::Open => {
            warn!(upstream, was = was.state.as_str(), %lasted, "circuit breaker open: the upstream is not called for a while")
        }
        State::HalfOpen => {
            info!(upstream, %lasted, "circuit breaker half-open: probing the upstream")
        }
        State::Closed => {
            info!(upstream, %lasted, "circuit breaker closed: the upstream is called again")
        }
    }
}

impl<S: CallService> Around<S> for Breaker
where
    S::Future: Unpin,
{
    type Future = Guarded<S::Future, Permit<RealLock>>;

    fn around(&self, inner: &mut S, mut call: Call) -> Self::Future {
        let now = now();
        match self.0.core.admit(now) {
            Ok(permit) => {
                if call.context.span.is_recording() {
                    call.breaker = Some(self.status().state.as_str());
                }
                Guarded::running(inner.call(call), permit)
            }
            Err(open) => Guarded::refused(Failed::unsent(open, now)),
        }
    }
}
