//! What one call tells about the instance it went to.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Code;

use super::{Shared, endpoint::Endpoint, gate::Moved};
use crate::resilience::{classify::Effect, observe::Observer};

/// A call on one instance: in flight until dropped, a stream until its first message.
pub(super) struct Call<S> {
    shared: Arc<Shared<S>>,
    endpoint: Arc<Endpoint<S>>,
    probe: bool,
    started: Instant,
    streaming: bool,
    /// When the first message arrived: that is the latency.
    message: Option<Instant>,
    /// The verdict of a stream, which does not wait for its end.
    settled: bool,
}

impl<S> Call<S> {
    pub(super) fn begin(
        shared: Arc<Shared<S>>,
        endpoint: Arc<Endpoint<S>>,
        probe: bool,
        streaming: bool,
        now: Instant,
    ) -> Self {
        endpoint.begin();
        Self {
            shared,
            endpoint,
            probe,
            started: now,
            streaming,
            message: None,
            settled: false,
        }
    }

    fn succeeded(&mut self, now: Instant) {
        let latency = self.message.unwrap_or(now) - self.started;
        self.endpoint.estimate().success(latency, now);
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
        self.message = Some(now);
        // What follows a unary call's message may still be an error, or nothing at all. A stream
        // may last for hours: its first message is the verdict, and an idle stream is no load.
        if self.streaming {
            self.settled = true;
            self.succeeded(now);
            self.endpoint.end();
        }
    }

    fn end(&mut self, effect: Effect, _: Code, now: Instant) {
        match effect {
            Effect::Success if self.settled => {}
            Effect::Success => self.succeeded(now),
            Effect::Failure => self.failed(now),
            // A probe has to be answered.
            Effect::Overload if self.probe => self.failed(now),
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
        if !self.settled {
            self.endpoint.end();
        }
    }
}
