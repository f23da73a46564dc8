//! Traces: one per request, from the client's header through each field and attempt into the
//! upstream.
//!
//! Spans are made by hand where the product's own things begin and end, not out of log events: a
//! trace says the same whatever the log's filter is, spans created by dependencies are excluded, and
//! several servers in one process keep theirs apart. A [`Span`] that is not traced is
//! nothing, and costs nothing.

mod otlp;
mod processor;
mod propagation;
mod queue;
mod sampler;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue, Value,
    metrics::Meter,
    trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};

#[cfg(feature = "jaeger-thrift")]
pub(super) use self::queue::{EXPORT_TIMEOUT, Export};
use self::{
    processor::Processor,
    propagation::Propagation,
    queue::Queue,
    sampler::{Ratio, Undecided},
};
use super::{
    config::{Config, Exporter},
    metrics::{Kind, observe},
};

/// Makes the spans of one server. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracing(Option<Arc<Active>>);

struct Active {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    propagation: Propagation,
    ratio: Ratio,
    queue: Queue,
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Active")
    }
}

/// How many spans went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    /// Handed to the collector.
    pub(crate) exported: u64,
    /// Thrown away because the queue was full.
    pub(crate) dropped: u64,
    /// Thrown away because the collector did not take them.
    pub(crate) failed: u64,
    /// Thrown away because too many unsampled traces were under way to keep all in mind.
    pub(crate) forgotten: u64,
    /// Waiting in the queue now.
    pub(crate) queued: u64,
}

impl Tracing {
    /// Traces of `service` as `config` says; with the exporter `none`, not at all.
    ///
    /// Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// When the exporter cannot be made, for instance because this build has none of that name.
    pub(crate) fn new(config: &Config, service: &str, meter: &Meter) -> anyhow::Result<Self> {
        let resource = Resource::builder()
            .with_service_name(service.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("process.pid", i64::from(std::process::id())))
            .build();
        let (of_exporter, of_resource) = (config.clone(), resource.clone());
        let queue = match config.exporter {
            Exporter::None => return Ok(Self::default()),
            Exporter::Otlp => {
                Queue::new(move || otlp::exporter(&of_exporter, &of_resource), config)?
            }
            #[cfg(feature = "jaeger-thrift")]
            Exporter::Jaeger => Queue::new(
                move || super::jaeger::exporter(&of_exporter, &of_resource),
                config,
            )?,
            #[cfg(not(feature = "jaeger-thrift"))]
            Exporter::Jaeger => anyhow::bail!(
                "telemetry.exporter = \"jaeger\": this build is without the feature jaeger-thrift"
            ),
        };
        let ratio = Ratio::new(config.sample_ratio, config.keep_errors);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(ratio.clone())
            .with_span_processor(Processor::new(queue.sender().clone()))
            .build();
        let tracing = Self(Some(Arc::new(Active {
            tracer: provider.tracer("bff"),
            provider,
            propagation: Propagation {
                jaeger: config.uber_trace_id,
            },
            ratio,
            queue,
        })));
        tracing.register(meter);
        Ok(tracing)
    }

    /// Registers the instruments of the spans on their way to the collector.
    fn register(&self, meter: &Meter) {
        let each = self.clone();
        observe(
            meter,
            Kind::Counter,
            "bff.telemetry.spans",
            "",
            "Spans handed to the collector (exported), not taken by it (failed), or thrown away because the queue was full (dropped) or too many unsampled traces were under way (forgotten).",
            move |observe| {
                if let Some(counts) = each.counts() {
                    for (outcome, spans) in [
                        ("exported", counts.exported),
                        ("failed", counts.failed),
                        ("dropped", counts.dropped),
                        ("forgotten", counts.forgotten),
                    ] {
                        observe(spans as f64, &[KeyValue::new("outcome", outcome)]);
                    }
                }
            },
        );
        let each = self.clone();
        observe(
            meter,
            Kind::Gauge,
            "bff.telemetry.queued",
            "",
            "Spans that wait for the collector.",
            move |observe| {
                if let Some(counts) = each.counts() {
                    observe(counts.queued as f64, &[]);
                }
            },
        );
    }

