//! What stands between a resolver and an upstream, whatever the upstream does: tower layers around
//! the client, from a [`Call`] to a [`Reply`].
//!
//! [`stack`] is the one place that knows the order. Each layer can be used and tested alone. Nothing
//! here names a service.

pub(crate) mod breaker;
mod budget;
mod bulkhead;
mod deadline;
mod retry;
mod span;

use std::sync::Arc;

use opentelemetry::metrics::Meter;
use tower::ServiceBuilder;

pub(crate) use self::{
    breaker::Breaker, bulkhead::Bulkhead, deadline::Deadline, retry::Retries, span::AttemptSpans,
};
use crate::call::{AroundLayer, BoxFuture, Call, CallService, Config, Failed, Reply, boxed};

/// The layers of one service's stack that have a state. Clones share it: the budget, the breaker,
/// the permits.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    /// The cap on calls in flight.
    pub(crate) bulkhead: Bulkhead,
    /// Further attempts and their budget.
    pub(crate) retry: Retries,
    /// Whether to call at all.
    pub(crate) breaker: Breaker,
    /// What is seen of an attempt.
    pub(crate) span: AttemptSpans,
}

impl Layers {
    /// The layers of the service `name`; attempts are measured with an instrument of `meter`.
    pub(crate) fn new(name: &'static str, config: &Config, meter: &Meter) -> Self {
        Self {
            bulkhead: Bulkhead::default(),
            retry: Retries::default(),
            // A probe that takes longer than a call may is hung.
            breaker: Breaker::new(name, &config.breaker, config.timeout),
            span: AttemptSpans::new(name, meter),
        }
    }
}

/// A stack, whatever it is made of.
#[derive(Clone)]
pub(crate) struct Stack(Arc<dyn Erased>);

impl Stack {
    /// Makes a call.
    pub(crate) fn call(&self, call: Call) -> BoxFuture<Result<Reply, Failed>> {
        self.0.call(call)
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stack")
    }
}

/// A service that can be called through a shared reference: no layer waits for anything before a
/// call.
trait Erased: Send + Sync {
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Failed>>;
}

impl<S> Erased for S
where
    S: CallService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<Result<Reply, Failed>> {
        boxed(tower::Service::call(&mut self.clone(), call))
    }
}

/// Wraps `balance`, which makes one attempt on one instance, in everything else a call needs.
///
/// The order, outside to inside, with the reason for each place:
/// 1. **Deadline**: outermost, so that nothing below can make a call take longer.
/// 2. **Bulkhead**: before any work; a call keeps one permit through all its attempts and pauses.
/// 3. **Retry**: inside the deadline, so that all attempts share it; around the breaker, so that
///    each attempt counts there and an open breaker ends the call.
/// 4. **Breaker**: around the attempt and its timeout, so that a hang is a failure and not a dropped
///    future that says nothing.
/// 5. **Span**: what an attempt looks like from outside, with headers that name its own span; around
///    the balancer, which says in it which instance it chose.
/// 6. **Balance** (the service passed in): the choice of an instance, per attempt, and the attempt
///    itself, which ends at its own deadline (`call/transport/client.rs`).
pub(crate) fn stack<S>(balance: S, layers: &Layers) -> Stack
where
    S: CallService + Clone + Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
{
    Stack(Arc::new(
        ServiceBuilder::new()
            .layer(AroundLayer(Deadline))
            .layer(AroundLayer(layers.bulkhead.clone()))
            .layer(AroundLayer(layers.retry.clone()))
            .layer(AroundLayer(layers.breaker.clone()))
            .layer(AroundLayer(layers.span.clone()))
            .service(balance),
    ))
}

#[cfg(test)]
mod tests;
