//! How fast the source may be asked, and which index to ask with: pure.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// The index of the next blocking query, by the rules of Consul's "Blocking Queries" page: back
/// to 0 when it goes backwards, never below 1 after an answer (0 would not block).
pub(super) fn next_index(previous: u64, answered: Option<u64>) -> u64 {
    match answered.unwrap_or(0) {
        index if index < previous => 0,
        index => index.max(1),
    }
}

/// How long to wait after the `failures`-th failure in a row.
///
/// A blip is asked again after a second; an outage costs Consul one poll in 15 to 16 s from each
/// of us, spread by jitter so that a fleet does not return all at once.
pub(super) fn backoff(failures: u32, rng: &mut impl Rng) -> Duration {
    match failures {
        0 => Duration::ZERO,
        1 => Duration::from_millis(rng.random_range(500..=1000)),
        _ => Duration::from_millis(rng.random_range(15_000..=16_000)),
    }
}

/// At most [`BURST`](Self::BURST) polls at once and one every [`REFILL`](Self::REFILL) after,
/// as Consul's page asks of clients: a service that changes all the time must not become a busy
/// loop.
#[derive(Debug)]
pub(super) struct PollLimiter {
    /// When the bucket was, or will be, full.
    full_at: Instant,
}

impl PollLimiter {
    const BURST: u32 = 5;
    const REFILL: Duration = Duration::from_millis(250);

    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token and says how long to wait before the poll it allows.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.max(now) + Self::REFILL;
        self.full_at = full_at;
        (full_at - Self::REFILL * Self::BURST).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn an_index_that_goes_backwards_starts_again_at_zero() {
        assert_eq!(next_index(0, Some(7)), 7);
        assert_eq!(next_index(7, Some(7)), 7);
        assert_eq!(next_index(7, Some(6)), 0);
    }

    #[test]
    fn an_answer_without_a_usable_index_is_waited_on_from_the_first_index_and_one_that_loses_it_asks_at_once()
     {
        assert_eq!(next_index(0, Some(0)), 1);
        assert_eq!(next_index(0, None), 1);
        assert_eq!(next_index(1, None), 0);
    }

    #[test]
    fn an_outage_of_ten_minutes_costs_at_most_one_poll_in_fifteen_seconds() {
        let mut rng = SmallRng::seed_from_u64(1);
        let outage = Duration::from_secs(600);
        let (mut elapsed, mut polls) = (Duration::ZERO, 0);
        while elapsed < outage {
            polls += 1;
            elapsed += backoff(polls, &mut rng);
        }
        assert!(polls <= 41, "{polls}");
    }

    #[test]
    fn a_steady_stream_of_changes_is_polled_four_times_a_second() {
        let mut now = Instant::now();
        let start = now;
        let mut pace = PollLimiter::new(now);
        for _ in 0..45 {
            now += pace.take(now);
        }
        assert_eq!(now - start, Duration::from_secs(10));
    }

    #[test]
    fn a_poll_now_and_then_never_waits() {
        let mut now = Instant::now();
        let mut pace = PollLimiter::new(now);
        for _ in 0..100 {
            assert_eq!(pace.take(now), Duration::ZERO);
            now += Duration::from_millis(250);
        }
    }
}
