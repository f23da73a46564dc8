//! The state machine under the faults it has to survive.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

struct Setup {
    machine: Machine,
    now: Instant,
    rng: SmallRng,
}

impl Setup {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let machine = Machine::new(config, PROBE_TIMEOUT, now);
        Self {
            machine,
            now,
            rng: SmallRng::seed_from_u64(1),
        }
    }

    fn auto() -> Self {
        Self::new(Config::default())
    }

    fn state(&self) -> State {
        self.machine.status().state
    }

    fn admit(&mut self, now: Instant) -> Result<Token, CircuitOpen> {
        self.machine.admit(now, &mut self.rng)
    }

    fn end(&mut self, token: Token, effect: Effect) {
        self.machine.record(token, effect, self.now, &mut self.rng);
    }

    /// One call, if it is let through.
    fn call(&mut self, effect: Effect) -> bool {
        match self.admit(self.now) {
            Ok(token) => {
                self.end(token, effect);
                true
            }
            Err(_) => false,
        }
    }

    fn trip(&mut self) {
        while self.state() == State::Closed {
            self.call(Effect::Failure);
        }
    }

    /// Waits until calls may pass again; returns how long that took.
    fn wait_open(&mut self) -> Duration {
        let start = self.now;
        while self.admit(self.now).is_err() {
            self.now = match self.machine.state {
                Inner::Open { until } => until,
                Inner::HalfOpen { last, .. } => last + PROBE_TIMEOUT,
                Inner::Closed { .. } => panic!("a closed breaker rejects a call"),
            };
        }
        self.now - start
    }
}

#[test]
fn f8_after_a_million_successes_failures_alone_open_it_within_twenty_calls() {
    let mut t = Setup::auto();
    for _ in 0..1_000_000 {
        t.call(Effect::Success);
        t.now += MS / 10;
    }
    let mut failures = 0;
    while t.state() == State::Closed {
        t.call(Effect::Failure);
        failures += 1;
    }
    assert!(failures <= 20, "{failures}");
}

#[test]
fn f8_after_a_million_successes_most_calls_failing_open_it_in_little_over_a_second() {
    let mut t = Setup::auto();
    for _ in 0..1_000_000 {
        t.call(Effect::Success);
        t.now += MS / 10;
    }
    let broke = t.now;
    let mut n = 0;
    while t.state() == State::Closed {
        t.call(if n % 3 == 0 {
            Effect::Success
        } else {
            Effect::Failure
        });
        n += 1;
        t.now += 5 * MS;
    }
    // A bucket may be full of successes; the next one is not.
    assert!(t.now - broke <= SECOND + 200 * MS, "{:?}", t.now - broke);
}

#[test]
fn f1_many_calls_that_die_with_one_connection_do_not_open_it() {
    let mut t = Setup::auto();
    for _ in 0..300 {
        t.call(Effect::Success);
        t.now += MS;
    }
    let in_flight: Vec<_> = (0..50).map(|_| t.admit(t.now).unwrap()).collect();
    in_flight
        .into_iter()
        .for_each(|token| t.end(token, Effect::Failure));
    assert_eq!(t.state(), State::Closed);
}

#[test]
fn one_failing_call_a_minute_does_not_open_it() {
    let mut t = Setup::auto();
    for _ in 0..100 {
        assert!(t.call(Effect::Failure));
        t.now += 60 * SECOND;
    }
}

#[test]
fn failures_in_a_row_open_it_however_rare_they_are() {
    let mut t = Setup::new(Config {
        consecutive_failures: Some(5),
        ..Config::default()
    });
    for _ in 0..5 {
        t.now += 60 * SECOND;
        assert!(t.call(Effect::Failure));
    }
    assert_eq!(t.state(), State::Open);
}

#[test]
fn fewer_calls_than_the_minimum_do_not_open_it() {
    let mut t = Setup::auto();
    for _ in 0..19 {
        assert!(t.call(Effect::Failure));
    }
    assert_eq!(t.state(), State::Closed);
    t.call(Effect::Failure);
    assert_eq!(t.state(), State::Open);
}