    /// The share of traces to keep from now on, 0 to 1.
    pub(crate) fn set_ratio(&self, ratio: f64) {
        if let Some(active) = &self.0 {
            active.ratio.set(ratio);
        }
    }

    /// How many spans went which way; `None` if nothing is traced.
    pub(crate) fn counts(&self) -> Option<SpanCounts> {
        self.0.as_ref().map(|active| active.queue.sender().counts())
    }

    /// The span of a request with `headers`, part of the trace they name, with the name and the
    /// attributes that `describe` gives it. Whether a trace is kept only somebody `trusted` decides for us;
    /// of a stranger's it is decided here, as of one that begins here, and its baggage goes no further.
    pub(crate) fn server<N: Into<Cow<'static, str>>>(
        &self,
        headers: &HeaderMap,
        trusted: bool,
        describe: impl FnOnce() -> (N, Vec<KeyValue>),
    ) -> Span {
        let Some(active) = &self.0 else {
            return Span::default();
        };
        let (name, attributes) = describe();
        let parent = match trusted {
            true => active.propagation.extract(headers),
            false => active
                .propagation
                .extract_from_stranger(headers)
                .with_value(Undecided(rand::random())),
        };
        Span::start(
            active,
            name,
            SpanKind::Server,
            attributes,
            Vec::new(),
            &parent,
        )
    }

    /// Sends what is left and ends, within `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        if let Some(active) = &self.0 {
            // New spans are nothing from here on.
            let _ = active.provider.shutdown_with_timeout(Duration::ZERO);
            active.queue.flush(limit).await;
        }
    }
}

/// Handle to a span; a no-op when the request is not traced. Clones are the same span, which ends
/// with [`Span::end`] or when the last clone is dropped.
#[derive(Clone, Default)]
pub(crate) struct Span(Option<Arc<Started>>);

struct Started {
    active: Arc<Active>,
    context: Context,
    /// What it began within: a client's trace, or nothing.
    parent: Context,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.context() {
            Some(context) => write!(f, "Span({})", context.trace_id()),
            None => f.write_str("Span"),
        }
    }
}

impl Span {
    fn start(
        active: &Arc<Active>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        links: Vec<Link>,
        parent: &Context,
    ) -> Self {
        let span = active
            .tracer
            .span_builder(short(name.into()))
            .with_kind(kind)
            .with_attributes(attributes.into_iter().map(short_attribute))
            .with_links(links)
            .start_with_context(&active.tracer, parent);
        Self(Some(Arc::new(Started {
            active: Arc::clone(active),
            context: parent.with_span(span),
            parent: parent.clone(),
        })))
    }

