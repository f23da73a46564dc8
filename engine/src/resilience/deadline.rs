//! The deadline of a whole call: the earlier of the request's own and the upstream's timeout.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::future::Either;
use tower::{Layer, Service};

use crate::call::{Call, CallService, Failed, NoTimeLeft, Reply, TOO_LITTLE, now};

/// Gives every call its deadline, and refuses one that has too little time left to be worth sending.
///
/// It needs no clock of its own: an attempt ends at the call's deadline at the latest, and no retry
/// pauses beyond it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService(inner)
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub(crate) struct DeadlineService<S>(S);

impl<S: CallService> Service<Call> for DeadlineService<S> {
    type Response = Reply;
    type Error = Failed;
    type Future = Either<S::Future, Ready<Result<Reply, Failed>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let now = now();
        let own = now + call.context.config.timeout;
        let deadline = call.deadline.map_or(own, |requested| requested.min(own));
        let left = deadline.saturating_duration_since(now);
        if left < TOO_LITTLE {
            return Either::Right(ready(Err(Failed::unsent(NoTimeLeft { left }, now))));
        }
        call.deadline = Some(deadline);
        Either::Left(self.0.call(call))
    }
}
