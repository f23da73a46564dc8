//! What stands between a resolver and an upstream, whatever the upstream does.
//!
//! [`stack`] is the one place that knows the order. Each layer is a tower layer over HTTP
//! messages, below the generated client, and can be used and tested alone. Nothing here names a
//! service: a typed client describes its methods by [`Method`], in its requests' extensions.

pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod classify;
pub mod deadline;
pub mod observe;
pub mod retry;
pub mod span;
mod timed;

use std::time::Duration;

use http::{Request, Response};
use opentelemetry::metrics::Meter;
use tonic::body::Body;
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};

use self::{
    attempt::AttemptLayer,
    breaker::Breaker,
    bulkhead::Bulkhead,
    deadline::{DeadlineLayer, Timeouts, Times},
    retry::RetryLayer,
    span::SpanLayer,
};
use crate::telemetry::metrics::DURATIONS;

/// What the layers have to know of a method; a request extension, declared beside the typed
/// client.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Whether running it twice does no more than running it once, so that it may be retried
    /// when it is unknown whether it ran.
    pub idempotent: bool,
    /// Whether the answer is a stream: then times are for its first message.
    pub streaming: bool,
}

/// Whether the answer to `request` is a stream.
pub(crate) fn streams<B>(request: &Request<B>) -> bool {
    request
        .extensions()
        .get::<Method>()
        .is_some_and(|method| method.streaming)
}

/// An upstream as the generated client sees it.
pub type UpstreamService = BoxCloneSyncService<Request<Body>, Response<Body>, CallError>;

/// A call that ended without an answer. What ended it is its source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CallError(#[source] BoxError);

/// How one service is called, whatever it does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Deadline of a whole call.
    pub timeout: Duration,
    /// Timeout of one attempt.
    pub attempt_timeout: Duration,
    /// The cap on calls in flight.
    pub max_in_flight: usize,
    /// When a failed call is tried again.
    pub retry: retry::Config,
    /// When the service is left alone.
    pub breaker: breaker::Config,
}

impl Settings {
    fn times(&self) -> Times {
        Times {
            call: self.timeout,
            attempt: self.attempt_timeout,
        }
    }
}

impl Default for Settings {
    /// As configured when the operator says nothing.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_millis(500),
            max_in_flight: 1000,
            retry: retry::Config::default(),
            breaker: breaker::Config::default(),
        }
    }
}

/// The layers of one service's stack. Clones share their state: the budget, the breaker, the
/// places.
#[derive(Clone, Debug)]
pub struct Layers {
    /// How long calls and attempts may take.
    pub timeouts: Timeouts,
    /// The cap on calls in flight.
    pub bulkhead: Bulkhead,
    /// Further attempts and their budget.
    pub retry: RetryLayer,
    /// Whether to call at all.
    pub breaker: Breaker,
    /// What is seen of an attempt.
    pub span: SpanLayer,
}

impl Layers {
    /// The layers of the service `name`.
    pub fn new(name: &'static str, settings: &Settings) -> Self {
        Self {
            timeouts: Timeouts::new(settings.times()),
            bulkhead: Bulkhead::new(settings.max_in_flight),
            retry: RetryLayer::new(&settings.retry),
            // A probe that takes longer than a call may is hung.
            breaker: Breaker::new(name, &settings.breaker, settings.timeout),
            span: SpanLayer {
                upstream: name,
                durations: None,
            },
        }
    }

    /// Measures attempts with an instrument of `meter`.
    pub fn measured(mut self, meter: &Meter) -> Self {
        let durations = meter
            .f64_histogram("rpc.client.call.duration")
            .with_unit("s")
            .with_description("How long attempts took, by method and status.")
            .with_boundaries(DURATIONS.to_vec())
            .build();
        self.span.durations = Some(durations);
        self
    }

    /// Puts `settings` in force from the next call on. Calls in flight end as they began; the
    /// budget, the calls in flight and, where it can be, the breaker's state stay.
    pub fn reconfigure(&self, settings: &Settings) {
        self.timeouts.set(settings.times());
        self.bulkhead.resize(settings.max_in_flight);
        self.retry.reconfigure(&settings.retry);
        self.breaker
            .reconfigure(&settings.breaker, settings.timeout);
    }
}

/// Wraps `balance`, which sends one attempt to one instance, in everything else a call needs.
///
/// The order, outside to inside, with the reason for each place:
/// 1. **Deadline**: outermost, so that nothing below can make a call take longer.
/// 2. **Bulkhead**: before any work; a call keeps one place through all its attempts and pauses.
/// 3. **Retry**: inside the deadline, so that all attempts share it; around the breaker, so that
///    each attempt counts there and an open breaker ends the call.
/// 4. **Breaker**: around the attempt timeout, so that a hang is a failure and not a dropped
///    future that says nothing.
/// 5. **Attempt**: its timeout and headers; cleans the answer before anybody reads it.
/// 6. **Span**: what an attempt looks like from outside, with headers that name its own span.
/// 7. **Balance** (the service passed in): the choice of an instance, per attempt.
pub fn stack<S>(balance: S, layers: &Layers) -> UpstreamService
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let stack = ServiceBuilder::new()
        .map_err(CallError)
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(DeadlineLayer(layers.timeouts.clone()))
        .layer(layers.bulkhead.clone())
        .layer(layers.retry.clone())
        .layer(layers.breaker.clone())
        .layer(AttemptLayer(layers.timeouts.clone()))
        .layer(layers.span.clone())
        .service(balance);
    BoxCloneSyncService::new(stack)
}

#[cfg(test)]
mod tests;
