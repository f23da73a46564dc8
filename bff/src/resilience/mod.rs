//! What stands between a resolver and an upstream, whatever the upstream does.
//!
//! [`stack`] is the one place that knows the order. Each layer is a tower layer over HTTP
//! messages, below the generated client, and can be used and tested alone. Nothing here names a
//! service: methods are described by the typed clients.

pub mod budget;
pub mod classify;
pub mod deadline;
pub mod retry;

use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneSyncService};

use self::{deadline::DeadlineLayer, retry::RetryLayer};

/// What the layers have to know of a method; declared beside the typed client.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The request's path, such as `/package.Service/Method`.
    pub path: &'static str,
    /// Whether running it twice does no more than running it once, so that it may be retried
    /// when it is unknown whether it ran.
    pub idempotent: bool,
    /// Whether the answer is a stream: then the deadline is for its first message.
    pub streaming: bool,
}

/// The declared method of `request`, if it is declared.
fn method_of<'m, B>(methods: &'m [Method], request: &Request<B>) -> Option<&'m Method> {
    methods
        .iter()
        .find(|method| method.path == request.uri().path())
}

/// An upstream as the generated client sees it.
pub type UpstreamService = BoxCloneSyncService<Request<Body>, Response<Body>, CallError>;

/// A call that ended without an answer. What ended it is its source.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CallError(#[source] BoxError);

/// Wraps `balance`, which sends one attempt to one instance, in everything else a call needs.
///
/// The order, outside to inside, with the reason for each place:
/// 1. **Deadline**: outermost, so that nothing below can make a call take longer.
/// 2. **Retry**: inside the deadline, so that all attempts share it; around the choice of an
///    instance, so that each attempt can go to another one.
/// 3. **Balance** (the service passed in): the choice of an instance, per attempt.
pub fn stack<S>(
    balance: S,
    timeout: Duration,
    retry: &retry::Config,
    methods: &'static [Method],
) -> UpstreamService
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
        .layer(DeadlineLayer { timeout, methods })
        .layer(RetryLayer::new(retry, methods))
        .service(balance);
    BoxCloneSyncService::new(stack)
}
