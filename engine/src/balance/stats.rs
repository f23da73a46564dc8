//! What a call to an instance is expected to cost: pure, time is an argument.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::outlier::{Answers, Memory};

/// Time over which an estimate without new samples fades to 1/e of its distance from what is typical, so
/// that an instance that was slow or failed is tried again some day, and one that was idle is not taken
/// for fast.
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
        self.penalty = PENALTY;
        self.at = now;
    }

    /// Expected cost of one more call beside `in_flight` others, on an instance whose weight is
    /// `weight` times the mean, where a call on any instance takes `typical` seconds: what nobody
    /// has seen is neither cheap nor dear. Idle instances cost the same whatever their weight:
    /// candidates are drawn by weight already.
    pub(super) fn cost(&self, in_flight: u32, weight: f64, typical: f64, now: Instant) -> f64 {
        let fade = self.fade(now);
        let latency = match self.latency {
            Some(latency) => latency * fade + typical * (1.0 - fade),
            None => typical,
        };
        let expected = latency + self.penalty * fade + FLOOR;
        expected * (1.0 + f64::from(in_flight) / weight)
    }

    fn fade(&self, now: Instant) -> f64 {
        let silence = now.saturating_duration_since(self.at);
        (-silence.as_secs_f64() / FADE.as_secs_f64()).exp()
    }
}

/// What is known of the calls to one instance.
#[derive(Debug)]
pub(super) struct Record {
    estimate: Estimate,
    answers: Memory,
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            estimate: Estimate::new(now),
            answers: Memory::new(now),
        }
    }

    /// It answered well.
    pub(super) fn success(&mut self, latency: Duration, now: Instant) {
        self.estimate.success(latency, now);
        self.answers.answered(true, now);
    }

    /// It answered that it will not. How fast says nothing: saying no is cheap.
    pub(super) fn declined(&mut self, now: Instant) {
        self.answers.answered(false, now);
    }

    /// It failed.
    pub(super) fn failure(&mut self, now: Instant) {
        self.estimate.failure(now);
        self.answers.answered(false, now);
    }

    /// It has too much to do: less of the traffic, and nothing against its answers.
    pub(super) fn overloaded(&mut self, now: Instant) {
        self.estimate.failure(now);
    }

    /// See [`Estimate::cost`].
    pub(super) fn cost(&self, in_flight: u32, weight: f64, typical: f64, now: Instant) -> f64 {
        self.estimate.cost(in_flight, weight, typical, now)
    }

    /// Its answers of late.
    pub(super) fn answers(&self, now: Instant) -> Answers {
        self.answers.answers(now)
    }

    /// Whether the last of them was a bad one.
    pub(super) fn answered_badly(&self) -> bool {
        self.answers.last_was_bad()
    }

    /// Forgets its answers.
    pub(super) fn forget_answers(&mut self, now: Instant) {
        self.answers = Memory::new(now);
    }
}

/// Share of a new latency in what is typical: of many instances, so each sample says little.
const TYPICAL_BLEND: f64 = 0.02;

/// What a call on any instance takes: a moving average of all of them together.
#[derive(Debug, Default)]
pub(super) struct Typical(AtomicU64);

impl Typical {
    /// A call took `latency`.
    pub(super) fn sample(&self, latency: Duration) {
        let (old, sample) = (self.seconds(), latency.as_secs_f64());
        let new = match old == 0.0 {
            true => sample,
            false => old + (sample - old) * TYPICAL_BLEND,
        };
        // Read and written apart: a sample that gets lost changes nothing.
        self.0.store(new.to_bits(), Ordering::Relaxed);
    }

    /// That many seconds; 0 before the first.
    pub(super) fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
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
        assert!(failed.cost(0, 1.0, 0.0, now) > 2.0 * slow.cost(0, 1.0, 0.0, now));
        let later = now + 40_000 * MS;
        assert!(
            failed.cost(0, 1.0, 0.0, later) < 2.0 * Estimate::new(later).cost(0, 1.0, 0.0, later)
        );
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
        assert!(slow.cost(0, 1.0, 0.0, now) > 2.0 * fast.cost(0, 1.0, 0.0, now));
    }

    #[test]
    fn noise_below_the_floor_is_no_difference() {
        let now = Instant::now();
        let (mut a, mut b) = (Estimate::new(now), Estimate::new(now));
        a.success(MS / 10, now);
        b.success(3 * MS, now);
        assert!(b.cost(0, 1.0, 0.0, now) < 2.0 * a.cost(0, 1.0, 0.0, now));
    }

    #[test]
    fn a_heavier_instance_may_have_more_calls_in_flight() {
        let now = Instant::now();
        let estimate = Estimate::new(now);
        assert!((estimate.cost(6, 3.0, 0.0, now) - estimate.cost(2, 1.0, 0.0, now)).abs() < 1e-9);
    }
}
