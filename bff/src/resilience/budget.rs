//! How many retries a service may get: pure, time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Ten seconds that are over and the one that runs: never less than the window.
const BUCKETS: usize = 11;
const BUCKET: Duration = Duration::from_secs(1);
const WINDOW_SECONDS: f64 = 10.0;

/// Retries of the last ten seconds against calls of the last ten seconds.
///
/// When everything fails, retries multiply the load on a service that already cannot cope. A
/// budget bounds the factor: over any ten seconds there are at most `ratio` retries per call, and
/// `min_per_second` more so that a quiet service gets any at all.
#[derive(Debug)]
pub struct Budget {
    ratio: f64,
    min_per_second: f64,
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
    pub fn new(ratio: f64, min_per_second: f64, now: Instant) -> Self {
        Self {
            ratio,
            min_per_second,
            newest: 0,
            since: now,
            ring: Default::default(),
        }
    }

    /// Other rates over the same counts.
    pub fn reconfigure(&mut self, ratio: f64, min_per_second: f64) {
        self.ratio = ratio;
        self.min_per_second = min_per_second;
    }

    /// Counts a call (not a retry of one).
    pub fn deposit(&mut self, now: Instant) {
        self.advance(now);
        let bucket = &mut self.ring[self.newest];
        bucket.calls = bucket.calls.saturating_add(1);
    }

    /// Takes one retry, if the budget has it.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let allowed = self.left(now) >= 1.0;
        if allowed {
            self.ring[self.newest].retries += 1;
        }
        allowed
    }

    /// How many retries are left now.
    pub fn left(&mut self, now: Instant) -> f64 {
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
        self.ratio * calls + self.min_per_second * WINDOW_SECONDS - retries
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

    #[test]
    fn ten_seconds_of_failures_get_a_fifth_of_retries_and_one_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(0.2, 1.0, start);
        let mut retries = 0;
        for n in 0..2000 {
            let now = start + Duration::from_millis(5) * n;
            budget.deposit(now);
            while budget.withdraw(now) {
                retries += 1;
            }
        }
        assert_eq!(retries, 400 + 10);
    }

    #[test]
    fn a_quiet_service_gets_its_minimum_again_after_the_window() {
        let start = Instant::now();
        let mut budget = Budget::new(0.2, 1.0, start);
        assert_eq!((0..100).filter(|_| budget.withdraw(start)).count(), 10);
        let later = start + Duration::from_secs(12);
        assert_eq!((0..100).filter(|_| budget.withdraw(later)).count(), 10);
    }

    #[test]
    fn a_long_silence_forgets_everything() {
        let start = Instant::now();
        let mut budget = Budget::new(1.0, 0.0, start);
        (0..1000).for_each(|_| budget.deposit(start));
        assert!(!budget.withdraw(start + Duration::from_secs(86_400 * 365)));
    }
}
