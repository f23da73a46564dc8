//! How many retries a service may get: pure, time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::RetryConfig;

/// Ten seconds that are over and the one that runs: never less than the window.
const BUCKETS: usize = 11;
const BUCKET: Duration = Duration::from_secs(1);
const WINDOW_SECONDS: f64 = 10.0;

/// Retries of the last ten seconds against calls of the last ten seconds.
///
/// When everything fails, retries multiply the load on a service that already cannot cope. A
/// budget bounds the factor: over any ten seconds there are at most `budget_ratio` retries per call,
/// and `budget_min_per_second` more so that a quiet service gets any at all.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The newest bucket's place in the ring and its start.
    newest: usize,
    since: Instant,
    ring: [Counts; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    calls: u32,
    retries: u32,
}

impl Budget {
    /// An unused budget.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            newest: 0,
            since: now,
            ring: Default::default(),
        }
    }

    /// Counts a call (not a retry of one).
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.advance(now);
        let bucket = &mut self.ring[self.newest];
        bucket.calls = bucket.calls.saturating_add(1);
    }

    /// Takes one retry, if the budget has it or may be overdrawn by that much.
    pub(crate) fn withdraw(&mut self, config: &RetryConfig, overdraft: f64, now: Instant) -> bool {
        let allowed = self.left(config, now) + overdraft >= 1.0;
        if allowed {
            self.ring[self.newest].retries += 1;
        }
        allowed
    }

    /// How many retries are left now, by the rates of `config`. Other rates count what was spent
    /// under those before.
    pub(crate) fn left(&mut self, config: &RetryConfig, now: Instant) -> f64 {
        self.advance(now);
        let (calls, retries) = self
            .ring
            .iter()
            .fold((0.0, 0.0), |(calls, retries), bucket| {
                (
                    calls + f64::from(bucket.calls),
                    retries + f64::from(bucket.retries),
                )
            });
        config.budget_ratio * calls + config.budget_min_per_second * WINDOW_SECONDS - retries
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs() / BUCKET.as_secs();
        for _ in 0..passed.min(BUCKETS as u64) {
            self.newest = (self.newest + 1) % BUCKETS;
            self.ring[self.newest] = Counts::default();
        }
        self.since += BUCKET * u32::try_from(passed).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(budget_ratio: f64, budget_min_per_second: f64) -> RetryConfig {
        RetryConfig {
            budget_ratio,
            budget_min_per_second,
            ..RetryConfig::default()
        }
    }

    #[test]
    fn ten_seconds_of_failures_get_a_fifth_of_retries_and_one_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut retries = 0;
        for n in 0..2000 {
            let now = start + Duration::from_millis(5) * n;
            budget.deposit(now);
            while budget.withdraw(&config(0.2, 1.0), 0.0, now) {
                retries += 1;
            }
        }
        assert_eq!(retries, 400 + 10);
    }

    #[test]
    fn a_quiet_service_gets_its_minimum_again_after_the_window() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(
            (0..100)
                .filter(|_| budget.withdraw(&config(0.2, 1.0), 0.0, start))
                .count(),
            10
        );
        let later = start + Duration::from_secs(12);
        assert_eq!(
            (0..100)
                .filter(|_| budget.withdraw(&config(0.2, 1.0), 0.0, later))
                .count(),
            10
        );
    }

    #[test]
    fn a_long_silence_forgets_everything() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        (0..1000).for_each(|_| budget.deposit(start));
        assert!(!budget.withdraw(
            &config(1.0, 0.0),
            0.0,
            start + Duration::from_secs(86_400 * 365)
        ));
    }

    proptest::proptest! {
        /// Whatever the rhythm: over any ten seconds, retries stay within ratio × calls + 1/s.
        #[test]
        fn retries_stay_within_the_budget_of_any_ten_seconds(
            gaps_ms in proptest::collection::vec(0_u64..400, 1..600), ratio in 0.0..1.0_f64
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut budget = Budget::new(start);
            let config = config(ratio, 1.0);
            let (mut calls, mut retries) = (Vec::new(), Vec::new());
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                budget.deposit(now);
                calls.push(now);
                while budget.withdraw(&config, 0.0, now) {
                    retries.push(now);
                    let recent = |list: &[Instant], seconds: u64| {
                        let window = Duration::from_secs(seconds);
                        list.iter().filter(|at| now - **at < window).count() as f64
                    };
                    // Whole buckets are forgotten: ten seconds of retries, eleven of calls.
                    let allowed = ratio * recent(&calls, 11) + 10.0;
                    proptest::prop_assert!(recent(&retries, 10) <= allowed + 1e-9);
                }
            }
        }
    }
}
