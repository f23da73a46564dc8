//! The guard of one attempt, which reports its outcome to the endpoint.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Chosen, Shared, endpoint::Endpoint, gate::GateTransition};
use crate::call::{Effect, Guard, Outcome, Retry};

/// An attempt on one instance: in flight until it ends, a stream until its first message.
pub(crate) struct EndpointGuard<S> {
    shared: Arc<Shared<S>>,
    in_flight: Option<InFlight<S>>,
    chosen: Chosen<S>,
    began: Instant,
    /// Whether a stream has succeeded with its first message: its good end says nothing more.
    succeeded: bool,
}

/// One of an endpoint's attempts in flight, until dropped.
struct InFlight<S>(Arc<Endpoint<S>>);

impl<S> Drop for InFlight<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<S> EndpointGuard<S> {
    pub(super) fn begin(shared: Arc<Shared<S>>, chosen: Chosen<S>, now: Instant) -> Self {
        chosen.endpoint.begin();
        Self {
            shared,
            in_flight: Some(InFlight(Arc::clone(&chosen.endpoint))),
            chosen,
            began: now,
            succeeded: false,
        }
    }

    fn succeed(&mut self, at: Instant) {
        let latency = at.saturating_duration_since(self.began);
        let endpoint = &self.chosen.endpoint;
        endpoint.prove();
        endpoint.record().success(latency, at);
        self.shared.typical.sample(latency);
        self.alive(at);
    }

    /// The peer has answered, well or not.
    fn alive(&mut self, at: Instant) {
        let moved = self.chosen.endpoint.gate().success(self.chosen.probe, at);
        if moved == GateTransition::Returned {
            self.chosen.probe = false;
            self.chosen.endpoint.start_over(at);
            self.shared.moved(&self.chosen.endpoint, moved);
        }
    }

    /// The peer has answered that it will not. Whether that is its own fault, its siblings tell.
    fn declined(&mut self, at: Instant) {
        self.chosen.endpoint.record().declined(at);
        if self.chosen.probe && self.shared.still_odd(&self.chosen.endpoint, at) {
            self.step_out(false, at);
        } else {
            self.alive(at);
        }
        self.shared.compare(at);
    }

    fn fail(&mut self, foreign: bool, at: Instant) {
        self.chosen.endpoint.record().failure(at);
        self.step_out(foreign, at);
        self.shared.compare(at);
    }

    /// Takes a step towards an ejection; one that is `foreign` needs no other.
    fn step_out(&mut self, foreign: bool, at: Instant) {
        let (endpoint, probe) = (&self.chosen.endpoint, self.chosen.probe);
        let moved = self.shared.fail(endpoint, probe, foreign, at);
        if moved != GateTransition::Stayed {
            self.chosen.probe = false;
            self.shared.moved(&self.chosen.endpoint, moved);
        }
    }

    /// The attempt says nothing about the instance; a probe may be made again.
    fn give_probe_back(&mut self, at: Instant) {
        if std::mem::take(&mut self.chosen.probe) {
            self.chosen.endpoint.gate().probe_given_back(at);
            self.shared
                .moved(&self.chosen.endpoint, GateTransition::Stayed);
        }
    }
}

impl<S: Send + Sync + 'static> Guard for EndpointGuard<S> {
    /// A stream may last for hours: its first message is the outcome, and an idle stream is no load.
    fn message(&mut self, at: Instant) {
        self.succeeded = true;
        self.succeed(at);
        self.in_flight = None;
    }

    fn end(&mut self, outcome: Outcome, at: Instant) {
        self.in_flight = None;
        if outcome.retry == Retry::Transparent {
            // The connection takes no more calls.
            self.shared
                .spent(&self.chosen.endpoint, &self.chosen.established);
        }
        match outcome.effect {
            Effect::Success if self.succeeded => {}
            Effect::Success => self.succeed(at),
            Effect::Declined => self.declined(at),
            Effect::Failure => self.fail(outcome.foreign, at),
            // A probe has to be answered.
            Effect::Overload if self.chosen.probe => self.fail(false, at),
            Effect::Overload => {
                // Less of the traffic, but no step towards an ejection.
                self.chosen.endpoint.record().overloaded(at);
                self.give_probe_back(at);
            }
            Effect::Neutral => self.give_probe_back(at),
        }
    }
}
