//! What one call tells about the instance it went to.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Shared, endpoint::Endpoint, gate::Moved};
use crate::resilience::{classify::Effect, observe::Observer};

/// A call on one instance: in flight until dropped.
pub(super) struct Call<S> {
    shared: Arc<Shared<S>>,
    endpoint: Arc<Endpoint<S>>,
    probe: bool,
    started: Instant,
    /// A message arrived: that was the latency, and a success until the end says otherwise.
    message: bool,
}

impl<S> Call<S> {
    pub(super) fn begin(
        shared: Arc<Shared<S>>,
        endpoint: Arc<Endpoint<S>>,
        probe: bool,
        now: Instant,
    ) -> Self {
        endpoint.begin();
        Self {
            shared,
            endpoint,
            probe,
            started: now,
            message: false,
        }
    }

    fn succeeded(&mut self, now: Instant) {
        self.endpoint.estimate().success(now - self.started, now);
        let moved = self.endpoint.gate().success(self.probe, now);
        if moved == Moved::Returned {
            self.probe = false;
            self.shared.moved(&self.endpoint, moved);
        }
    }

    fn failed(&mut self, now: Instant) {
        self.endpoint.estimate().failure(now);
        let moved = self.shared.fail(&self.endpoint, self.probe, now);
        if moved != Moved::Stayed {
            self.probe = false;
            self.shared.moved(&self.endpoint, moved);
        }
    }

    fn said_nothing(&mut self, now: Instant) {
        if std::mem::take(&mut self.probe) {
            self.endpoint.gate().probe_given_back(now);
            self.shared.moved(&self.endpoint, Moved::Stayed);
        }
    }
}

impl<S: Send + Sync + 'static> Observer for Call<S> {
    fn message(&mut self, now: Instant) {
        self.message = true;
        self.succeeded(now);
    }

    fn end(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Success if self.message => {}
            Effect::Success => self.succeeded(now),
            Effect::Failure => self.failed(now),
            Effect::Overload => {
                // Less of the traffic, but no step towards an ejection.
                self.endpoint.estimate().failure(now);
                self.said_nothing(now);
            }
            Effect::Neutral => self.said_nothing(now),
        }
    }
}

impl<S> Drop for Call<S> {
    fn drop(&mut self) {
        self.endpoint.end();
    }
}
