//! Which list to believe: pure decisions over what the source answered, and when.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Instance, Members, Snapshot, Source};

/// The believed list of one service.
///
/// A source that suddenly calls a busy service empty, or more than half of it gone, is more often wrong (a
/// lost agent, a check that is misconfigured, an ACL change: Consul filters what a token may not see
/// instead of refusing; a catalogue that fills again) than right, and the last good list costs little to
/// keep: instances that are really gone refuse connections, and then get no calls. So such an answer is
/// believed only after `empty_hold`; what is new in it is used at once.
#[derive(Debug)]
pub(super) struct Membership {
    snapshot: Snapshot,
    empty_hold: Duration,
    held: Option<Held>,
    last_answer: Instant,
}

/// The last good list is held against what the source lists.
#[derive(Debug)]
struct Held {
    /// Since when the source leaves out more than half.
    since: Instant,
    /// How many there were then: what has joined since is no reason to doubt more.
    before: usize,
    /// What the source lists.
    listed: Arc<[Instance]>,
}

/// What an answer did to the believed list, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The list in use is the same as before.
    None,
    /// Another list is in use.
    List,
    /// The source leaves out more than half; the last good list is held.
    Held,
    /// The source said so for so long that it is believed.
    Believed,
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
            held: None,
            last_answer: now,
        }
    }

    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The source answered with `list`.
    pub(super) fn answered(&mut self, list: Vec<Instance>, now: Instant) -> Change {
        self.last_answer = now;
        let known = self.snapshot.members.list().len();
        let before = self.held.as_ref().map_or(known, |held| held.before);
        if list.len() * 2 < before {
            return self.hold(list, now);
        }
        self.held = None;
        self.snapshot.source = Source::Live;
        self.list(list)
    }

    fn list(&mut self, list: Vec<Instance>) -> Change {
        if matches!(&self.snapshot.members, Members::Known(known) if **known == *list) {
            return Change::None;
        }
        self.snapshot.members = Members::Known(list.into());
        Change::List
    }

    /// Holds what is known against `list`, which lacks most of it.
    fn hold(&mut self, list: Vec<Instance>, now: Instant) -> Change {
        let known = self.snapshot.members.list();
        let first = self.held.is_none();
        let (since, before) = match &self.held {
            Some(held) => (held.since, held.before),
            None => (now, known.len()),
        };
        // In the order of before, so that nothing changes if nothing has.
        let lacks = |known: &&Instance| !list.iter().any(|one| one.address == known.address);
        let lacking: Vec<_> = known.iter().filter(lacks).cloned().collect();
        let listed = list.len();
        let changed = match lacking.len() + listed > known.len() {
            true => self.list(lacking.into_iter().chain(list.iter().cloned()).collect()),
            false => Change::None,
        };
        self.snapshot.source = Source::Held { since, listed };
        self.held = Some(Held {
            since,
            before,
            listed: list.into(),
        });
        match self.expire(now) {
            Change::None if first => Change::Held,
            Change::None => changed,
            believed => believed,
        }
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
            Source::Held { since, .. } => Some(since + self.empty_hold),
            // A failing source confirms nothing: the list is held until it answers again.
            Source::Live | Source::Failing { .. } => None,
        }
    }

    /// Gives up the held list when its time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Change {
        if self.expires_at().is_none_or(|at| now < at) {
            return Change::None;
        }
        let list = self.held.take().map(|held| held.listed);
        self.snapshot = Snapshot {
            members: Members::Known(list.unwrap_or_default()),
            source: Source::Live,
        };
        Change::Believed
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
        assert_eq!(membership.expire(start + HOLD), Change::Believed);
        assert!(membership.snapshot().members.list().is_empty());
    }

    fn some(ports: std::ops::Range<u16>) -> Vec<Instance> {
        let one = |port| Instance {
            address: format!("10.0.0.1:{port}").parse().unwrap(),
            weight: 1,
        };
        ports.map(one).collect()
    }

    #[test]
    fn f39_a_list_that_loses_more_than_half_is_held_and_then_believed() {
        let start = Instant::now();
        for (before, after) in [(100, 1), (10, 4)] {
            let mut membership = Membership::new(HOLD, start);
            membership.answered(some(0..before), start);
            let left = some(before - after..before);
            assert_eq!(membership.answered(left.clone(), start), Change::Held);
            assert_eq!(
                membership.snapshot().members.list().len(),
                usize::from(before)
            );
            // It goes on saying so.
            let later = start + HOLD / 2;
            assert_eq!(membership.answered(left.clone(), later), Change::None);
            assert_eq!(membership.expire(start + HOLD), Change::Believed);
            assert_eq!(membership.snapshot().members.list(), left);
        }
    }

    #[test]
    fn what_is_new_in_a_list_that_is_not_believed_is_used_at_once() {
        let start = Instant::now();
        let mut membership = Membership::new(HOLD, start);
        membership.answered(some(0..10), start);
        membership.answered(some(20..22), start);
        assert_eq!(membership.snapshot().members.list().len(), 12);
        // Half of what there was is enough.
        assert_eq!(membership.answered(some(4..10), start), Change::List);
        assert_eq!(membership.snapshot().members.list(), some(4..10));
        assert_eq!(membership.expires_at(), None);
    }

    #[test]
    fn what_joins_a_list_that_is_held_does_not_raise_what_ends_the_hold() {
        let start = Instant::now();
        let mut membership = Membership::new(HOLD, start);
        membership.answered(some(0..10), start);
        assert_eq!(membership.answered(some(20..24), start), Change::Held);
        // Fourteen are used now; five are half of the ten there were.
        assert_eq!(membership.answered(some(20..25), start), Change::List);
        assert_eq!(membership.snapshot().members.list(), some(20..25));
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
            Change::Believed
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
