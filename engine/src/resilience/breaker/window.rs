//! What happened lately: a ring of buckets over time. Pure.

use std::time::Duration;

use tokio::time::Instant;

const BUCKETS: usize = 10;

/// Calls and failures of the last window, in ten buckets.
///
/// A count window that never slides needs as many failures to open as it had successes; a time
/// window taken as a whole needs half its length of failures alone. So the ratio of every
/// *suffix* counts: the newest bucket, the newest two, … the whole window, each as soon as it has
/// enough calls and, unless it is the whole, is clearly above the ratio. A busy upstream that breaks is seen within a bucket or two, a quiet one within
/// the window.
#[derive(Debug)]
pub(super) struct Window {
    bucket: Duration,
    newest: usize,
    since: Instant,
    ring: [Counts; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    calls: u32,
    failures: u32,
}

impl Window {
    pub(super) fn new(length: Duration, now: Instant) -> Self {
        Self {
            bucket: length / BUCKETS as u32,
            newest: 0,
            since: now,
            ring: [Counts::default(); BUCKETS],
        }
    }

    pub(super) fn record(&mut self, failed: bool, now: Instant) {
        self.advance(now);
        let bucket = &mut self.ring[self.newest];
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(failed.into());
    }

    /// Whether the newest buckets, as many as it takes or more, hold at least `min_calls` calls
    /// of which `ratio` failed.
    pub(super) fn reaches(&mut self, ratio: f64, min_calls: u32, now: Instant) -> bool {
        self.advance(now);
        let (mut calls, mut failures) = (0_u64, 0_u64);
        (0..BUCKETS).any(|age| {
            let bucket = self.ring[(self.newest + BUCKETS - age) % BUCKETS];
            calls += u64::from(bucket.calls);
            failures += u64::from(bucket.failures);
            let expected = ratio * calls as f64;
            // Chance alone brings some second of many above the ratio: a part of the window has
            // to be clearly above it, by three standard deviations.
            let margin = match age + 1 == BUCKETS {
                true => 0.0,
                false => 3.0 * (expected * (1.0 - ratio)).sqrt(),
            };
            calls >= u64::from(min_calls) && failures as f64 >= expected + margin
        })
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos() / self.bucket.as_nanos();
        if passed >= BUCKETS as u128 {
            self.ring = [Counts::default(); BUCKETS];
            self.since = now;
            return;
        }
        for _ in 0..passed {
            self.newest = (self.newest + 1) % BUCKETS;
            self.ring[self.newest] = Counts::default();
            self.since += self.bucket;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let mut window = Window::new(LENGTH, start);
        (0..20).for_each(|_| window.record(true, start));
        assert!(window.reaches(0.5, 20, start + LENGTH - Duration::from_millis(1)));
        assert!(!window.reaches(0.5, 20, start + LENGTH));
        assert!(!window.reaches(0.5, 20, start + LENGTH * 1000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However long it was healthy and at whatever pace: failures alone are seen within a
        /// second at 200 a second.
        #[test]
        fn a_long_healthy_prefix_does_not_delay_the_verdict(
            prefix_ms in 0_u64..100_000, gap_us in 500_u64..5_000
        ) {
            let start = Instant::now();
            let mut window = Window::new(LENGTH, start);
            let mut now = start;
            while now < start + Duration::from_millis(prefix_ms) {
                window.record(false, now);
                now += Duration::from_micros(5_000.max(gap_us));
            }
            let broke = now;
            while !window.reaches(0.5, 20, now) {
                window.record(true, now);
                now += Duration::from_millis(5);
                prop_assert!(now - broke <= Duration::from_secs(1) + Duration::from_millis(5));
            }
        }

        /// A failure ratio below the threshold in every bucket never reaches it.
        #[test]
        fn a_steady_ratio_below_the_threshold_never_reaches_it(
            gaps_ms in proptest::collection::vec(0_u64..500, 1..400)
        ) {
            let mut now = Instant::now();
            let mut window = Window::new(LENGTH, now);
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                // One failure after three successes, all at one instant: never more than a quarter.
                for failed in [false, false, false, true] {
                    window.record(failed, now);
                }
                prop_assert!(!window.reaches(0.5, 20, now));
            }
        }

        /// Chance does not open it: ten minutes of independent failures well below the ratio.
        #[test]
        fn random_failures_below_the_threshold_do_not_reach_it(seed: u64) {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut now = Instant::now();
            let start = now;
            let mut window = Window::new(LENGTH, now);
            for _ in 0..600 * 200 {
                now += Duration::from_millis(5);
                window.record(rng.random_bool(0.25), now);
                // The first calls of all are the whole window, and twenty of them may decide.
                prop_assert!(now < start + LENGTH || !window.reaches(0.5, 20, now));
            }
        }

        /// Too few calls say nothing, whatever they say.
        #[test]
        fn fewer_calls_than_the_minimum_never_reach_any_ratio(
            gaps_ms in proptest::collection::vec(600_u64..5_000, 1..200)
        ) {
            let mut now = Instant::now();
            let mut window = Window::new(LENGTH, now);
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                window.record(true, now);
                // At most seventeen calls fit into ten seconds.
                prop_assert!(!window.reaches(0.01, 20, now));
            }
        }
    }
}
