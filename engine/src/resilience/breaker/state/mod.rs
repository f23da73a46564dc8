//! The breaker's decisions: closed, open, half-open. Pure: time and randomness are arguments.
//!
//! Vocabulary of Nygard's "Release It!": *closed* passes calls, *open* rejects them, *half-open*
//! lets a few through to find out.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use super::window::Window;
use crate::{
    call::{BreakerConfig as Config, BreakerMode as Mode, CircuitOpen, Effect},
    types::Backoff,
};

/// The state machine of one breaker.
#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    /// How long a probe may take before it counts as hung.
    probe_timeout: Duration,
    state: Inner,
    /// Changes with every transition: what calls from before it say is not listened to.
    generation: u64,
    /// Times in a row that it opened without having been closed for long, for the doubling.
    opens: u32,
    /// When the state last changed.
    since: Instant,
    /// Calls let through so far.
    admitted: u64,
}

#[derive(Debug)]
enum Inner {
    Closed {
        window: Window,
        run: Run,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        /// Probes in flight.
        probes: u32,
        successes: u32,
        /// When the last probe was let through.
        last: Instant,
    },
}

/// Failures in a row: of calls that were let through one after the other, each after the run
/// began. Calls that were in flight together and fail together, because their connection died,
/// are one event and not many.
#[derive(Clone, Copy, Debug)]
struct Run {
    failures: u32,
    /// The first call that counts for it.
    from: u64,
    began: Instant,
}

impl Run {
    fn none(now: Instant) -> Self {
        Self {
            failures: 0,
            from: 0,
            began: now,
        }
    }

    /// A call failed, the `call`-th that was let through, of `admitted` so far.
    /// With a `window` a run has to fit into it.
    fn extend(&mut self, call: u64, admitted: u64, window: Option<Duration>, now: Instant) {
        let stale = window.is_some_and(|window| now.duration_since(self.began) > window);
        if self.failures == 0 || stale {
            *self = Self {
                failures: 1,
                from: admitted,
                began: now,
            };
        } else if call >= self.from {
            self.failures = self.failures.saturating_add(1);
        }
    }
}

/// The state as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls pass.
    HalfOpen,
}

impl State {
    /// Every state.
    pub(crate) const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The state in lower case, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What can be known of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// What it does at present.
    pub(crate) state: State,
    /// When that changed last.
    pub(crate) since: Instant,
    /// Whether an operator decides.
    pub(crate) mode: Mode,
}

/// The right to make one call; it has to be given back by [`Machine::record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    generation: u64,
    /// Its place among the calls that were let through.
    call: u64,
}

impl Machine {
    /// A closed breaker (or whatever `config.mode` says).
    pub(crate) fn new(config: Config, probe_timeout: Duration, now: Instant) -> Self {
        let state = Inner::closed(&config, now);
        Self {
            config,
            probe_timeout,
            state,
            generation: 0,
            opens: 0,
            since: now,
            admitted: 0,
        }
    }

    /// Asks to make one call.
    ///
    /// # Errors
    /// [`CircuitOpen`] if it may not be made.
    pub(crate) fn admit(&mut self, now: Instant, rng: &mut impl Rng) -> Result<Token, CircuitOpen> {
        match self.config.mode {
            Mode::Open => return Err(CircuitOpen),
            Mode::Closed => return Ok(self.token()),
            Mode::Auto => {}
        }
        if let Inner::Open { until } = self.state
            && until <= now
        {
            self.enter(Inner::half_open(now), now);
        }
        let (probes, last) = match &mut self.state {
            Inner::Closed { .. } => return Ok(self.token()),
            Inner::Open { .. } => return Err(CircuitOpen),
            Inner::HalfOpen { probes, last, .. } => (probes, last),
        };
        if *probes < self.config.half_open_probes {
            *probes += 1;
            *last = now;
            return Ok(self.token());
        }
        // Every probe is out for longer than a whole call may take: no answer is an answer.
        if *last + self.probe_timeout <= now {
            self.open(now, rng);
        }
        Err(CircuitOpen)
    }

