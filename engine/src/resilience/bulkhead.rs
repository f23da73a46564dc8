//! A cap on the calls in flight to one upstream. What is above it is shed, not queued: a queue
//! in front of an overloaded upstream only makes every answer late.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::time::Instant;

use crate::call::{Around, Call, CallService, Failed, Guard, Guarded, Outcome, Overloaded, now};

/// The cap of one service; `max_in_flight` of a call's configuration says how high it is. Clones
/// share it.
///
/// What decides is one question, "may one more start?", asked of [`Permits`]: an adaptive limit
/// would answer it there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulkhead(Arc<Permits>);

#[derive(Debug, Default)]
struct Permits {
    taken: AtomicUsize,
    shed: AtomicU64,
}

/// One call's permit, until dropped: a unary call's to its end, a stream's to its first message,
/// because a stream that idles costs the upstream little.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Permits {
    fn take(self: &Arc<Self>, limit: usize) -> Result<Permit, Overloaded> {
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        match self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        {
            Ok(_) => Ok(Permit(Arc::clone(self))),
            Err(_) => {
                self.shed.fetch_add(1, Ordering::Relaxed);
                Err(Overloaded { limit })
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guard for Permit {
    fn end(&mut self, _: Outcome, _: Instant) {}

    fn outlives_message(&self) -> bool {
        false
    }
}

impl Bulkhead {
    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Calls that were shed so far.
    pub(crate) fn shed(&self) -> u64 {
        self.0.shed.load(Ordering::Relaxed)
    }
}

impl<S: CallService> Around<S> for Bulkhead
where
    S::Future: Unpin,
{
    type Future = Guarded<S::Future, Permit>;

    fn around(&self, inner: &mut S, call: Call) -> Self::Future {
        match self.0.take(call.context.config.max_in_flight) {
            Ok(permit) => Guarded::running(inner.call(call), permit),
            Err(overloaded) => Guarded::refused(Failed::unsent(overloaded, now())),
        }
    }
}
