//! What a call to an instance is expected to cost: pure, time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Time over which an estimate without new samples fades to 1/e of itself, so that an instance
/// that was slow or failed is tried again some day.
const FADE: Duration = Duration::from_secs(5);
/// Share of a new latency in the estimate when samples come quickly.
const BLEND: f64 = 0.2;
/// What a failure costs, in seconds of latency. Without it an instance that fails in a
/// millisecond looks like the fastest and draws the most traffic.
const PENALTY: f64 = 5.0;
/// Latency, in seconds, below which instances count as equal: noise, not a difference.
const FLOOR: f64 = 0.010;

/// Failure-penalised, exponentially weighted moving average of an instance's latency.
///
/// A plain mean over time would need seconds to notice that an instance turned slow; a peak
/// value would punish a single hiccup. So each sample moves the estimate by a fixed share, or
/// by more after a silence, and a failure is a penalty of its own that fades with time and
/// halves with each success.
#[derive(Debug)]
pub(super) struct Estimate {
    latency: Option<f64>,
    penalty: f64,
    at: Instant,
}

impl Estimate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            latency: None,
            penalty: 0.0,
            at: now,
        }
    }

    pub(super) fn success(&mut self, latency: Duration, now: Instant) {
        let fade = self.fade(now);
        let sample = latency.as_secs_f64();
        self.latency = Some(match self.latency {
            None => sample,
            Some(old) => {
                let share = BLEND.max(1.0 - fade);
                old * (1.0 - share) + sample * share
            }
        });
        self.penalty *= fade * 0.5;
        self.at = now;
    }

    pub(super) fn failure(&mut self, now: Instant) {
        self.latency = self.latency.map(|latency| latency * self.fade(now));
        self.penalty = PENALTY;
        self.at = now;
    }

    /// Expected cost of one more call beside `in_flight` others, on an instance whose weight is
    /// `weight` times the mean. Idle instances cost the same whatever their weight: candidates
    /// are drawn by weight already.
    pub(super) fn cost(&self, in_flight: u32, weight: f64, now: Instant) -> f64 {
        let expected = (self.latency.unwrap_or(0.0) + self.penalty) * self.fade(now) + FLOOR;
        expected * (1.0 + f64::from(in_flight) / weight)
    }

    fn fade(&self, now: Instant) -> f64 {
        let silence = now.saturating_duration_since(self.at);
        (-silence.as_secs_f64() / FADE.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_failure_costs_more_than_any_latency_and_is_forgotten_in_under_a_minute() {
        let now = Instant::now();
        let (mut failed, mut slow) = (Estimate::new(now), Estimate::new(now));
        failed.failure(now);
        slow.success(2000 * MS, now);
        assert!(failed.cost(0, 1.0, now) > 2.0 * slow.cost(0, 1.0, now));
        let later = now + 40_000 * MS;
        assert!(failed.cost(0, 1.0, later) < 2.0 * Estimate::new(later).cost(0, 1.0, later));
    }

    #[test]
    fn an_instance_that_turns_slow_is_noticed_with_one_sample() {
        let now = Instant::now();
        let (mut slow, mut fast) = (Estimate::new(now), Estimate::new(now));
        for _ in 0..100 {
            slow.success(10 * MS, now);
            fast.success(10 * MS, now);
        }
        slow.success(500 * MS, now);
        assert!(slow.cost(0, 1.0, now) > 2.0 * fast.cost(0, 1.0, now));
    }

    #[test]
    fn noise_below_the_floor_is_no_difference() {
        let now = Instant::now();
        let (mut a, mut b) = (Estimate::new(now), Estimate::new(now));
        a.success(MS / 10, now);
        b.success(3 * MS, now);
        assert!(b.cost(0, 1.0, now) < 2.0 * a.cost(0, 1.0, now));
    }

    #[test]
    fn a_heavier_instance_may_have_more_calls_in_flight() {
        let now = Instant::now();
        let estimate = Estimate::new(now);
        assert!((estimate.cost(6, 3.0, now) - estimate.cost(2, 1.0, now)).abs() < 1e-9);
    }
}
