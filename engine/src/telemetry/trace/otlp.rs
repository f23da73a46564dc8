//! Spans by OTLP over gRPC.

use std::sync::Arc;

use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SpanExporter as _};

use super::{
    super::config::Config,
    queue::{EXPORT_TIMEOUT, Export},
};

/// Sends to the collector at `telemetry.endpoint`, connecting when there is something to send.
pub(super) fn exporter(config: &Config, resource: &Resource) -> anyhow::Result<Export> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(config.endpoint.as_str())
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    exporter.set_resource(resource);
    let exporter = Arc::new(exporter);
    Ok(Box::new(move |batch| {
        let exporter = Arc::clone(&exporter);
        Box::pin(async move {
            exporter
                .export(batch)
                .await
                .map_err(|error| error.to_string())
        })
    }))
}
