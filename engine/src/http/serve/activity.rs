//! What a connection is doing, and for how long it may go on: pure decisions that take the time as an
//! argument.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// How long a connection may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// For the head of a request, and for a connection's first word.
    pub(super) header: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

/// Requests and bytes of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    patience: Patience,
    state: Mutex<State>,
    /// Tells of the first request.
    first: Notify,
}

#[derive(Debug)]
struct State {
    /// Requests whose answer is not written yet.
    open: usize,
    /// When it began, or the last answer was written.
    quiet_since: Instant,
    /// When the first byte came after that.
    heard: Option<Instant>,
    /// What it speaks, known from the first request on.
    speaks: Option<http::Version>,
}

impl Activity {
    /// A connection that begins at `now`.
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        let state = State {
            open: 0,
            quiet_since: now,
            heard: None,
            speaks: None,
        };
        Self {
            patience,
            state: Mutex::new(state),
            first: Notify::new(),
        }
    }

    /// Bytes came.
    pub(super) fn heard(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.open == 0 && state.heard.is_none() {
            state.heard = Some(now);
        }
    }

    /// The head of a request is complete.
    pub(super) fn began(&self, version: http::Version) {
        let mut state = self.state.lock();
        state.open += 1;
        state.heard = None;
        if state.speaks.replace(version).is_none() {
            self.first.notify_one();
        }
    }

    /// What it speaks, as soon as a request has come. For one that waits.
    pub(super) async fn speaks(&self) -> http::Version {
        loop {
            if let Some(version) = self.state.lock().speaks {
                return version;
            }
            self.first.notified().await;
        }
    }

    /// A request's answer is written, or has been given up.
    pub(super) fn ended(&self, now: Instant) {
        let mut state = self.state.lock();
        state.open = state.open.saturating_sub(1);
        state.quiet_since = now;
        state.heard = None;
    }

    /// When its patience ends, unless something happens before; `None` while a request is open.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        if state.open > 0 {
            return None;
        }
        let Patience { header, idle } = self.patience;
        Some(match (state.speaks, state.heard) {
            (None, _) => state.quiet_since + header,
            // Half a head of HTTP/1. What comes over HTTP/2 between requests may be a ping.
            (Some(version), Some(heard)) if version < http::Version::HTTP_2 => heard + header,
            (Some(_), _) => state.quiet_since + idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
    };

    #[test]
    fn whoever_connects_has_the_time_of_a_head_for_the_first_one_however_slowly_it_comes() {
        let start = Instant::now();
        let activity = Activity::new(PATIENCE, start);
        for second in 0..9 {
            activity.heard(start + SECOND * second);
        }
        assert_eq!(activity.deadline(), Some(start + PATIENCE.header));
    }

    #[test]
    fn an_open_request_may_take_the_time_that_requests_have() {
        let start = Instant::now();
        let activity = Activity::new(PATIENCE, start);
        activity.began(Version::HTTP_11);
        activity.heard(start + SECOND);
        assert_eq!(activity.deadline(), None);
    }

    #[test]
    fn between_requests_a_connection_may_be_idle_but_not_in_the_middle_of_a_head() {
        let start = Instant::now();
        let activity = Activity::new(PATIENCE, start);
        activity.began(Version::HTTP_11);
        let answered = start + SECOND;
        activity.ended(answered);
        assert_eq!(activity.deadline(), Some(answered + PATIENCE.idle));
        let heard = answered + 70 * SECOND;
        activity.heard(heard);
        activity.heard(heard + SECOND);
        assert_eq!(activity.deadline(), Some(heard + PATIENCE.header));
    }

    #[test]
    fn what_http2_says_between_requests_neither_prolongs_nor_shortens_its_idleness() {
        let start = Instant::now();
        let activity = Activity::new(PATIENCE, start);
        activity.began(Version::HTTP_2);
        activity.began(Version::HTTP_2);
        activity.ended(start);
        assert_eq!(activity.deadline(), None);
        activity.ended(start + SECOND);
        activity.heard(start + 2 * SECOND);
        let idle = start + SECOND + PATIENCE.idle;
        assert_eq!(activity.deadline(), Some(idle));
    }
}
