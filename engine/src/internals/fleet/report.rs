//! What is seen of a fleet.

use super::{Micros, SECOND, Weather};

/// Buckets of a histogram for each doubling.
const FINE: f64 = 16.0;
const BUCKETS: usize = 23 * FINE as usize;

/// How long calls took.
#[derive(Clone, Debug)]
struct Latencies(Vec<u32>);

impl Latencies {
    fn new() -> Self {
        Self(vec![0; BUCKETS])
    }

    fn add(&mut self, took: Micros) {
        let bucket = ((took.max(1) as f64).log2() * FINE) as usize;
        self.0[bucket.min(BUCKETS - 1)] += 1;
    }

    fn and(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// In milliseconds.
    fn percentile(&self, share: f64) -> f64 {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let mut left = (all as f64 * (1.0 - share)) as u64;
        for (bucket, count) in self.0.iter().enumerate().rev() {
            if u64::from(*count) > left {
                return ((bucket as f64 + 0.5) / FINE).exp2() / 1000.0;
            }
            left -= u64::from(*count);
        }
        0.0
    }
}

/// One second.
#[derive(Clone, Debug)]
pub struct Second {
    /// Calls that ended in it.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Attempts that were sent in it.
    pub attempts: u64,
    /// Calls that came in it.
    pub came: u64,
    /// Instances that are ejected and well, of all tiers together.
    pub wrongly_ejected: usize,
    /// Ejections so far.
    pub ejections: u64,
    latencies: Latencies,
}

impl Second {
    fn new() -> Self {
        Self {
            calls: 0,
            failed: 0,
            attempts: 0,
            came: 0,
            wrongly_ejected: 0,
            ejections: 0,
            latencies: Latencies::new(),
        }
    }

    /// Milliseconds that a share of the calls stayed below.
    pub fn percentile(&self, share: f64) -> f64 {
        self.latencies.percentile(share)
    }
}

/// Some weather, or the calm.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Which.
    pub name: &'static str,
    /// Calls.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Milliseconds: median, 99 and 99.9 of 100.
    pub latency: [f64; 3],
    /// Attempts for each call, in the worst ten seconds: what a budget of retries is over.
    pub amplification: f64,
    /// Pairs of a tier and a well instance that it has ejected, in the worst second.
    pub wrongly_ejected: usize,
    /// Seconds until all was as before once it was over.
    pub recovery: u64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// The start, the calm and each weather.
    pub phases: Vec<Phase>,
    /// Each second.
    pub seconds: Vec<Second>,
    /// The busiest instance's calls against the mean, in a calm minute.
    pub spread: f64,
}

pub(super) struct Recorder {
    weather: Vec<(u64, u64, Weather)>,
    seconds: Vec<Second>,
    /// Attempts on each instance in the calm.
    on_each: Vec<u64>,
}

/// The calm at the beginning, once everybody is connected and warm.
const CALM: std::ops::Range<u64> = 10..60;

impl Recorder {
    pub(super) fn new(instances: usize, weather: &[(u64, u64, Weather)]) -> Self {
        Self {
            weather: weather.to_vec(),
            seconds: Vec::new(),
            on_each: vec![0; instances],
        }
    }

    fn at(&mut self, now: Micros) -> &mut Second {
        let second = (now / SECOND) as usize;
        if self.seconds.len() <= second {
            self.seconds.resize_with(second + 1, Second::new);
        }
        &mut self.seconds[second]
    }

    pub(super) fn comes(&mut self, now: Micros) {
        self.at(now).came += 1;
    }

    pub(super) fn sent(&mut self, now: Micros, host: usize) {
        self.at(now).attempts += 1;
        if CALM.contains(&(now / SECOND))
            && let Some(count) = self.on_each.get_mut(host)
        {
            *count += 1;
        }
    }

    pub(super) fn done(&mut self, came: Micros, now: Micros, failed: bool) {
        let second = self.at(now);
        second.calls += 1;
        second.failed += u64::from(failed);
        second.latencies.add(now - came);
    }

    pub(super) fn second(&mut self, second: u64, wrongly_ejected: usize, ejections: u64) {
        let second = self.at(second * SECOND);
        second.wrongly_ejected = wrongly_ejected;
        second.ejections = ejections;
    }

    pub(super) fn report(self) -> Report {
        let calm = self.phase("calm", CALM.start, CALM.end, f64::MAX);
        let usual = calm.latency[1];
        let mut phases = vec![self.phase("start", 0, CALM.start, f64::MAX), calm];
        for (begins, lasts, weather) in &self.weather {
            phases.push(self.phase(weather.as_str(), *begins, begins + lasts, usual));
        }
        let busiest = self.on_each.iter().max().copied().unwrap_or(0);
        let all: u64 = self.on_each.iter().sum();
        Report {
            phases,
            spread: busiest as f64 * self.on_each.len() as f64 / all.max(1) as f64,
            seconds: self.seconds,
        }
    }

    fn phase(&self, name: &'static str, begins: u64, ends: u64, usual: f64) -> Phase {
        let range = begins as usize..(ends as usize).min(self.seconds.len());
        let seconds = self.seconds.get(range).unwrap_or_default();
        let mut latencies = Latencies::new();
        seconds
            .iter()
            .for_each(|second| latencies.and(&second.latencies));
        let amplification = |seconds: &[Second]| {
            let attempts: u64 = seconds.iter().map(|second| second.attempts).sum();
            let came: u64 = seconds.iter().map(|second| second.came).sum();
            attempts as f64 / came.max(1) as f64
        };
        let well = |second: &Second| {
            second.failed * 1000 <= second.calls && second.percentile(0.99) <= usual * 1.5
        };
        let after = self.seconds.get(ends as usize..).unwrap_or_default();
        Phase {
            name,
            calls: seconds.iter().map(|second| second.calls).sum(),
            failed: seconds.iter().map(|second| second.failed).sum(),
            latency: [0.5, 0.99, 0.999].map(|share| latencies.percentile(share)),
            amplification: seconds.windows(10).map(amplification).fold(0.0, f64::max),
            wrongly_ejected: seconds
                .iter()
                .map(|second| second.wrongly_ejected)
                .max()
                .unwrap_or(0),
            recovery: after.iter().take_while(|second| !well(second)).count() as u64,
        }
    }
}
