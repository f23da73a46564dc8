//! What one call to an upstream carries, what comes back, and how it ended: the bottom of
//! resilience, balance and upstream, which pass these values to one another.
//!
//! A call goes down a chain of tower services as a [`Call`] (a method, an encoded message, a
//! context) and comes back as a [`Reply`] or as [`Failed`]. None of the services is generic over
//! messages, so that a method costs no code of theirs. [`transport`] is the one place that knows how
//! a call travels, [`Outcome`] the one place that says what its end means.

mod code;
mod config;
mod counted;
mod error;
mod forward;
mod guard;
mod layer;
mod method;
mod outcome;
mod reply;
pub(crate) mod transport;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, uri::Authority};
use parking_lot::Mutex;
use tokio::time::Instant;

#[cfg(feature = "internals")]
pub use self::counted::{Counts, counts};
pub use self::{code::Code, error::Failed, method::Method, reply::Reply};
pub(crate) use self::{
    config::{
        BreakerConfig, BreakerMode, Config, Effective, EjectionConfig, ForMethod, RetryConfig,
        Strategy,
    },
    counted::{BoxFuture, boxed, now, timeout_at},
    error::{
        AttemptElapsed, BadReply, CallError, CircuitOpen, Lost, NoInstance, NoTimeLeft, Overloaded,
        Pushback, Unreachable,
    },
    forward::{ForwardedHeader, forwarded},
    guard::{Guard, Guarded},
    layer::{Around, AroundLayer, CallService},
    method::RawMethod,
    outcome::{Effect, Outcome, Reason, Retry, TOO_LITTLE, Timing},
    reply::{Decoded, Messages, ReplyBody},
};
use crate::{telemetry::trace::Span, types::ClientKey};

/// A call on its way down the layers, and in the inner ones an attempt of it. A clone is another attempt of the same call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What all attempts share.
    pub(crate) context: Arc<CallContext>,
    /// When the call has to be answered, all its attempts included. Layers only bring it forward.
    pub(crate) deadline: Option<Instant>,
    /// Which attempt this is.
    pub(crate) attempt: Attempt,
    /// The state of the breaker that let it through, for its span.
    pub(crate) breaker: Option<&'static str>,
    /// The attempt's own span.
    pub(crate) span: Span,
    /// Metadata for the peer; transport adds gRPC's own.
    pub(crate) headers: HeaderMap,
}

/// What the attempts of one call share.
#[derive(Debug)]
pub(crate) struct CallContext {
    /// What is called.
    pub(crate) method: &'static RawMethod,
    /// The encoded request.
    pub(crate) message: Bytes,
    /// The upstream's configuration when the call began: a change acts on the next call.
    pub(crate) config: Arc<Config>,
    /// Whether it may be retried when it is not known whether it ran.
    pub(crate) idempotent: bool,
    /// Whether the client chose the deadline: then an upstream that misses it is not at fault.
    pub(crate) client_deadline: bool,
    /// Whose request it is for.
    pub(crate) client: Option<ClientKey>,
    /// The call's span; attempts are its children.
    pub(crate) span: Span,
    /// The instances that were tried, in order.
    attempted: Mutex<Vec<Authority>>,
}

/// Which attempt of a call it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// From 1.
    pub(crate) number: u32,
    /// Whether one was made before it, if only to find a connection closing.
    pub(crate) resent: bool,
    /// How long the call paused before it.
    pub(crate) paused: Duration,
    /// Whether no other will follow: cutting it short gains nothing, so it has all that is left of
    /// the call's deadline.
    pub(crate) last: bool,
}

impl Call {
    /// What is called: `package.Service/Method`.
    pub fn method(&self) -> &'static str {
        self.context.method.name()
    }

    /// The encoded request.
    pub fn message(&self) -> &Bytes {
        &self.context.message
    }

    /// Metadata that the upstream is sent; gRPC's own is added later.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The same, to change it.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// When the call has to be answered, as far as the request says so; the upstream's own timeout
    /// comes on top.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The first, and so far the only, attempt of a call.
    pub(crate) fn new(
        method: &'static RawMethod,
        message: Bytes,
        settings: impl Into<ForMethod>,
        options: CallOptions,
    ) -> Self {
        let ForMethod { config, idempotent } = settings.into();
        let headers = match &options.forwarded {
            Some(headers) => forwarded(headers, &config.forward),
            None => HeaderMap::new(),
        };
        Self {
            deadline: options.deadline,
            attempt: Attempt {
                number: 1,
                resent: false,
                paused: Duration::ZERO,
                last: true,
            },
            breaker: None,
            span: Span::default(),
            headers,
            context: Arc::new(CallContext {
                method,
                message,
                config,
                idempotent: idempotent.unwrap_or(method.idempotent),
                client_deadline: options.client_deadline,
                client: options.client,
                span: options.span,
                attempted: Mutex::default(),
            }),
        }
    }

    /// How long the attempt that begins now may take.
    pub(crate) fn timing(&self, now: Instant) -> Timing {
        let config = &self.context.config;
        let own = config.attempt_timeout();
        let deadline = match (self.attempt.last, self.deadline) {
            (true, Some(deadline)) => deadline,
            (true, None) => now + config.timeout,
            (false, Some(deadline)) => deadline.min(now + own),
            (false, None) => now + own,
        };
        Timing {
            began: now,
            deadline,
            // A little less is what passing through the layers costs.
            hurried: self.context.client_deadline
                && deadline.saturating_duration_since(now) < own.mul_f64(0.9),
        }
    }
}

impl CallContext {
    /// The instances that were tried, in order.
    pub(crate) fn attempted(&self) -> Vec<Authority> {
        self.attempted.lock().clone()
    }

    /// How many attempts were sent to an instance.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempted.lock().len() as u32
    }

    /// Notes that an attempt goes to `address`.
    pub(crate) fn attempts_on(&self, address: &Authority) {
        self.attempted.lock().push(address.clone());
    }
}

/// What the caller adds to a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    /// The span of the field the call is for; it ends with the call.
    pub(crate) span: Span,
    /// When the answer is of no use any more; the upstream's own timeout applies too.
    pub(crate) deadline: Option<Instant>,
    /// Whether the client chose it.
    pub(crate) client_deadline: bool,
    /// Headers of the client's that some upstream is to have.
    pub(crate) forwarded: Option<Arc<HeaderMap>>,
    /// Whose request it is for.
    pub(crate) client: Option<ClientKey>,
}