    /// A span within this one, with the name and the attributes that `describe` gives it. Of one
    /// that is not recorded it is that one again: its context is all that travels on.
    pub(crate) fn child<N: Into<Cow<'static, str>>>(
        &self,
        kind: SpanKind,
        describe: impl FnOnce() -> (N, Vec<KeyValue>),
    ) -> Self {
        match &self.0 {
            Some(started) if self.is_recording() => {
                let (name, attributes) = describe();
                let active = &started.active;
                Self::start(active, name, kind, attributes, Vec::new(), &started.context)
            }
            _ => self.clone(),
        }
    }

    /// A trace of its own that points at this span: for what lasts longer than what it came from.
    /// If a client's own trace is around this span, it is part of that instead.
    pub(crate) fn follower(
        &self,
        name: &'static str,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) -> Self {
        let Some(started) = &self.0 else {
            return Self::default();
        };
        let links = vec![Link::with_context(
            self.context().unwrap_or(SpanContext::NONE),
        )];
        let (active, parent) = (&started.active, &started.parent);
        Self::start(active, name, SpanKind::Server, attributes(), links, parent)
    }

    /// Whether there is anything to pass on, recorded or not.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn context(&self) -> Option<SpanContext> {
        let started = self.0.as_ref()?;
        Some(started.context.span().span_context().clone())
    }

    /// Whether anything that is said of it is kept.
    pub(crate) fn is_recording(&self) -> bool {
        let recording = |started: &Arc<Started>| started.context.span().is_recording();
        self.0.as_ref().is_some_and(recording)
    }

    /// The trace it belongs to, as hexadecimal text, if that can be found later: it is sampled, or
    /// recorded and `failed`.
    pub(crate) fn trace_id(&self, failed: bool) -> Option<String> {
        let found = |context: &SpanContext| context.is_sampled() || (failed && self.is_recording());
        Some(self.context().filter(found)?.trace_id().to_string())
    }

    /// Says something of it.
    pub(crate) fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(started) = &self.0 {
            let attribute = short_attribute(KeyValue::new(key, value));
            started.context.span().set_attribute(attribute);
        }
    }

    /// Notes that something happened during it.
    pub(crate) fn event(&self, name: &'static str, attributes: Vec<KeyValue>) {
        if let Some(started) = &self.0 {
            let attributes = attributes.into_iter().map(short_attribute).collect();
            started.context.span().add_event(name, attributes);
        }
    }

    /// Says that it failed, and how.
    pub(crate) fn fail(&self, description: impl Into<Cow<'static, str>>) {
        if let Some(started) = &self.0 {
            let status = Status::error(short(description.into()));
            started.context.span().set_status(status);
        }
    }

    /// Ends it now.
    pub(crate) fn end(&self) {
        if let Some(started) = &self.0 {
            started.context.span().end();
        }
    }

    /// Writes its context into a request's headers, in place of whatever was there.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) {
        if let Some(started) = &self.0 {
            started.active.propagation.inject(&started.context, headers);
        }
    }

    /// Names its trace in an answer's headers, if it is sampled.
    pub(crate) fn inject_response(&self, headers: &mut HeaderMap) {
        if let Some(context) = self.context().filter(SpanContext::is_sampled) {
            propagation::inject_response(&context, headers);
        }
    }

    /// Polls something as part of it: log lines find its trace.
    pub(crate) fn poll_within<T>(&self, poll: impl FnOnce() -> T) -> T {
        let _attached = self
            .0
            .as_ref()
            .map(|started| started.context.clone().attach());
        poll()
    }

    /// Runs `future` as part of it: log lines find its trace.
    pub(crate) async fn within<F: Future>(&self, future: F) -> F::Output {
        use opentelemetry::context::FutureExt;
        match &self.0 {
            Some(started) => future.with_context(started.context.clone()).await,
            None => future.await,
        }
    }
}

/// Bytes of a text in a span: some are written by clients, and a queue of spans is bounded by their
/// number.
const MAX_TEXT: usize = 256;

/// `text`, cut to what a span may hold.
fn short(text: Cow<'static, str>) -> Cow<'static, str> {
    match text.len() <= MAX_TEXT {
        true => text,
        false => {
            let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end));
            format!("{}…", &text[..end.unwrap_or(0)]).into()
        }
    }
}

fn short_attribute(mut attribute: KeyValue) -> KeyValue {
    if let Value::String(text) = &attribute.value
        && text.as_str().len() > MAX_TEXT
    {
        let text = short(text.as_str().to_owned().into());
        attribute.value = Value::String(text.into_owned().into());
    }
    attribute
}

/// The trace that the code now running is part of.
pub(super) fn current_trace_id() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let traced = context.has_active_span() && span.span_context().is_valid();
        traced.then(|| span.span_context().trace_id().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_a_client_wrote_is_cut_between_characters() {
        let long = "é".repeat(1_000_000);
        let cut = short(long.clone().into());
        assert!(cut.len() <= MAX_TEXT + 3 && cut.ends_with("é…"), "{cut}");
        let attribute = short_attribute(KeyValue::new("name", long));
        assert!(attribute.value.as_str().len() <= MAX_TEXT + 3);
        assert_eq!(short("short".into()), "short");
    }
}
