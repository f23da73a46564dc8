//! One attempt as seen from outside: its client span, its headers, its duration.
//!
//! It stands inside the attempt timeout, so that a hang ends the span as what it is, and around the
//! balancer, which says which instance it chose.

use std::{
    borrow::Cow,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use opentelemetry::{KeyValue, metrics::Histogram, trace::SpanKind};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::{BoxError, Layer, Service};

use super::{
    breaker::State,
    classify::{self, Effect},
    observe::{Observed, ObservedBody, Observer},
    streams,
};
use crate::telemetry::trace::Span;

/// The span a call belongs to; a request extension.
#[derive(Clone, Debug)]
pub struct CallSpan(pub Span);

/// Which attempt of a call this is, and how long the call paused before it; a request extension.
#[derive(Clone, Copy, Debug)]
pub struct AttemptNumber {
    /// From 1.
    pub number: u32,
    /// The pause.
    pub paused: Duration,
}

/// Makes a client span of each attempt (OpenTelemetry's RPC conventions) and measures it.
#[derive(Clone, Debug)]
pub struct SpanLayer {
    pub(super) upstream: &'static str,
    pub(super) durations: Option<Histogram<f64>>,
}

impl<S> Layer<S> for SpanLayer {
    type Service = SpanService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SpanService {
            inner,
            layer: self.clone(),
        }
    }
}

/// See [`SpanLayer`].
#[derive(Clone, Debug)]
pub struct SpanService<S> {
    inner: S,
    layer: SpanLayer,
}

impl<S, B> Service<Request<Body>> for SpanService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
{
    type Response = Response<ObservedBody<B, Attempt>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // As the convention has it: the path without its first slash.
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let span = start(&mut request, &method, self.layer.upstream);
        let attempt = Attempt {
            started: Instant::now(),
            span,
            upstream: self.layer.upstream,
            method: method.into(),
            durations: self.layer.durations.clone(),
            streaming: streams(&request),
        };
        let call = Observed::new(attempt, &request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(call.answered(response)),
                Err(error) => {
                    call.failed(error.as_ref());
                    Err(error)
                }
            }
        })
    }
}

/// Starts the attempt's span and hands its context to the peer and to the balancer.
fn start(request: &mut Request<Body>, method: &str, upstream: &'static str) -> Span {
    // The call's own handle is enough: a request may wait for its connection longer than its call.
    let Some(CallSpan(call)) = request.extensions_mut().remove::<CallSpan>() else {
        return Span::default();
    };
    let extensions = request.extensions();
    let span = call.child(SpanKind::Client, || {
        let mut attributes = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.to_owned()),
            KeyValue::new("bff.upstream", upstream),
        ];
        if let Some(attempt) = extensions.get::<AttemptNumber>() {
            let paused = attempt.paused.as_secs_f64() * 1000.0;
            attributes.push(KeyValue::new("bff.attempt", i64::from(attempt.number)));
            attributes.push(KeyValue::new("bff.paused_ms", paused));
        }
        if let Some(state) = extensions.get::<State>() {
            attributes.push(KeyValue::new("bff.breaker", state.as_str()));
        }
        (method.to_owned(), attributes)
    });
    span.inject(request.headers_mut());
    request.extensions_mut().insert(AttemptSpan(span.clone()));
    span
}

/// The span of an attempt, for whoever knows which instance it goes to; a request extension.
#[derive(Clone, Debug)]
pub(crate) struct AttemptSpan(pub(crate) Span);

/// An attempt on its way.
#[derive(Debug)]
pub struct Attempt {
    started: Instant,
    span: Span,
    upstream: &'static str,
    method: Cow<'static, str>,
    durations: Option<Histogram<f64>>,
    streaming: bool,
}

impl Observer for Attempt {
    fn message(&mut self, _: Instant) {
        if self.streaming {
            self.span.event("first message", Vec::new());
        }
    }

    fn end(&mut self, effect: Effect, code: tonic::Code, now: Instant) {
        let status = classify::code_name(code);
        self.span.set("rpc.response.status_code", status);
        self.span.set("bff.outcome", effect.as_str());
        if effect == Effect::Failure || effect == Effect::Overload {
            self.span.set("error.type", status);
            self.span.fail(status);
        }
        self.span.end();
        if let Some(durations) = &self.durations {
            let labels = [
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", self.method.clone().into_owned()),
                KeyValue::new("rpc.response.status_code", status),
                KeyValue::new("upstream", self.upstream),
            ];
            durations.record((now - self.started).as_secs_f64(), &labels);
        }
    }
}
