//! The deadline of a whole call: the earlier of the request's own and the upstream's timeout.

use std::future::{Ready, ready};

use futures_util::future::Either;

use crate::call::{Around, Call, CallService, Failed, NoTimeLeft, Reply, TOO_LITTLE, now};

/// Gives every call its deadline, and refuses one that has too little time left to be worth sending.
///
/// It needs no clock of its own: an attempt ends at the call's deadline at the latest, and no retry
/// pauses beyond it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline;

impl<S: CallService> Around<S> for Deadline {
    type Future = Either<S::Future, Ready<Result<Reply, Failed>>>;

    fn around(&self, inner: &mut S, mut call: Call) -> Self::Future {
        let now = now();
        let own = now + call.context.config.timeout;
        let deadline = call.deadline.map_or(own, |requested| requested.min(own));
        let left = deadline.saturating_duration_since(now);
        if left < TOO_LITTLE {
            return Either::Right(ready(Err(Failed::unsent(NoTimeLeft { left }, now))));
        }
        call.deadline = Some(deadline);
        Either::Left(inner.call(call))
    }
}