    /// Takes the verdict of a call that was let through. [`Effect::Neutral`] gives its right back
    /// and says nothing: the caller left, or it was the caller's fault.
    pub(crate) fn record(
        &mut self,
        token: Token,
        effect: Effect,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        if token.generation != self.generation {
            return;
        }
        let config = &self.config;
        match &mut self.state {
            Inner::Closed { window, run } => {
                // "So many in a row" means just that, however rare the calls.
                let run_window = config
                    .consecutive_failures
                    .is_none()
                    .then_some(config.window);
                match effect {
                    Effect::Neutral => return,
                    Effect::Success | Effect::Declined => *run = Run::none(now),
                    Effect::Failure => run.extend(token.call, self.admitted, run_window, now),
                    // In the ratio only: an upstream that sheds is alive.
                    Effect::Overload => {}
                }
                let bad = matches!(effect, Effect::Failure | Effect::Overload);
                window.record(bad, now);
                let opens = bad
                    && match config.consecutive_failures {
                        Some(limit) => run.failures >= limit,
                        None => {
                            // Nothing but failures for as long as it takes to judge is clear
                            // whatever came before.
                            run.failures >= config.min_calls
                                || window.reaches(config.failure_ratio, config.min_calls, now)
                        }
                    };
                // A closed breaker that an operator keeps closed goes on counting.
                if opens && config.mode == Mode::Auto {
                    self.open(now, rng);
                }
            }
            Inner::HalfOpen {
                probes, successes, ..
            } => {
                *probes = probes.saturating_sub(1);
                match effect {
                    Effect::Neutral => {}
                    Effect::Failure | Effect::Overload => self.open(now, rng),
                    // Whatever it answers, it is there.
                    Effect::Success | Effect::Declined => {
                        *successes += 1;
                        if *successes >= config.success_threshold {
                            let closed = Inner::closed(config, now);
                            self.enter(closed, now);
                        }
                    }
                }
            }
            Inner::Open { .. } => {}
        }
    }

    /// Makes another configuration effective. The state is kept; a window of another length starts
    /// empty. Leaving a mode that an operator chose goes through half-open: what the upstream is
    /// like is not known then. Returns whether what was counted is still known.
    pub(crate) fn reconfigure(
        &mut self,
        config: Config,
        probe_timeout: Duration,
        now: Instant,
    ) -> bool {
        let old = std::mem::replace(&mut self.config, config);
        self.probe_timeout = probe_timeout;
        if old.mode == Mode::Open && self.config.mode == Mode::Auto {
            self.enter(Inner::half_open(now), now);
        } else if old.mode != self.config.mode {
            let closed = Inner::closed(&self.config, now);
            self.enter(closed, now);
        } else if old.window != self.config.window
            && let Inner::Closed { window, .. } = &mut self.state
        {
            *window = Window::new(self.config.window, now);
            return false;
        }
        true
    }

    /// What can be known of it.
    pub(crate) fn status(&self) -> Status {
        let state = match (self.config.mode, &self.state) {
            (Mode::Open, _) | (Mode::Auto, Inner::Open { .. }) => State::Open,
            (Mode::Closed, _) | (Mode::Auto, Inner::Closed { .. }) => State::Closed,
            (Mode::Auto, Inner::HalfOpen { .. }) => State::HalfOpen,
        };
        Status {
            state,
            since: self.since,
            mode: self.config.mode,
        }
    }

    /// Changes with every transition.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    fn token(&mut self) -> Token {
        self.admitted += 1;
        Token {
            generation: self.generation,
            call: self.admitted - 1,
        }
    }

    fn open(&mut self, now: Instant, rng: &mut impl Rng) {
        // One that had been closed for longer than it can stay open starts over.
        let was_closed = matches!(self.state, Inner::Closed { .. });
        if was_closed && now.duration_since(self.since) > self.config.open_for_max {
            self.opens = 0;
        }
        // Jitter: the breakers of a fleet must not probe together.
        let period = Backoff {
            base: self.config.open_for,
            max: self.config.open_for_max,
            jitter: 0.9..=1.0,
        }
        .pause(self.opens, rng);
        self.opens = self.opens.saturating_add(1);
        let until = now + period;
        self.enter(Inner::Open { until }, now);
    }

    fn enter(&mut self, state: Inner, now: Instant) {
        self.state = state;
        self.generation += 1;
        self.since = now;
    }
}

impl Inner {
    fn closed(config: &Config, now: Instant) -> Self {
        Self::Closed {
            window: Window::new(config.window, now),
            run: Run::none(now),
        }
    }

    fn half_open(now: Instant) -> Self {
        Self::HalfOpen {
            probes: 0,
            successes: 0,
            last: now,
        }
    }
}

#[cfg(test)]
mod tests;
