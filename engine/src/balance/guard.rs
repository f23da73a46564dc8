//! The guard of one attempt, which reports its outcome to the endpoint.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Shared, endpoint::Endpoint, gate::GateTransition};
use crate::call::{Effect, Guard, Outcome};

/// An attempt on one instance: in flight until it ends, a stream until its first message.
pub(crate) struct EndpointGuard<S> {
    shared: Arc<Shared<S>>,
    in_flight: Option<InFlight<S>>,
    endpoint: Arc<Endpoint<S>>,
    probe: bool,
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
    pub(super) fn begin(
        shared: Arc<Shared<S>>,
        endpoint: Arc<Endpoint<S>>,
        probe: bool,
        now: Instant,
    ) -> Self {
        endpoint.begin();
        Self {
            shared,
            in_flight: Some(InFlight(Arc::clone(&endpoint))),
            endpoint,
            probe,
            began: now,
            succeeded: false,
        }
    }

    fn succeed(&mut self, at: Instant) {
        let latency = at.saturating_duration_since(self.began);
        self.endpoint.estimate().success(latency, at);
        let moved = self.endpoint.gate().success(self.probe, at);
        if moved == GateTransition::Returned {
            self.probe = false;
            self.shared.moved(&self.endpoint, moved);
        }
    }

    fn fail(&mut self, at: Instant) {
        self.endpoint.estimate().failure(at);
        let moved = self.shared.fail(&self.endpoint, self.probe, at);
        if moved != GateTransition::Stayed {
            self.probe = false;
            self.shared.moved(&self.endpoint, moved);
        }
    }

    /// The attempt says nothing about the instance; a probe may be made again.
    fn give_probe_back(&mut self, at: Instant) {
        if std::mem::take(&mut self.probe) {
            self.endpoint.gate().probe_given_back(at);
            self.shared.moved(&self.endpoint, GateTransition::Stayed);
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
        match outcome.effect {
            Effect::Success if self.succeeded => {}
            Effect::Success => self.succeed(at),
            Effect::Failure => self.fail(at),
            // A probe has to be answered.
            Effect::Overload if self.probe => self.fail(at),
            Effect::Overload => {
                // Less of the traffic, but no step towards an ejection.
                self.endpoint.estimate().failure(at);
                self.give_probe_back(at);
            }
            Effect::Neutral => self.give_probe_back(at),
        }
    }
}
