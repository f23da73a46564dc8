//! One upstream with everything that stands before it, and the calls it gets.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};
use prost::Message;
use tokio::time::Instant;

use super::UpstreamError;
use crate::{
    balance::Balance,
    call::{
        BadReply, Call, CallContext, CallOptions, Config, Decoded, Effective, Failed, ForMethod,
        Guard, Guarded, Method, Outcome, RawMethod, Reason, Reply, ReplyBody, now,
        transport::Connect,
    },
    resilience::{self, Layers, Listener, Stack},
    telemetry::metrics::DURATIONS,
};

/// An upstream that can be called.
pub(crate) struct Connected<C: Connect> {
    name: &'static str,
    /// What is effective; a call takes a snapshot of it.
    config: ArcSwap<Effective>,
    layers: Layers,
    balance: Balance<C>,
    stack: Stack,
    durations: Histogram<f64>,
}

impl<C: Connect> Connected<C> {
    /// The upstream `name` over the instances of `balance`; `listeners` are told of its breaker's changes.
    pub(crate) fn new(
        name: &'static str,
        config: Config,
        balance: Balance<C>,
        meter: &Meter,
        listeners: &[Listener],
    ) -> Self {
        let layers = Layers::new(name, &config, meter, listeners);
        let durations = meter
            .f64_histogram("bff.call.duration")
            .with_unit("s")
            .with_description("How long calls took, all attempts together, by outcome; streams until their first message.")
            .with_boundaries(DURATIONS.to_vec())
            .build();
        Self {
            name,
            config: ArcSwap::from_pointee(Effective::new(config)),
            stack: resilience::stack(balance.clone(), &layers),
            layers,
            balance,
            durations,
        }
    }

    /// The same with something around its stack.
    pub(super) fn within(mut self, around: impl FnOnce(Stack) -> Stack) -> Self {
        self.stack = around(self.stack);
        self
    }

    /// Its name in the configuration.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The effective configuration.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.load().config)
    }

    /// What is effective for the calls of `method`.
    pub(crate) fn settings(&self, method: &RawMethod) -> ForMethod {
        self.config.load().of(method)
    }

    /// The layers before it.
    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// What chooses among its instances.
    pub(crate) fn balance(&self) -> &Balance<C> {
        &self.balance
    }

    /// Makes `config` effective from the next call on. The budget, the calls in flight and, where it
    /// can be, the breaker's state stay.
    pub(crate) fn apply(&self, config: &Config) {
        self.config.store(Arc::new(Effective::new(config.clone())));
        self.layers
            .breaker
            .reconfigure(&config.breaker, config.longest_timeout());
        self.balance.reconfigure(config);
    }

    /// Calls a unary method. With the message comes how long it was.
    ///
    /// # Errors
    /// [`UpstreamError`] when there is no answer within the upstream's deadline.
    pub(crate) async fn unary<U, Q, R>(
        &self,
        method: &'static Method<U, Q, R>,
        request: &Q,
        options: CallOptions,
    ) -> Result<(R, usize), UpstreamError>
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let call = self.prepare(method, request, options);
        let context = Arc::clone(&call.context);
        match self.send(call).await {
            Ok(Reply {
                body: ReplyBody::One(message),
                at,
            }) => typed(message, at).map_err(|failed| self.error(&context, &failed)),
            Ok(Reply { at, .. }) => {
                let failed = Failed::unsent(BadReply::ManyMessages, at);
                Err(self.error(&context, &failed))
            }
            Err(failed) => Err(self.error(&context, &failed)),
        }
    }

    /// Calls a method that answers with a stream. Dropping the stream cancels the call.
    ///
    /// # Errors
    /// [`UpstreamError`] when the first message does not come within the upstream's deadline; the
    /// same as the last item when the stream breaks later.
    pub(crate) async fn server_streaming<U, Q, R>(
        &self,
        method: &'static Method<U, Q, R>,
        request: &Q,
        options: CallOptions,
    ) -> Result<
        impl Stream<Item = Result<(R, usize), UpstreamError>> + Send + use<U, Q, R, C>,
        UpstreamError,
    >
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let call = self.prepare(method, request, options);
        let context = Arc::clone(&call.context);
        let messages = match self.send(call).await {
            Ok(Reply {
                body: ReplyBody::Many(messages),
                ..
            }) => messages,
            Ok(Reply { at, .. }) => {
                let failed = Failed::unsent(BadReply::NoMessage, at);
                return Err(self.error(&context, &failed));
            }
            Err(failed) => return Err(self.error(&context, &failed)),
        };
        let name = self.name;
        Ok(messages.map(move |message| {
            message
                .and_then(|message| typed(message, now()))
                .map_err(|failed| UpstreamError::new(name, &failed, context.attempts()))
        }))
    }

    fn prepare<U, Q, R>(
        &self,
        method: &'static Method<U, Q, R>,
        request: &Q,
        options: CallOptions,
    ) -> Call
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let message = request.encode_to_vec().into();
        let method = method.raw();
        Call::new(method, message, self.settings(method), options)
    }

    /// Sends `call` through the stack and records how it went.
    pub(crate) async fn send(&self, call: Call) -> Result<Reply, Failed> {
        let record = CallRecord {
            upstream: self.name,
            began: now(),
            took: None,
            context: Arc::clone(&call.context),
            durations: self.durations.clone(),
        };
        Guarded::running(self.stack.call(call), record).await
    }

    fn error(&self, context: &CallContext, failed: &Failed) -> UpstreamError {
        UpstreamError::new(self.name, failed, context.attempts())
    }
}

/// The message as what its method answers with.
fn typed<R: 'static>(message: Decoded, at: Instant) -> Result<(R, usize), Failed> {
    message.into().ok_or_else(|| {
        let other = BadReply::Undecodable("a message of another type".to_owned());
        Failed::unsent(other, at)
    })
}

/// A call on its way, all attempts together; its span ends with it.
struct CallRecord {
    upstream: &'static str,
    began: Instant,
    /// When the first message of a stream arrived.
    took: Option<Instant>,
    context: Arc<CallContext>,
    durations: Histogram<f64>,
}

impl Guard for CallRecord {
    fn message(&mut self, at: Instant) {
        self.took = Some(at);
    }

    fn end(&mut self, outcome: Outcome, at: Instant) {
        let span = &self.context.span;
        let reason = match outcome.reason {
            // A stream that was answered, and that its client has left.
            Reason::Cancelled if self.took.is_some() => Reason::Answered,
            reason => reason,
        };
        match reason {
            Reason::Answered | Reason::Cancelled => {}
            reason => {
                match reason {
                    Reason::CircuitOpen => span.event("circuit open: not sent", Vec::new()),
                    Reason::Overloaded => span.event("shed: not sent", Vec::new()),
                    _ => {}
                }
                span.set("rpc.response.status_code", outcome.code.as_str());
                span.set("bff.attempts", i64::from(self.context.attempts()));
                // The upstream's own words may repeat what a client asked; they stay in the log.
                span.fail(super::error::text(self.upstream, outcome));
            }
        }
        span.end();
        let labels = [
            KeyValue::new("upstream", self.upstream),
            KeyValue::new("outcome", reason.as_str()),
        ];
        let took = self
            .took
            .unwrap_or(at)
            .saturating_duration_since(self.began);
        self.durations.record(took.as_secs_f64(), &labels);
    }
}
