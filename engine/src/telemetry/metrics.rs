//! Metrics: OpenTelemetry instruments, rendered for Prometheus. Each module makes its own; this file
//! is the registry they are made in.

use std::{fmt, sync::Arc};

use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider},
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

/// The bounds of durations in seconds, as OpenTelemetry's conventions advise.
pub(crate) const DURATIONS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The instruments of one server. Clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    provider: Arc<SdkMeterProvider>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// No instruments of `service` yet.
    ///
    /// # Errors
    /// When the exporter cannot be registered, which a fresh registry does not refuse.
    pub(crate) fn new(service: &str) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // There is one scope; a label on every series would say so each time.
            .scope_info_enabled(false)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(service.to_owned())
            .build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(exporter)
            .build();
        let provider = Arc::new(provider);
        Ok(Self { registry, provider })
    }

    /// Where modules make their instruments.
    pub(crate) fn meter(&self) -> Meter {
        self.provider.meter("bff")
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    /// When a collected metric breaks the format's rules.
    pub(crate) fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Whether an observed number goes up and down, or only up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Up and down.
    Gauge,
    /// Only up.
    Counter,
}

/// Takes a value and its labels.
pub(crate) type Observe<'a> = dyn FnMut(f64, &[KeyValue]) + 'a;

/// Makes an instrument that `read` fills whenever metrics are collected. No label ever carries what a
/// client sent.
pub(crate) fn observe(
    meter: &Meter,
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    read: impl Fn(&mut Observe<'_>) + Send + Sync + 'static,
) {
    match kind {
        Kind::Gauge => {
            let gauge = meter.f64_observable_gauge(name);
            let gauge = gauge.with_unit(unit).with_description(description);
            gauge
                .with_callback(move |to| read(&mut |value, labels| to.observe(value, labels)))
                .build();
        }
        Kind::Counter => {
            let counter = meter.f64_observable_counter(name);
            let counter = counter.with_unit(unit).with_description(description);
            counter
                .with_callback(move |to| read(&mut |value, labels| to.observe(value, labels)))
                .build();
        }
    }
}
