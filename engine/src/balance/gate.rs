//! Whether an instance takes calls: ejection after failures in a row, and one probe to return.
//! Pure: time and randomness are arguments.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

use crate::{call::EjectionConfig, types::Backoff};

/// The pause after a probe without an outcome.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The state of one instance.
#[derive(Debug)]
pub(super) struct Gate {
    state: State,
    /// Ejections in a row, for the doubling.
    ejections: u32,
    /// How long the last ejection was, and when it ended.
    last: Option<(Duration, Instant)>,
    /// Why it was ejected last.
    cause: Cause,
}

/// Why an instance is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It failed several times in a row.
    Failures,
    /// It answers far worse than its siblings.
    Odd,
    /// What it answers is no gRPC.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Takes calls; had this many failures in a row.
    InRotation { failures: u32 },
    /// Takes no calls; may be probed from `until` on.
    Ejected { until: Instant },
    /// One call, the probe, decides whether it returns.
    Probing,
}

impl Cause {
    /// The cause in the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "it failed several times in a row",
            Self::Odd => "it answers far worse than its siblings",
            Self::Foreign => "what it answers is no gRPC",
        }
    }
}

/// Whether an event put the instance into or out of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GateTransition {
    /// As before.
    Stayed,
    /// It was ejected for this long.
    Ejected(Duration),
    /// It returned.
    Returned,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            state: State::InRotation { failures: 0 },
            ejections: 0,
            last: None,
            cause: Cause::Failures,
        }
    }

    /// Why it was ejected last.
    pub(super) fn cause(&self) -> Cause {
        self.cause
    }

    /// Ejects an instance in rotation at once, whatever came before.
    pub(super) fn eject_as(
        &mut self,
        cause: Cause,
        config: &EjectionConfig,
        now: Instant,
        rng: &mut impl Rng,
    ) -> GateTransition {
        match self.state {
            State::InRotation { .. } => {
                self.cause = cause;
                GateTransition::Ejected(self.eject(config, now, rng))
            }
            State::Probing | State::Ejected { .. } => GateTransition::Stayed,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes the one probe of an ejected instance whose time is over.
    pub(super) fn try_probe(&mut self, now: Instant) -> bool {
        match self.state {
            State::Ejected { until } if until <= now => {
                self.state = State::Probing;
                true
            }
            _ => false,
        }
    }

    /// A call succeeded; `probe` if it was the probe.
    pub(super) fn success(&mut self, probe: bool, now: Instant) -> GateTransition {
        match self.state {
            State::Probing if probe => {
                self.state = State::InRotation { failures: 0 };
                self.last = self.last.map(|(duration, _)| (duration, now));
                GateTransition::Returned
            }
            State::InRotation { .. } => {
                self.state = State::InRotation { failures: 0 };
                GateTransition::Stayed
            }
            // Calls from before the ejection say nothing about now.
            State::Probing | State::Ejected { .. } => GateTransition::Stayed,
        }
    }

    /// A call failed; `probe` if it was the probe. `may_eject` is false when the cap is reached.
    pub(super) fn failure(
        &mut self,
        probe: bool,
        may_eject: bool,
        config: &EjectionConfig,
        now: Instant,
        rng: &mut impl Rng,
    ) -> GateTransition {
        match self.state {
            State::Probing if probe => GateTransition::Ejected(self.eject(config, now, rng)),
            State::InRotation { failures } => {
                let failures = failures.saturating_add(1);
                if failures >= config.consecutive_failures && may_eject {
                    self.cause = Cause::Failures;
                    return GateTransition::Ejected(self.eject(config, now, rng));
                }
                self.state = State::InRotation { failures };
                GateTransition::Stayed
            }
            State::Probing | State::Ejected { .. } => GateTransition::Stayed,
        }
    }

    /// The probe ended without saying anything about the instance. Another may follow, but not at
    /// once: an instance that keeps saying nothing would be the probe's target of every call.
    pub(super) fn probe_given_back(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Ejected {
                until: now + PROBE_PAUSE,
            };
        }
    }

    fn eject(&mut self, config: &EjectionConfig, now: Instant, rng: &mut impl Rng) -> Duration {
        // One that took calls for longer than twice its last ejection starts over. One that was
        // merely not asked does not.
        let in_rotation = matches!(self.state, State::InRotation { .. });
        if in_rotation
            && self
                .last
                .is_some_and(|(length, end)| now > end + length * 2)
        {
            self.ejections = 0;
        }
        // Jitter keeps instances that failed together from being probed together.
        let duration = Backoff {
            base: config.eject_for,
            max: config.eject_for_max,
            jitter: 0.8..=1.0,
        }
        .pause(self.ejections, rng);
        self.ejections += 1;
        let until = now + duration;
        self.last = Some((duration, until));
        self.state = State::Ejected { until };
        duration
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    struct Setup {
        gate: Gate,
        config: EjectionConfig,
        rng: SmallRng,
        now: Instant,
    }

    impl Setup {
        fn new() -> Self {
            Self {
                gate: Gate::new(),
                config: EjectionConfig::default(),
                rng: SmallRng::seed_from_u64(1),
                now: Instant::now(),
            }
        }

        fn fail(&mut self, probe: bool) -> GateTransition {
            self.gate
                .failure(probe, true, &self.config, self.now, &mut self.rng)
        }

        fn eject(&mut self) -> Duration {
            loop {
                if let GateTransition::Ejected(duration) = self.fail(false) {
                    return duration;
                }
            }
        }
    }

    #[test]
    fn five_failures_in_a_row_eject_and_a_success_starts_the_count_again() {
        let mut t = Setup::new();
        for _ in 0..4 {
            assert_eq!(t.fail(false), GateTransition::Stayed);
        }
        t.gate.success(false, t.now);
        for _ in 0..4 {
            assert_eq!(t.fail(false), GateTransition::Stayed);
        }
        assert!(matches!(t.fail(false), GateTransition::Ejected(_)));
    }

    #[test]
    fn exactly_one_probe_is_let_through_when_the_ejection_is_over() {
        let mut t = Setup::new();
        let duration = t.eject();
        assert!(!t.gate.try_probe(t.now));
        let over = t.now + duration;
        assert!(t.gate.try_probe(over));
        assert!(!t.gate.try_probe(over));
        assert_eq!(t.gate.success(true, over), GateTransition::Returned);
        assert_eq!(t.gate.state(), State::InRotation { failures: 0 });
    }

    #[test]
    fn a_failed_probe_ejects_for_about_twice_as_long_up_to_the_maximum() {
        let mut t = Setup::new();
        let mut durations = vec![t.eject()];
        for _ in 0..10 {
            t.now += *durations.last().unwrap_or(&Duration::ZERO);
            assert!(t.gate.try_probe(t.now));
            let GateTransition::Ejected(duration) = t.fail(true) else {
                panic!("not ejected again")
            };
            durations.push(duration);
        }
        for (n, duration) in durations.iter().enumerate() {
            let full = (t.config.eject_for * (1 << n.min(20))).min(t.config.eject_for_max);
            assert!(
                *duration <= full && *duration >= full.mul_f64(0.8),
                "{n}: {duration:?}"
            );
        }
    }

    #[test]
    fn a_cancelled_probe_gives_its_permit_back() {
        let mut t = Setup::new();
        let ejected = t.eject();
        t.now += ejected;
        assert!(t.gate.try_probe(t.now));
        t.gate.probe_given_back(t.now);
        assert!(!t.gate.try_probe(t.now), "not at once");
        assert!(t.gate.try_probe(t.now + PROBE_PAUSE));
    }

    #[test]
    fn an_instance_that_is_rarely_asked_and_still_down_is_ejected_for_longer_and_longer() {
        let mut t = Setup::new();
        t.eject();
        let mut durations = Vec::new();
        for _ in 0..4 {
            t.now += Duration::from_secs(600);
            assert!(t.gate.try_probe(t.now));
            let GateTransition::Ejected(duration) = t.fail(true) else {
                panic!("not ejected again")
            };
            durations.push(duration);
        }
        assert!(
            durations.windows(2).all(|pair| pair[1] > pair[0]),
            "{durations:?}"
        );
    }

    #[test]
    fn a_call_from_before_the_ejection_changes_nothing() {
        let mut t = Setup::new();
        t.eject();
        let before = t.gate.state();
        assert_eq!(t.gate.success(false, t.now), GateTransition::Stayed);
        assert_eq!(t.fail(false), GateTransition::Stayed);
        assert_eq!(t.gate.state(), before);
    }

    #[test]
    fn an_instance_that_behaved_for_long_starts_over_with_a_short_ejection() {
        let mut t = Setup::new();
        let ejected = t.eject();
        t.now += ejected;
        t.gate.try_probe(t.now);
        t.fail(true);
        t.now += t.config.eject_for_max;
        t.gate.try_probe(t.now);
        t.gate.success(true, t.now);
        t.now += t.config.eject_for_max;
        assert!(t.eject() <= t.config.eject_for);
    }
}
