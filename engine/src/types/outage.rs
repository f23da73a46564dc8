//! Lasting failures in the log: a line when one begins, one a minute while it lasts, one when it
//! ends.

use std::time::Duration;

use tokio::time::Instant;

/// Says which failures of one thing are worth a line, so that a long outage does not fill the log.
/// Pure: time is an argument.
#[derive(Debug, Default)]
pub(crate) struct OutageLog {
    /// When the last line about a failure was written.
    last: Option<Instant>,
    /// Whether the log says that it fails at present.
    known: bool,
}

impl OutageLog {
    const EVERY: Duration = Duration::from_secs(60);

    /// It failed: `log` runs unless it ran within the last minute.
    pub(crate) fn failed(&mut self, now: Instant, log: impl FnOnce()) {
        if self.last.is_none_or(|last| now - last >= Self::EVERY) {
            self.last = Some(now);
            self.known = true;
            log();
        }
    }

    /// It works: `log` runs if the log says that it does not.
    pub(crate) fn recovered(&mut self, log: impl FnOnce()) {
        if std::mem::take(&mut self.known) {
            log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_of_failures_are_ten_lines_and_their_end_is_one() {
        let start = Instant::now();
        let mut log = OutageLog::default();
        let (mut failures, mut recoveries) = (0, 0);
        log.recovered(|| recoveries += 1);
        for second in 0..600 {
            log.failed(start + Duration::from_secs(second), || failures += 1);
        }
        log.recovered(|| recoveries += 1);
        log.recovered(|| recoveries += 1);
        assert_eq!((failures, recoveries), (10, 1));
    }

    #[test]
    fn what_fails_and_recovers_all_the_time_is_a_line_a_minute() {
        let start = Instant::now();
        let mut log = OutageLog::default();
        let mut lines = 0;
        for second in 0..120 {
            log.failed(start + Duration::from_secs(second), || lines += 1);
            log.recovered(|| ());
        }
        assert_eq!(lines, 2);
    }
}
