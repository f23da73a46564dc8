//! Metrics: OpenTelemetry instruments, rendered for Prometheus.
//!
//! No label ever carries what a client sent: an upstream's name comes from the code.

mod upstreams;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider},
};
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::{Registry, TextEncoder};
use tokio::time::Instant;

use crate::{
    config::{Live, NacosState},
    graphql::Documents,
    rate_limit::{ActiveRule, Limiter},
    telemetry::trace::Tracing,
};

/// The bounds of durations in seconds, as OpenTelemetry's conventions advise.
pub const DURATIONS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The instruments of one server. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    provider: Arc<SdkMeterProvider>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// No instruments yet.
    ///
    /// # Errors
    /// When the exporter cannot be registered, which a fresh registry does not refuse.
    pub fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // There is one scope; a label on every series would say so each time.
            .scope_info_enabled(false)
            .build()?;
        let resource = Resource::builder().with_service_name("bff").build();
        let provider = SdkMeterProvider::builder()
            .with_resource(resource)
            .with_reader(exporter)
            .build();
        let provider = Arc::new(provider);
        Ok(Self { registry, provider })
    }

    /// Where rooms make their instruments.
    pub fn meter(&self) -> Meter {
        self.provider.meter("bff")
    }

    /// Everything, in Prometheus' text format.
    ///
    /// # Errors
    /// When a collected metric breaks the format's rules.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Watches the documents that were parsed before.
    pub fn observe_documents(&self, documents: &Arc<Documents>) {
        let each = Arc::clone(documents);
        self.meter()
            .u64_observable_counter("bff.graphql.documents")
            .with_description("Documents that had been parsed before (hit), and had not (miss).")
            .with_callback(move |counter| {
                let (hits, misses) = each.hits_and_misses();
                counter.observe(hits, &[KeyValue::new("cache", "hit")]);
                counter.observe(misses, &[KeyValue::new("cache", "miss")]);
            })
            .build();
    }

    /// Watches the spans on their way to the collector.
    pub fn observe_spans(&self, tracing: &Tracing) {
        let each = tracing.clone();
        self.meter()
            .u64_observable_counter("bff.telemetry.spans")
            .with_description(
                "Spans handed to the collector (exported), not taken by it (failed), or thrown away because the queue was full (dropped) or too many unsampled traces were under way (forgotten).",
            )
            .with_callback(move |counter| {
                if let Some(counts) = each.counts() {
                    for (fate, spans) in [
                        ("exported", counts.exported),
                        ("failed", counts.failed),
                        ("dropped", counts.dropped),
                        ("forgotten", counts.forgotten),
                    ] {
                        counter.observe(spans, &[KeyValue::new("fate", fate)]);
                    }
                }
            })
            .build();
        let each = tracing.clone();
        self.meter()
            .u64_observable_gauge("bff.telemetry.queued")
            .with_description("Spans that wait for the collector.")
            .with_callback(move |gauge| {
                if let Some(counts) = each.counts() {
                    gauge.observe(counts.queued, &[]);
                }
            })
            .build();
    }

    /// Watches what is in force and how Nacos is doing.
    pub fn observe_config(&self, live: &Live) {
        let meter = self.meter();
        let each = live.clone();
        meter
            .u64_observable_gauge("bff.config.generation")
            .with_description("Counts the configurations that were put in force.")
            .with_callback(move |gauge| gauge.observe(each.now().generation, &[]))
            .build();
        let each = live.clone();
        meter
            .u64_observable_counter("bff.config.refusals")
            .with_description("Documents that were refused, or held keys that need a restart.")
            .with_callback(move |counter| {
                let now = each.now();
                counter.observe(now.refusals, &[KeyValue::new("reason", "invalid")]);
                counter.observe(
                    now.restarts_asked,
                    &[KeyValue::new("reason", "needs_restart")],
                );
            })
            .build();
        let each = live.clone();
        meter
            .u64_observable_gauge("bff.config.refused")
            .with_description("1 while the last document is refused.")
            .with_callback(move |gauge| gauge.observe(each.now().refused.is_some().into(), &[]))
            .build();
        let each = live.clone();
        meter
            .u64_observable_gauge("bff.config.awaiting_restart")
            .with_description("Changed keys that wait for a restart.")
            .with_callback(move |gauge| {
                gauge.observe(each.now().awaiting_restart.len() as u64, &[]);
            })
            .build();
        let each = live.clone();
        meter
            .u64_observable_gauge("bff.config.document")
            .with_description("1 for what Nacos says of the document, 0 for the rest.")
            .with_callback(move |gauge| {
                let Some(nacos) = each.now().nacos.clone() else {
                    return;
                };
                for state in NacosState::NAMES {
                    let is = nacos.state.name() == state;
                    gauge.observe(is.into(), &[KeyValue::new("state", state)]);
                }
            })
            .build();
        let each = live.clone();
        meter
            .f64_observable_gauge("bff.config.staleness")
            .with_unit("s")
            .with_description("For how long Nacos has not been heard of.")
            .with_callback(move |gauge| {
                if let Some(nacos) = &each.now().nacos {
                    gauge.observe(nacos.staleness(Instant::now()).as_secs_f64(), &[]);
                }
            })
            .build();
    }

    /// Watches the rate limits in force.
    pub fn observe_limits(&self, limiter: &Arc<ArcSwap<Limiter>>) {
        let meter = self.meter();
        let each = Arc::clone(limiter);
        meter
            .u64_observable_counter("bff.rate_limit.calls")
            .with_description("Calls by rule and verdict; a dry run's throttled calls went on.")
            .with_callback(move |counter| {
                for rule in each.load().all() {
                    for (verdict, calls) in
                        [("allowed", rule.allowed()), ("throttled", rule.throttled())]
                    {
                        let mut labels = rule_labels(rule);
                        labels.push(KeyValue::new("verdict", verdict));
                        counter.observe(calls, &labels);
                    }
                }
            })
            .build();
        let each = Arc::clone(limiter);
        meter
            .u64_observable_gauge("bff.rate_limit.store_up")
            .with_description("1 while the store that is configured decides, 0 while Redis is away and each replica counts for itself.")
            .with_callback(move |gauge| {
                let store = each.load().store_status();
                let up = store.is_none_or(|store| store.away.is_none());
                gauge.observe(up.into(), &[]);
            })
            .build();
        let each = Arc::clone(limiter);
        meter
            .u64_observable_counter("bff.rate_limit.fallbacks")
            .with_description("Calls that the local buckets decided because Redis was away.")
            .with_callback(move |counter| {
                if let Some(store) = each.load().store_status() {
                    counter.observe(store.fallbacks, &[]);
                }
            })
            .build();
        let each = Arc::clone(limiter);
        meter
            .u64_observable_gauge("bff.rate_limit.keys")
            .with_description("Clients that a rule remembers.")
            .with_callback(move |gauge| {
                for rule in each.load().all() {
                    gauge.observe(rule.keys() as u64, &rule_labels(rule));
                }
            })
            .build();
    }
}

fn rule_labels(rule: &ActiveRule) -> Vec<KeyValue> {
    vec![
        KeyValue::new("field", rule.coordinate().as_str().to_owned()),
        // A quota may change all day, and each would be a series that never ends.
        KeyValue::new("rule", rule.place() as i64),
        KeyValue::new("per", rule.rule().per.as_str()),
        KeyValue::new("dry_run", rule.rule().dry_run),
    ]
}
