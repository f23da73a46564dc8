//! The breaker shared by concurrent calls: a lock around the machine, permits that cannot be
//! forgotten, and word of every change.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

use tokio::time::Instant;

use super::state::{Machine, Status, Token};
use crate::call::{CircuitOpen, Effect, Guard, Outcome, now};

/// A lock that is held for the length of a closure, so never across an await. A trait, so that
/// the tests can put a model checker's lock in place of the real one.
pub(crate) trait Lock<T>: Send + Sync + 'static {
    /// A lock around `value`.
    fn new(value: T) -> Self;

    /// Runs `act` alone.
    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R;
}

impl<T: Send + 'static> Lock<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.lock())
    }
}

/// Receives every change of state, in order and under the lock: it must not wait.
pub(super) type OnChange = Box<dyn Fn(Status) + Send + Sync>;

/// The breaker of one service.
pub(crate) struct Core<L> {
    machine: L,
    on_change: OnChange,
}

impl<L> fmt::Debug for Core<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Core")
    }
}

impl<L: Lock<Machine>> Core<L> {
    pub(super) fn new(machine: Machine, on_change: OnChange) -> Self {
        Self {
            machine: L::new(machine),
            on_change,
        }
    }

    /// Asks to make one call.
    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Result<Permit<L>, CircuitOpen> {
        let token = self.step(|machine| machine.admit(now, &mut rand::rng()))?;
        Ok(Permit {
            core: Arc::clone(self),
            token: Some(token),
        })
    }

    /// Runs a step of the machine and, still under the lock, reports the change it made.
    pub(super) fn step<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        self.machine.with(|machine| {
            let before = machine.generation();
            let result = act(machine);
            if machine.generation() != before {
                (self.on_change)(machine.status());
            }
            result
        })
    }
}

/// The right to make one call; dropped without an outcome, it is given back.
#[derive(Debug)]
pub(crate) struct Permit<L: Lock<Machine>> {
    core: Arc<Core<L>>,
    token: Option<Token>,
}

impl<L: Lock<Machine>> Permit<L> {
    /// Tells the outcome. Only the first counts.
    pub(super) fn record(&mut self, effect: Effect, now: Instant) {
        if let Some(token) = self.token.take() {
            self.core
                .step(|machine| machine.record(token, effect, now, &mut rand::rng()));
        }
    }
}

impl<L: Lock<Machine>> Drop for Permit<L> {
    fn drop(&mut self) {
        if self.token.is_some() {
            self.record(Effect::Neutral, now());
        }
    }
}

impl<L: Lock<Machine>> Guard for Permit<L> {
    /// A stream may last for hours; its first message is the outcome.
    fn message(&mut self, at: Instant) {
        self.record(Effect::Success, at);
    }

    fn end(&mut self, outcome: Outcome, at: Instant) {
        self.record(outcome.effect, at);
    }

    fn outlives_message(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::{super::State, *};
    use crate::call::BreakerConfig as Config;

    impl<T: Send + 'static> Lock<T> for shuttle::sync::Mutex<T> {
        fn new(value: T) -> Self {
            Self::new(value)
        }

        fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
            act(&mut self.lock().unwrap())
        }
    }

    type Modelled = Core<shuttle::sync::Mutex<Machine>>;

    fn tripped(config: Config) -> (Arc<Modelled>, Instant) {
        let now = Instant::now();
        let machine = Machine::new(config, Duration::from_secs(3600), now);
        let core = Arc::new(Modelled::new(machine, Box::new(|_| {})));
        while let Ok(mut permit) = core.admit(now) {
            permit.record(Effect::Failure, now);
        }
        (core, now + Duration::from_secs(5))
    }

    fn state(core: &Modelled) -> State {
        core.step(|machine| machine.status().state)
    }

    #[test]
    fn whatever_the_interleaving_half_open_never_lets_more_through_than_it_may() {
        shuttle::check_random(
            || {
                let config = Config {
                    half_open_probes: 2,
                    success_threshold: 2,
                    ..Config::default()
                };
                let (core, now) = tripped(config);
                let out = Arc::new(AtomicUsize::new(0));
                let callers: Vec<_> = (0..4)
                    .map(|n| {
                        let (core, out) = (Arc::clone(&core), Arc::clone(&out));
                        shuttle::thread::spawn(move || {
                            let Ok(mut permit) = core.admit(now) else {
                                return;
                            };
                            if state(&core) == State::HalfOpen {
                                assert!(out.fetch_add(1, Ordering::SeqCst) < 2);
                                shuttle::thread::yield_now();
                                out.fetch_sub(1, Ordering::SeqCst);
                            }
                            match n {
                                // Leaves.
                                0 => drop(permit),
                                _ => permit.record(Effect::Success, now),
                            }
                        })
                    })
                    .collect();
                callers
                    .into_iter()
                    .for_each(|caller| caller.join().unwrap());
            },
            2_000,
        );
    }

    #[test]
    fn whatever_the_interleaving_permits_of_callers_that_leave_all_come_back() {
        shuttle::check_random(
            || {
                let (core, now) = tripped(Config::default());
                let callers: Vec<_> = (0..3)
                    .map(|_| {
                        let core = Arc::clone(&core);
                        shuttle::thread::spawn(move || drop(core.admit(now)))
                    })
                    .collect();
                callers
                    .into_iter()
                    .for_each(|caller| caller.join().unwrap());
                let mut probe = core.admit(now).expect("a free permit");
                probe.record(Effect::Success, now);
                assert_eq!(state(&core), State::Closed);
            },
            2_000,
        );
    }
}
