//! Traces: a server span per call, part of whatever trace the call comes with.

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider},
};
use tower::{Layer, Service};

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(3);

/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// Sends spans, or does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracing(Option<SdkTracerProvider>);

impl Tracing {
    /// Sends spans by OTLP to `endpoint`, if there is one.
    ///
    /// # Errors
    /// When the address is none.
    pub(crate) fn new(endpoint: Option<&str>) -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint else {
            return Ok(Self::default());
        };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(FLUSH)
            .build()?;
        let resource = Resource::builder().with_service_name("greeter-srv").build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // The caller decides.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_span_processor(
                BatchSpanProcessor::builder(exporter)
                    .with_batch_config(
                        BatchConfigBuilder::default()
                            .with_scheduled_delay(DELAY)
                            .build(),
                    )
                    .build(),
            )
            .build();
        Ok(Self(Some(provider)))
    }

    /// Makes a span of every call.
    pub(crate) fn layer(&self) -> SpanLayer {
        SpanLayer(
            self.0
                .as_ref()
                .map(|provider| provider.tracer("greeter-srv")),
        )
    }

    /// Sends what is left. Blocks for seconds at most.
    pub(crate) async fn flush(self) {
        if let Some(provider) = self.0 {
            let flushed = tokio::task::spawn_blocking(move || {
                // Spans that could not be sent are lost.
                let _ = provider.shutdown_with_timeout(FLUSH);
            });
            let _ = flushed.await;
        }
    }
}

/// See [`Tracing::layer`].
#[derive(Clone, Debug)]
pub(crate) struct SpanLayer(Option<SdkTracer>);

impl<S> Layer<S> for SpanLayer {
    type Service = SpanService<S>;

    fn layer(&self, inner: S) -> SpanService<S> {
        SpanService {
            inner,
            tracer: self.0.clone(),
        }
    }
}

/// A service whose calls have spans.
#[derive(Clone, Debug)]
pub(crate) struct SpanService<S> {
    inner: S,
    tracer: Option<SdkTracer>,
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl<S, B, R> Service<Request<B>> for SpanService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Body + Unpin,
{
    type Response = Response<Spanned<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = self
            .tracer
            .as_ref()
            .and_then(|tracer| start(tracer, &request));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let mut spanned = Ending(span);
            spanned.note(response.headers());
            Ok(response.map(|inner| Spanned {
                inner,
                span: spanned,
            }))
        })
    }
}

/// A span for a call of our own service; health and reflection are asked by machines.
fn start<B>(tracer: &SdkTracer, request: &Request<B>) -> Option<Context> {
    let method = request.uri().path().trim_start_matches('/');
    if !method.starts_with("helloworld.") {
        return None;
    }
    let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
    let span = tracer
        .span_builder(method.to_owned())
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.to_owned()),
        ])
        .start_with_context(tracer, &parent);
    Some(parent.with_span(span))
}

/// The statuses that are errors of a server, by OpenTelemetry's conventions.
fn is_servers_fault(code: tonic::Code) -> bool {
    use tonic::Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(
        code,
        DataLoss | DeadlineExceeded | Internal | Unavailable | Unimplemented | Unknown
    )
}

/// A status as gRPC's documents spell it: `DeadlineExceeded` is `DEADLINE_EXCEEDED`.
fn name(code: tonic::Code) -> String {
    let mut name = String::new();
    for (place, letter) in format!("{code:?}").char_indices() {
        if place > 0 && letter.is_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// A span that ends when it is dropped.
struct Ending(Option<Context>);

impl Ending {
    /// Notes the status, if these are the headers that have it.
    fn note(&mut self, headers: &HeaderMap) {
        let (Some(context), Some(status)) = (&self.0, headers.get("grpc-status")) else {
            return;
        };
        let code = status.to_str().ok().and_then(|code| code.parse().ok());
        let code = tonic::Code::from_i32(code.unwrap_or(2));
        let span = context.span();
        if is_servers_fault(code) {
            span.set_status(Status::error(code.description()));
        }
        span.set_attribute(KeyValue::new("rpc.response.status_code", name(code)));
    }
}

/// An answer's body; its span ends with it.
pub(crate) struct Spanned<B> {
    inner: B,
    span: Ending,
}

impl<B: Body + Unpin> Body for Spanned<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.span.note(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_spelt_as_in_grpcs_documents() {
        assert_eq!(name(tonic::Code::Ok), "OK");
        assert_eq!(name(tonic::Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}
