//! One attempt on an instance, and what its end does to the instance: time and randomness are arguments.

use rand::Rng;
use tokio::time::Instant;

use super::{Chosen, Shared, gate::GateTransition};
use crate::call::{Effect, Outcome, Retry};

/// An attempt on the instance that was chosen for it.
pub(super) struct Attempt<S> {
    chosen: Chosen<S>,
    began: Instant,
    /// Whether a stream has succeeded with its first message: its good end says nothing more.
    succeeded: bool,
}

impl<S> Attempt<S> {
    pub(super) fn begin(chosen: Chosen<S>, now: Instant) -> Self {
        Self {
            chosen,
            began: now,
            succeeded: false,
        }
    }

    /// A stream's first message has come.
    pub(super) fn message(&mut self, shared: &Shared<S>, at: Instant) {
        self.succeeded = true;
        self.succeed(shared, at);
    }

    /// It is over.
    pub(super) fn end(
        &mut self,
        shared: &Shared<S>,
        outcome: Outcome,
        at: Instant,
        rng: &mut impl Rng,
    ) {
        if outcome.retry == Retry::Transparent {
            // The connection takes no more calls.
            shared.spent(&self.chosen.endpoint, &self.chosen.established);
        }
        match outcome.effect {
            Effect::Success if self.succeeded => {}
            Effect::Success => self.succeed(shared, at),
            Effect::Declined => self.declined(shared, at, rng),
            Effect::Failure => self.fail(shared, outcome.foreign, at, rng),
            // A probe has to be answered.
            Effect::Overload if self.chosen.probe => self.fail(shared, false, at, rng),
            Effect::Overload => {
                // Less of the traffic, but no step towards an ejection.
                self.chosen.endpoint.record().overloaded(at);
                self.give_probe_back(shared, at);
            }
            Effect::Neutral => self.give_probe_back(shared, at),
        }
    }

    fn succeed(&mut self, shared: &Shared<S>, at: Instant) {
        let latency = at.saturating_duration_since(self.began);
        let endpoint = &self.chosen.endpoint;
        endpoint.record().success(latency, at);
        shared.typical.sample(latency);
        self.alive(shared, at);
    }

    /// The peer has answered, well or not.
    fn alive(&mut self, shared: &Shared<S>, at: Instant) {
        self.chosen.endpoint.prove();
        let moved = self.chosen.endpoint.gate().success(self.chosen.probe, at);
        if moved == GateTransition::Returned {
            self.chosen.probe = false;
            self.chosen.endpoint.start_over(at);
            shared.moved(&self.chosen.endpoint, moved);
        }
    }

    /// The peer has answered that it will not. Whether that is its own fault, its siblings tell.
    fn declined(&mut self, shared: &Shared<S>, at: Instant, rng: &mut impl Rng) {
        self.chosen.endpoint.record().declined(at);
        if self.chosen.probe && shared.still_odd(&self.chosen.endpoint, at) {
            self.step_out(shared, false, at, rng);
        } else {
            self.alive(shared, at);
        }
        shared.compare(at, rng);
    }

    fn fail(&mut self, shared: &Shared<S>, foreign: bool, at: Instant, rng: &mut impl Rng) {
        self.chosen.endpoint.record().failure(at);
        self.step_out(shared, foreign, at, rng);
        shared.compare(at, rng);
    }

    /// Takes a step towards an ejection; one that is `foreign` needs no other.
    fn step_out(&mut self, shared: &Shared<S>, foreign: bool, at: Instant, rng: &mut impl Rng) {
        let (endpoint, probe) = (&self.chosen.endpoint, self.chosen.probe);
        let moved = shared.fail(endpoint, probe, foreign, at, rng);
        if moved != GateTransition::Stayed {
            self.chosen.probe = false;
            shared.moved(&self.chosen.endpoint, moved);
        }
    }

    /// The attempt says nothing about the instance; a probe may be made again.
    fn give_probe_back(&mut self, shared: &Shared<S>, at: Instant) {
        if std::mem::take(&mut self.chosen.probe) {
            self.chosen.endpoint.gate().probe_given_back(at);
            shared.moved(&self.chosen.endpoint, GateTransition::Stayed);
        }
    }
}
