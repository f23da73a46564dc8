//! Spans by Jaeger's own Thrift protocol: over HTTP to a collector, or over UDP to an agent.
//!
//! `opentelemetry-jaeger` is no longer developed and stands on OpenTelemetry 0.23, so each span is
//! translated from the family that the rest of the program uses.
//!
//! **Invariant:** only this file names `opentelemetry-jaeger` and OpenTelemetry 0.23.

use std::borrow::Cow;

use opentelemetry::{
    Array, KeyValue, Value,
    trace::{SpanContext, SpanKind, Status},
};
use opentelemetry_023::{
    Array as OldArray, KeyValue as OldKeyValue, StringValue as OldString, Value as OldValue,
    trace as old,
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use opentelemetry_sdk_023::{
    Resource as OldResource,
    export::trace::{SpanData as OldSpanData, SpanExporter},
    runtime::Tokio,
    trace::{Config as OldConfig, SpanEvents, SpanLinks},
};

use super::{
    config::{Config, Endpoint},
    trace::{EXPORT_TIMEOUT, Export},
};

/// Sends to the collector or agent at `telemetry.endpoint`.
#[expect(
    deprecated,
    reason = "the protocol was asked for, and this is its crate"
)]
pub(super) fn exporter(config: &Config, resource: &Resource) -> anyhow::Result<Export> {
    let resource =
        OldResource::new(resource.iter().map(|(key, value)| {
            OldKeyValue::new(key.as_str().to_owned(), value_of(value.clone()))
        }));
    let trace_config = OldConfig::default().with_resource(resource);
    let mut exporter = match &config.endpoint {
        Endpoint::Udp(agent) => opentelemetry_jaeger::new_agent_pipeline()
            .with_endpoint(agent)
            // What is larger than a datagram is sent in several.
            .with_auto_split_batch(true)
            .with_max_packet_size(MAX_PACKET)
            .with_trace_config(trace_config)
            .build_sync_agent_exporter()?,
        Endpoint::Http(url) => {
            let client = reqwest_011::Client::builder()
                .no_proxy()
                .timeout(EXPORT_TIMEOUT)
                .build()?;
            opentelemetry_jaeger::new_collector_pipeline()
                .with_endpoint(collector(url))
                .with_http_client(client)
                .with_trace_config(trace_config)
                .build_collector_exporter::<Tokio>()?
        }
    };
    Ok(Box::new(move |batch| {
        let spans = batch.into_iter().map(span_of).collect();
        let sent = exporter.export(spans);
        Box::pin(async move { sent.await.map_err(|error| error.to_string()) })
    }))
}

/// The largest datagram an agent takes.
const MAX_PACKET: usize = 65_000;

/// Where a collector takes Thrift, unless the address says it.
fn collector(url: &str) -> String {
    match url.splitn(4, '/').nth(3) {
        Some(path) if !path.is_empty() => url.to_owned(),
        _ => format!("{}/api/traces", url.trim_end_matches('/')),
    }
}

fn span_of(span: SpanData) -> OldSpanData {
    let mut events = SpanEvents::default();
    events.dropped_count = span.events.dropped_count;
    events.events = span
        .events
        .events
        .into_iter()
        .map(|event| {
            let dropped = event.dropped_attributes_count;
            old::Event::new(
                event.name,
                event.timestamp,
                attributes(event.attributes),
                dropped,
            )
        })
        .collect();
    let mut links = SpanLinks::default();
    links.dropped_count = span.links.dropped_count;
    links.links = span
        .links
        .links
        .into_iter()
        .map(|link| {
            let dropped = link.dropped_attributes_count;
            old::Link::new(
                context(&link.span_context),
                attributes(link.attributes),
                dropped,
            )
        })
        .collect();
    OldSpanData {
        span_context: context(&span.span_context),
        parent_span_id: old::SpanId::from_bytes(span.parent_span_id.to_bytes()),
        span_kind: match span.span_kind {
            SpanKind::Client => old::SpanKind::Client,
            SpanKind::Server => old::SpanKind::Server,
            SpanKind::Producer => old::SpanKind::Producer,
            SpanKind::Consumer => old::SpanKind::Consumer,
            SpanKind::Internal => old::SpanKind::Internal,
        },
        name: span.name,
        start_time: span.start_time,
        end_time: span.end_time,
        attributes: attributes(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events,
        links,
        status: match span.status {
            Status::Unset => old::Status::Unset,
            Status::Ok => old::Status::Ok,
            Status::Error { description } => old::Status::Error { description },
        },
        resource: Cow::Owned(OldResource::empty()),
        instrumentation_lib: opentelemetry_023::InstrumentationLibrary::builder(
            span.instrumentation_scope.name().to_owned(),
        )
        .build(),
    }
}

fn context(context: &SpanContext) -> old::SpanContext {
    old::SpanContext::new(
        old::TraceId::from_bytes(context.trace_id().to_bytes()),
        old::SpanId::from_bytes(context.span_id().to_bytes()),
        old::TraceFlags::new(context.trace_flags().to_u8()),
        context.is_remote(),
        // Nothing of it is in Jaeger's format.
        old::TraceState::NONE,
    )
}

fn attributes(list: Vec<KeyValue>) -> Vec<OldKeyValue> {
    list.into_iter()
        .map(|pair| OldKeyValue::new(pair.key.as_str().to_owned(), value_of(pair.value)))
        .collect()
}

fn value_of(value: Value) -> OldValue {
    match value {
        Value::Bool(b) => OldValue::Bool(b),
        Value::I64(n) => OldValue::I64(n),
        Value::F64(n) => OldValue::F64(n),
        Value::String(text) => OldValue::String(text.as_str().to_owned().into()),
        Value::Array(Array::Bool(list)) => OldValue::Array(OldArray::Bool(list)),
        Value::Array(Array::I64(list)) => OldValue::Array(OldArray::I64(list)),
        Value::Array(Array::F64(list)) => OldValue::Array(OldArray::F64(list)),
        Value::Array(Array::String(list)) => OldValue::Array(OldArray::String(
            list.iter()
                .map(|text| OldString::from(text.as_str().to_owned()))
                .collect(),
        )),
        other => OldValue::String(other.as_str().into_owned().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_path_is_filled_in_where_it_is_not_said() {
        assert_eq!(collector("http://j:14268"), "http://j:14268/api/traces");
        assert_eq!(collector("http://j:14268/"), "http://j:14268/api/traces");
        assert_eq!(collector("http://j/other"), "http://j/other");
    }
}
