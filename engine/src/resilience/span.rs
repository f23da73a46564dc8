//! One attempt as seen from outside: its client span, its headers, its duration.
//!
//! It stands around the balancer, which says in the span which instance it chose.

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
    trace::SpanKind,
};
use tokio::time::Instant;

use crate::{
    call::{Around, Call, CallService, Effect, Guard, Guarded, Outcome, RawMethod, now},
    telemetry::{metrics::DURATIONS, trace::Span},
};

/// Makes a client span of each attempt (OpenTelemetry's RPC conventions) and measures it.
#[derive(Clone, Debug)]
pub(crate) struct AttemptSpans {
    upstream: &'static str,
    durations: Histogram<f64>,
}

impl AttemptSpans {
    /// For attempts on `upstream`.
    pub(crate) fn new(upstream: &'static str, meter: &Meter) -> Self {
        let durations = meter
            .f64_histogram("rpc.client.call.duration")
            .with_unit("s")
            .with_description("How long attempts took, by method and status.")
            .with_boundaries(DURATIONS.to_vec())
            .build();
        Self {
            upstream,
            durations,
        }
    }
}

impl<S: CallService> Around<S> for AttemptSpans
where
    S::Future: Unpin,
{
    type Future = Guarded<S::Future, AttemptRecord>;

    fn around(&self, inner: &mut S, mut call: Call) -> Self::Future {
        start_span(&mut call, self.upstream);
        let record = AttemptRecord {
            began: now(),
            span: call.span.clone(),
            upstream: self.upstream,
            method: call.context.method,
            durations: self.durations.clone(),
        };
        Guarded::running(inner.call(call), record)
    }
}

/// Starts the attempt's span and hands its context to the peer.
fn start_span(call: &mut Call, upstream: &'static str) {
    let context = &call.context;
    if !context.span.is_some() {
        return;
    }
    let (attempt, breaker) = (call.attempt, call.breaker);
    let span = context.span.child(SpanKind::Client, || {
        let name = context.method.name();
        let mut attributes = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", name),
            KeyValue::new("bff.upstream", upstream),
            KeyValue::new("bff.attempt", i64::from(attempt.number)),
            KeyValue::new("bff.paused_ms", attempt.paused.as_secs_f64() * 1000.0),
        ];
        if let Some(state) = breaker {
            attributes.push(KeyValue::new("bff.breaker", state));
        }
        (name, attributes)
    });
    span.inject(&mut call.headers);
    call.span = span;
}

/// An attempt on its way.
#[derive(Debug)]
pub(crate) struct AttemptRecord {
    began: Instant,
    span: Span,
    upstream: &'static str,
    method: &'static RawMethod,
    durations: Histogram<f64>,
}

impl Guard for AttemptRecord {
    fn message(&mut self, _: Instant) {
        self.span.event("first message", Vec::new());
    }

    fn end(&mut self, outcome: Outcome, at: Instant) {
        let status = outcome.code.as_str();
        self.span.set("rpc.response.status_code", status);
        self.span.set("bff.outcome", outcome.effect.as_str());
        if outcome.effect == Effect::Failure || outcome.effect == Effect::Overload {
            self.span.set("error.type", status);
            self.span.fail(status);
        }
        self.span.end();
        let labels = [
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", self.method.name()),
            KeyValue::new("rpc.response.status_code", status),
            KeyValue::new("upstream", self.upstream),
        ];
        let took = at.saturating_duration_since(self.began);
        self.durations.record(took.as_secs_f64(), &labels);
    }
}
