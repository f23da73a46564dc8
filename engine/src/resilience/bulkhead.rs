//! A cap on the calls in flight to one upstream, and one on its open streams. What is above it is shed, not
//! queued: a queue in front of an overloaded upstream only makes every answer late. No client takes all of it
//! from the others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

use crate::{
    call::{
        Around, Call, CallContext, CallService, Failed, Guard, Guarded, Outcome, Overloaded, now,
    },
    types::{ClientKey, Fair, Lasting, LastingPlace, Place},
};

/// The caps of one service; `max_in_flight` and `max_streams` of a call's configuration say how high they
/// are. Clones share them.
///
/// What decides is one question, "may one more start?", asked of [`Fair`] and [`Lasting`]: an adaptive limit
/// would answer it there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bulkhead {
    calls: Fair<ClientKey>,
    streams: Lasting<ClientKey>,
    shed: Arc<AtomicU64>,
}

/// One call's permit, until dropped: a unary call's to its end, a stream's to its first message,
/// because a stream that idles costs the upstream little; and a stream has a second one, to its end.
#[derive(Debug)]
pub(crate) struct Permit {
    call: Option<Place<ClientKey>>,
    stream: Option<LastingPlace<ClientKey>>,
}

impl Guard for Permit {
    fn message(&mut self, _: Instant) {
        self.call = None;
    }

    fn end(&mut self, _: Outcome, _: Instant) {}

    fn outlives_message(&self) -> bool {
        self.stream.is_some()
    }
}

impl Bulkhead {
    fn take(&self, call: &CallContext) -> Result<Permit, Overloaded> {
        let (config, client) = (&call.config, call.client);
        let beyond = |limit, what| Overloaded { limit, what };
        let stream = match call.method.streaming {
            true => {
                let limit = config.max_streams;
                let place = self.streams.take(limit, client);
                Some(place.ok_or(beyond(limit, "streams"))?)
            }
            false => None,
        };
        let limit = config.max_in_flight;
        let call = self.calls.take(limit, client, now);
        Ok(Permit {
            call: Some(call.ok_or(beyond(limit, "calls"))?),
            stream,
        })
    }

    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.calls.taken()
    }

    /// Open streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.taken()
    }

    /// Calls that were shed so far.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

impl<S: CallService> Around<S> for Bulkhead
where
    S::Future: Unpin,
{
    type Future = Guarded<S::Future, Permit>;

    fn around(&self, inner: &mut S, call: Call) -> Self::Future {
        match self.take(&call.context) {
            Ok(permit) => Guarded::running(inner.call(call), permit),
            Err(overloaded) => {
                self.shed.fetch_add(1, Ordering::Relaxed);
                Guarded::refused(Failed::unsent(overloaded, now()))
            }
        }
    }
}
