//! What a rule remembers, and its verdict. Time is an argument of fixed windows; governor reads the
//! clock that it was given, which tests can pause.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::StateStore,
};
use tokio::time::Instant;

use super::{
    config::{Algorithm, Rule},
    keys::Keys,
};

/// The buckets of one rule, one per client.
#[derive(Debug)]
pub(super) enum Buckets {
    Gcra(Gcra),
    FixedWindow(FixedWindow),
}

impl Buckets {
    pub(super) fn new(rule: &Rule, max_keys: usize, now: Instant) -> Self {
        match rule.algorithm {
            Algorithm::Gcra => Self::Gcra(Gcra::new(rule, max_keys)),
            Algorithm::FixedWindow => Self::FixedWindow(FixedWindow {
                calls: rule.calls,
                period: rule.period,
                start: now,
                keys: Keys::new(max_keys),
            }),
        }
    }

    /// Takes `cost` from the bucket of `key`.
    ///
    /// # Errors
    /// How long to wait, if it does not hold so much.
    pub(super) fn take(&self, key: u64, cost: NonZeroU32, now: Instant) -> Result<(), Duration> {
        match self {
            Self::Gcra(gcra) => gcra.take(key, cost, now),
            Self::FixedWindow(window) => window.take(key, cost, now),
        }
    }

    /// How many clients are remembered.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Gcra(gcra) => gcra.keys.len(),
            Self::FixedWindow(window) => window.keys.len(),
        }
    }
}

/// The generic cell rate algorithm, from governor, over bounded keys.
#[derive(Debug)]
pub(super) struct Gcra {
    limiter: RateLimiter<u64, SharedKeys, TokioClock, NoOpMiddleware<Nanos>>,
    keys: Arc<Keys<u64>>,
}

impl Gcra {
    fn new(rule: &Rule, max_keys: usize) -> Self {
        let calls = NonZeroU32::new(rule.calls).unwrap_or(NonZeroU32::MIN);
        let one = (rule.period / calls.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(one)
            .unwrap_or(Quota::per_second(calls))
            .allow_burst(calls);
        let keys = Arc::new(Keys::new(max_keys));
        let store = SharedKeys(Arc::clone(&keys));
        Self {
            limiter: RateLimiter::new(quota, store, TokioClock(Instant::now())),
            keys,
        }
    }

    fn take(&self, key: u64, cost: NonZeroU32, now: Instant) -> Result<(), Duration> {
        match self.limiter.check_key_n(&key, cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.limiter.clock().at(now))),
            // Validation keeps the cost within the limit.
            Err(_) => Err(Duration::MAX),
        }
    }
}

/// governor's state, kept in [`Keys`]: the theoretical arrival time of each key.
#[derive(Debug)]
struct SharedKeys(Arc<Keys<u64>>);

impl StateStore for SharedKeys {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.update(*key, |old| match f(old.map(Nanos::from)) {
            Ok((outcome, next)) => (Some(next.as_u64()), Ok(outcome)),
            Err(error) => (None, Err(error)),
        })
    }
}

/// tokio's clock, so that tests can pause it.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl TokioClock {
    fn at(&self, now: Instant) -> Nanos {
        Nanos::from(now.saturating_duration_since(self.0))
    }
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.at(Instant::now())
    }
}

/// So many calls in a window that the first of them opens.
#[derive(Debug)]
pub(super) struct FixedWindow {
    calls: u32,
    period: Duration,
    start: Instant,
    /// The calls in the window, and when it opened, in nanoseconds since `start`: in this order,
    /// so that a client that used its window up is forgotten last.
    keys: Keys<(u32, u64)>,
}

impl FixedWindow {
    fn take(&self, key: u64, cost: NonZeroU32, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let period = self.period.as_nanos() as u64;
        self.keys.update(key, |old| {
            let (used, opened) = match old {
                Some((used, opened)) if now - opened.min(now) < period => (used, opened),
                _ => (0, now),
            };
            match used.checked_add(cost.get()) {
                Some(used) if used <= self.calls => (Some((used, opened)), Ok(())),
                _ => (
                    None,
                    Err(Duration::from_nanos((opened + period).saturating_sub(now))),
                ),
            }
        })
    }
}
