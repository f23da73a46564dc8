//! What `/metrics` shows of the configuration.

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::time::Instant;

use super::{Live, NacosState};
use crate::telemetry::metrics::{Kind, observe};

/// Registers the instruments of `live`.
pub(crate) fn register(meter: &Meter, live: &Live) {
    let each = live.clone();
    observe(
        meter,
        Kind::Gauge,
        "bff.config.generation",
        "",
        "Counts the configurations that became effective.",
        move |observe| observe(each.now().generation as f64, &[]),
    );
    let each = live.clone();
    observe(
        meter,
        Kind::Counter,
        "bff.config.refusals",
        "",
        "Documents that were refused, or held keys that need a restart.",
        move |observe| {
            let now = each.now();
            for (reason, count) in [
                ("invalid", now.refusals),
                ("needs_restart", now.restarts_asked),
            ] {
                observe(count as f64, &[KeyValue::new("reason", reason)]);
            }
        },
    );
    let each = live.clone();
    observe(
        meter,
        Kind::Gauge,
        "bff.config.refused",
        "",
        "1 while the last document is refused.",
        move |observe| observe(each.now().refused.is_some().into(), &[]),
    );
    let each = live.clone();
    observe(
        meter,
        Kind::Gauge,
        "bff.config.awaiting_restart",
        "",
        "Changed keys that wait for a restart.",
        move |observe| observe(each.now().awaiting_restart.len() as f64, &[]),
    );
    let each = live.clone();
    observe(
        meter,
        Kind::Gauge,
        "bff.config.document",
        "",
        "1 for what Nacos says of the document, 0 for the rest.",
        move |observe| {
            let Some(nacos) = each.now().nacos.clone() else {
                return;
            };
            for state in NacosState::NAMES {
                let is = nacos.state.name() == state;
                observe(is.into(), &[KeyValue::new("state", state)]);
            }
        },
    );
    let each = live.clone();
    observe(
        meter,
        Kind::Gauge,
        "bff.config.staleness",
        "s",
        "For how long Nacos has not answered.",
        move |observe| {
            if let Some(nacos) = &each.now().nacos {
                observe(nacos.staleness(Instant::now()).as_secs_f64(), &[]);
            }
        },
    );
}
