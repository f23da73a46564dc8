//! Which list to believe: pure decisions over what the source answered, and when.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Instance, Members, Snapshot, Source};

/// The believed list of one service.
///
/// A source that suddenly calls a busy service empty is more often wrong (a lost agent, a
/// misconfigured check, an ACL change: Consul filters what a token may not see instead of
/// refusing) than right, and the last good list costs little to keep: instances that are
/// really gone refuse connections. So an empty answer is believed only after `empty_hold`.
#[derive(Debug)]
pub(super) struct Membership {
    snapshot: Snapshot,
    empty_hold: Duration,
    /// When the source began to call the service empty, while the last good list is held.
    empty_since: Option<Instant>,
    last_answer: Instant,
}

/// What an answer did to the believed list, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The list in use is the same as before.
    None,
    /// Another list is in use.
    List,
    /// The source calls the service empty; the last good list is held.
    Held,
    /// The source called the service empty for so long that it is believed.
    Emptied,
}

impl Membership {
    pub(super) fn new(empty_hold: Duration, now: Instant) -> Self {
        let source = Source::Failing {
            since: now,
            problem: Arc::from("not asked yet"),
        };
        Self {
            snapshot: Snapshot {
                members: Members::Unknown,
                source,
            },
            empty_hold,
            empty_since: None,
            last_answer: now,
        }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The source answered with `list`.
    pub(super) fn answered(&mut self, list: Vec<Instance>, now: Instant) -> Change {
        self.last_answer = now;
        if list.is_empty() && !self.snapshot.members.list().is_empty() {
            let since = *self.empty_since.get_or_insert(now);
            self.snapshot.source = Source::HeldEmpty { since };
            return match self.expire(now) {
                Change::None if since == now => Change::Held,
                change => change,
            };
        }
        self.empty_since = None;
        self.snapshot.source = Source::Live;
        let unchanged = matches!(&self.snapshot.members, Members::Known(known) if **known == *list);
        if unchanged {
            return Change::None;
        }
        self.snapshot.members = Members::Known(list.into());
        Change::List
    }

    /// The source could not be asked.
    pub(super) fn failed(&mut self, problem: &str) {
        self.snapshot.source = Source::Failing {
            since: self.last_answer,
            problem: Arc::from(problem),
        };
    }

    /// When [`expire`](Self::expire) has to be called, if ever.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        match self.snapshot.source {
            Source::HeldEmpty { since } => Some(since + self.empty_hold),
            // A failing source confirms nothing: the list is held until it answers again.
            Source::Live | Source::Failing { .. } => None,
        }
    }

    /// Gives up the held list when its time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Change {
        if self.expires_at().is_none_or(|at| now < at) {
            return Change::None;
        }
        self.empty_since = None;
        self.snapshot = Snapshot {
            members: Members::Known(Arc::from([])),
            source: Source::Live,
        };
        Change::Emptied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    fn one() -> Vec<Instance> {
        vec![Instance {
            address: "127.0.0.1:1".parse().unwrap(),
            weight: 1,
        }]
    }

    #[test]
    fn an_empty_first_answer_is_believed_at_once() {
        let now = Instant::now();
        let mut membership = Membership::new(HOLD, now);
        assert_eq!(membership.snapshot().members, Members::Unknown);
        assert_eq!(membership.answered(vec![], now), Change::List);
        assert_eq!(membership.snapshot().members, Members::Known(Arc::from([])));
    }

    #[test]
    fn a_sudden_empty_answer_is_believed_only_after_the_hold() {
        let start = Instant::now();
        let mut membership = Membership::new(HOLD, start);
        membership.answered(one(), start);
        assert_eq!(membership.answered(vec![], start), Change::Held);
        let late = start + HOLD - Duration::from_millis(1);
        assert_eq!(membership.answered(vec![], late), Change::None);
        assert_eq!(membership.snapshot().members.list(), one());
        assert_eq!(membership.snapshot().source.staleness(late), late - start);
        assert_eq!(membership.expire(start + HOLD), Change::Emptied);
        assert!(membership.snapshot().members.list().is_empty());
    }

    #[test]
    fn a_list_that_comes_back_during_the_hold_ends_it() {
        let start = Instant::now();
        let mut membership = Membership::new(HOLD, start);
        membership.answered(one(), start);
        membership.answered(vec![], start);
        assert_eq!(membership.answered(one(), start + HOLD / 2), Change::None);
        assert_eq!(membership.expires_at(), None);
        assert_eq!(membership.expire(start + HOLD * 2), Change::None);
        assert_eq!(membership.snapshot().members.list(), one());
    }

    #[test]
    fn a_source_that_fails_during_the_hold_cannot_confirm_the_emptiness() {
        let start = Instant::now();
        let mut membership = Membership::new(HOLD, start);
        membership.answered(one(), start);
        membership.answered(vec![], start);
        membership.failed("connection refused");
        assert_eq!(membership.expire(start + HOLD * 10), Change::None);
        assert_eq!(membership.snapshot().members.list(), one());
        // Back, and still empty: the hold was over long ago.
        assert_eq!(
            membership.answered(vec![], start + HOLD * 10),
            Change::Emptied
        );
    }

    #[test]
    fn staleness_counts_from_the_last_answer() {
        let start = Instant::now();
        let mut membership = Membership::new(HOLD, start);
        membership.answered(one(), start);
        membership.failed("hung");
        membership.failed("hung");
        let later = start + Duration::from_secs(42);
        assert_eq!(
            membership.snapshot().source.staleness(later),
            Duration::from_secs(42)
        );
        membership.answered(one(), later);
        assert_eq!(
            membership.snapshot().source.staleness(later),
            Duration::ZERO
        );
    }
}
