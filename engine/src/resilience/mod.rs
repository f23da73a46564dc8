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

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use opentelemetry::metrics::Meter;
use tower::{Service, ServiceBuilder};

#[cfg(feature = "internals")]
pub(crate) use self::{
    breaker::state::{Machine, Token},
    budget::Budget,
    retry::policy::pause,
};
pub(crate) use self::{
    breaker::{Breaker, Listener},
    bulkhead::Bulkhead,
    deadline::Deadline,
    retry::Retries,
    span::AttemptSpans,
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
    /// The layers of the service `name`; attempts are measured with an instrument of `meter`,
    /// and `listeners` are told of the breaker's changes.
    pub(crate) fn new(
        name: &'static str,
        config: &Config,
        meter: &Meter,
        listeners: &[Listener],
    ) -> Self {
        Self {
            bulkhead: Bulkhead::default(),
            retry: Retries::default(),
            // A probe that takes longer than a call may is hung.
            breaker: Breaker::new(name, &config.breaker, config.longest_timeout(), listeners),
            span: AttemptSpans::new(name, meter),
        }
    }
}

/// The layers around the calls to one upstream, whatever they are made of: a tower service from a
/// [`Call`] to a [`Reply`], which a layer of one's own is put around.
#[derive(Clone)]
pub struct Stack(Arc<dyn Erased>);

impl Service<Call> for Stack {
    type Response = Reply;
    type Error = Failed;
    type Future = BoxFuture<Result<Reply, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.0.call(call)
    }
}

impl Stack {
    /// The stack that `service` is.
    pub(crate) fn of<S>(service: S) -> Self
    where
        S: CallService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(service))
    }

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
    Stack::of(
        ServiceBuilder::new()
            .layer(AroundLayer(Deadline))
            .layer(AroundLayer(layers.bulkhead.clone()))
            .layer(AroundLayer(layers.retry.clone()))
            .layer(AroundLayer(layers.breaker.clone()))
            .layer(AroundLayer(layers.span.clone()))
            .service(balance),
    )
}

#[cfg(test)]
mod tests;