#[test]
fn consecutive_failures_open_it_and_a_success_between_them_does_not() {
    let mut t = Setup::new(Config {
        consecutive_failures: Some(5),
        ..Config::default()
    });
    for _ in 0..100 {
        (0..4).for_each(|_| assert!(t.call(Effect::Failure)));
        assert!(t.call(Effect::Success));
    }
    (0..5).for_each(|_| assert!(t.call(Effect::Failure)));
    assert_eq!(t.state(), State::Open);
}

#[test]
fn f7_of_a_thousand_callers_at_half_open_exactly_the_configured_probes_pass() {
    for probes in [1, 3] {
        let config = Config {
            half_open_probes: probes,
            success_threshold: probes,
            ..Config::default()
        };
        let mut t = Setup::new(config);
        t.trip();
        t.now += 5 * SECOND;
        let tokens: Vec<_> = (0..1000).filter_map(|_| t.admit(t.now).ok()).collect();
        assert_eq!(tokens.len(), probes as usize);
        assert_eq!(t.state(), State::HalfOpen);
        tokens
            .into_iter()
            .for_each(|token| t.end(token, Effect::Success));
        assert_eq!(t.state(), State::Closed);
    }
}

#[test]
fn f7_a_hung_probe_opens_it_again() {
    let mut t = Setup::auto();
    t.trip();
    t.now += 5 * SECOND;
    assert!(t.admit(t.now).is_ok());
    t.now += PROBE_TIMEOUT;
    assert!(t.admit(t.now).is_err());
    assert_eq!(t.state(), State::Open);
}

#[test]
fn f7_what_a_hung_probe_says_in_the_end_is_not_listened_to() {
    let mut t = Setup::auto();
    t.trip();
    t.now += 5 * SECOND;
    let hung = t.admit(t.now).unwrap();
    t.now += PROBE_TIMEOUT;
    let _ = t.admit(t.now);
    t.end(hung, Effect::Success);
    assert_eq!(t.state(), State::Open);
}

#[test]
fn f7_a_cancelled_probe_gives_its_permit_back() {
    let mut t = Setup::auto();
    t.trip();
    t.now += 5 * SECOND;
    for _ in 0..100 {
        let probe = t.admit(t.now).unwrap();
        assert!(t.admit(t.now).is_err());
        t.end(probe, Effect::Neutral);
        assert_eq!(t.state(), State::HalfOpen);
    }
    t.call(Effect::Success);
    assert_eq!(t.state(), State::Closed);
}

#[test]
fn f9_with_one_call_a_minute_it_closes_after_an_outage_and_is_never_stuck() {
    let mut t = Setup::auto();
    t.trip();
    for _ in 0..10 {
        t.now += 60 * SECOND;
        assert!(t.call(Effect::Failure), "each minute one probe");
        assert_eq!(t.state(), State::Open);
    }
    t.now += 60 * SECOND;
    assert!(t.call(Effect::Success));
    assert_eq!(t.state(), State::Closed);
    for _ in 0..1000 {
        t.now += 60 * SECOND;
        assert!(t.call(Effect::Success));
    }
}

#[test]
fn the_open_time_doubles_with_each_failed_probe_up_to_its_maximum() {
    let mut t = Setup::auto();
    t.trip();
    for full in [5, 10, 20, 40, 60, 60] {
        let period = t.wait_open();
        let full = full * SECOND;
        assert!(
            period <= full && period >= full.mul_f64(0.9),
            "{period:?} for {full:?}"
        );
        // The probe that `wait_open` was let through with hangs.
        t.now += PROBE_TIMEOUT;
        assert!(t.admit(t.now).is_err());
    }
}

#[test]
fn one_that_was_closed_for_long_opens_for_the_short_time_again() {
    let mut t = Setup::auto();
    for _ in 0..5 {
        t.trip();
        t.now += 60 * SECOND;
        t.call(Effect::Success);
        assert_eq!(t.state(), State::Closed);
        t.now += 61 * SECOND;
    }
    t.trip();
    assert!(t.wait_open() <= 5 * SECOND);
}

#[test]
fn neutral_ends_neither_trip_nor_heal() {
    let mut t = Setup::auto();
    (0..10_000).for_each(|_| assert!(t.call(Effect::Neutral)));
    (0..19).for_each(|_| assert!(t.call(Effect::Failure)));
    (0..10_000).for_each(|_| assert!(t.call(Effect::Neutral)));
    assert!(t.call(Effect::Failure));
    assert_eq!(t.state(), State::Open);
}

