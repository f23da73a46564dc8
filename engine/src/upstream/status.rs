//! How an upstream is doing: the one snapshot that readiness and metrics read.

use http::uri::Authority;
use tokio::time::Instant;

use super::Connected;
use crate::{
    call::{Code, transport::Connect},
    discovery::{Snapshot, Source},
    resilience::breaker::{State, Status},
};

/// An upstream at one moment.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamStatus {
    /// Its name in the configuration.
    pub(crate) name: &'static str,
    /// Instances in the list in use.
    pub(crate) instances: usize,
    /// How far that list can be trusted.
    pub(crate) source: Source,
    /// Whether readiness waits for it.
    pub(crate) required: bool,
    /// How many of them are connected.
    pub(crate) connected: usize,
    /// Whether there ever was an instance.
    pub(crate) has_seen_instances: bool,
    /// Instances that get no calls at present.
    pub(crate) ejected: Vec<Authority>,
    /// How often an instance was ejected.
    pub(crate) ejections: u64,
    /// Attempts in flight, on all listed instances together.
    pub(crate) attempts_in_flight: u32,
    /// The circuit breaker.
    pub(crate) breaker: Status,
    /// How often the breaker entered each state.
    pub(crate) transitions: [(State, u64); 3],
    /// Calls that hold a permit.
    pub(crate) calls_in_flight: usize,
    /// Streams that are open.
    pub(crate) streams: usize,
    /// Calls that were shed.
    pub(crate) shed: u64,
    /// Further attempts, by the code of the attempt before.
    pub(crate) retries: Vec<(Code, u64)>,
    /// Failures that the budget had no retry for.
    pub(crate) retries_exhausted: u64,
    /// Retries the budget has left.
    pub(crate) budget_left: f64,
}

impl UpstreamStatus {
    pub(super) fn new<C: Connect>(
        upstream: &Connected<C>,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Self {
        let (layers, balance) = (upstream.layers(), upstream.balance());
        Self {
            name: upstream.name(),
            instances: snapshot.members.list().len(),
            source: snapshot.source.clone(),
            required: upstream.config().required,
            connected: balance.connected(),
            has_seen_instances: balance.has_seen_instances(),
            ejected: balance.ejected(),
            ejections: balance.ejections(),
            attempts_in_flight: balance.in_flight(),
            breaker: layers.breaker.status(),
            transitions: State::ALL.map(|state| (state, layers.breaker.transitions_to(state))),
            calls_in_flight: layers.bulkhead.in_flight(),
            streams: layers.bulkhead.streams(),
            shed: layers.bulkhead.shed(),
            retries: layers.retry.retries(),
            retries_exhausted: layers.retry.exhausted(),
            budget_left: layers.retry.budget_left(&upstream.config().retry, now),
        }
    }
}
