//! The guard of one attempt, which reports its outcome to the endpoint.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Chosen, Shared, attempt::Attempt, endpoint::Endpoint};
use crate::call::{Guard, Outcome};

/// An attempt on one instance: in flight until it ends, a stream until its first message.
pub(crate) struct EndpointGuard<S> {
    shared: Arc<Shared<S>>,
    in_flight: Option<InFlight<S>>,
    stream: Option<OpenStream<S>>,
    attempt: Attempt<S>,
}

/// One of an endpoint's attempts in flight, until dropped.
pub(super) struct InFlight<S>(Arc<Endpoint<S>>);

impl<S> InFlight<S> {
    pub(super) fn begin(endpoint: &Arc<Endpoint<S>>) -> Self {
        endpoint.begin();
        Self(Arc::clone(endpoint))
    }
}

impl<S> Drop for InFlight<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// One of an endpoint's streams, until dropped.
struct OpenStream<S>(Arc<Endpoint<S>>);

impl<S> OpenStream<S> {
    fn begin(endpoint: &Arc<Endpoint<S>>) -> Self {
        endpoint.stream_begins();
        Self(Arc::clone(endpoint))
    }
}

impl<S> Drop for OpenStream<S> {
    fn drop(&mut self) {
        self.0.stream_ends();
    }
}

impl<S> EndpointGuard<S> {
    pub(super) fn begin(
        shared: Arc<Shared<S>>,
        chosen: Chosen<S>,
        streams: bool,
        now: Instant,
    ) -> Self {
        Self {
            shared,
            stream: streams.then(|| OpenStream::begin(&chosen.endpoint)),
            in_flight: Some(InFlight::begin(&chosen.endpoint)),
            attempt: Attempt::begin(chosen, now),
        }
    }
}

impl<S: Send + Sync + 'static> Guard for EndpointGuard<S> {
    /// A stream may last for hours: its first message is the outcome, and an idle stream is no load.
    fn message(&mut self, at: Instant) {
        self.attempt.message(&self.shared, at);
        self.in_flight = None;
    }

    fn end(&mut self, outcome: Outcome, at: Instant) {
        self.in_flight = None;
        self.stream = None;
        self.attempt
            .end(&self.shared, outcome, at, &mut rand::rng());
    }
}