#[test]
fn overload_counts_in_the_ratio_and_not_as_a_failure_in_a_row() {
    let mut row = Setup::new(Config {
        consecutive_failures: Some(5),
        ..Config::default()
    });
    (0..1000).for_each(|_| assert!(row.call(Effect::Overload)));
    assert_eq!(row.state(), State::Closed);
    let mut ratio = Setup::auto();
    (0..20).for_each(|_| assert!(ratio.call(Effect::Overload)));
    assert_eq!(ratio.state(), State::Open);
}

#[test]
fn a_call_from_before_the_trip_changes_nothing() {
    let mut t = Setup::auto();
    let old: Vec<_> = (0..10).map(|_| t.admit(t.now).unwrap()).collect();
    t.trip();
    t.now += 5 * SECOND;
    let probe = t.admit(t.now).unwrap();
    old.into_iter()
        .for_each(|token| t.end(token, Effect::Success));
    assert_eq!(t.state(), State::HalfOpen);
    assert!(t.admit(t.now).is_err(), "the one permit is still taken");
    t.end(probe, Effect::Failure);
    assert_eq!(t.state(), State::Open);
}

#[test]
fn an_operator_forces_it_open_and_closed_and_back_through_half_open() {
    let mut t = Setup::auto();
    let mode = |mode| Config {
        mode,
        ..Config::default()
    };
    t.machine
        .reconfigure(mode(Mode::Open), PROBE_TIMEOUT, t.now);
    assert_eq!(t.admit(t.now + 3600 * SECOND), Err(CircuitOpen));
    assert_eq!(t.state(), State::Open);
    t.machine
        .reconfigure(mode(Mode::Auto), PROBE_TIMEOUT, t.now);
    assert_eq!(t.state(), State::HalfOpen);
    assert!(t.call(Effect::Success));
    assert_eq!(t.state(), State::Closed);
    t.machine
        .reconfigure(mode(Mode::Closed), PROBE_TIMEOUT, t.now);
    (0..1000).for_each(|_| assert!(t.call(Effect::Failure)));
    assert_eq!(t.state(), State::Closed);
}

#[test]
fn a_configuration_that_changes_elsewhere_keeps_the_state() {
    let mut t = Setup::auto();
    t.trip();
    let config = Config {
        min_calls: 50,
        open_for: 7 * SECOND,
        ..Config::default()
    };
    t.machine.reconfigure(config, PROBE_TIMEOUT, t.now);
    assert_eq!(t.state(), State::Open);
}

proptest! {
    /// Whatever happens, in whatever order, and whoever leaves: a healthy upstream gets calls
    /// again, and half-open never lets more through than it may.
    #[test]
    fn it_is_never_stuck_and_never_lets_too_many_through(
        steps in proptest::collection::vec((0_u8..5, 0_u64..3_000), 1..400), seed: u64
    ) {
        let config = Config { half_open_probes: 2, success_threshold: 3, ..Config::default() };
        let mut t = Setup::new(config);
        t.rng = SmallRng::seed_from_u64(seed);
        let mut out = Vec::new();
        let mut half_open = 0_usize;
        for (step, gap) in steps {
            t.now += gap as u32 * MS;
            let generation = t.machine.generation;
            let effect = match step {
                0 => {
                    if let Ok(token) = t.admit(t.now) {
                        out.push(token);
                    }
                    None
                }
                1 => Some(Effect::Success),
                2 | 3 => Some(Effect::Failure),
                _ => Some(Effect::Neutral),
            };
            if let (Some(effect), Some(token)) = (effect, out.pop()) {
                t.end(token, effect);
            }
            if t.machine.generation != generation {
                half_open = 0;
            }
            if t.state() == State::HalfOpen {
                let now_out = out.iter().filter(|o| o.generation == t.machine.generation).count();
                half_open = half_open.max(now_out);
                prop_assert!(now_out <= 2, "{now_out} probes");
            }
        }
        // Everybody leaves, the upstream is healthy from now on.
        out.into_iter().for_each(|token| t.end(token, Effect::Neutral));
        for _ in 0..10 {
            t.now += 60 * SECOND;
            t.call(Effect::Success);
        }
        prop_assert_eq!(t.state(), State::Closed);
    }
}
