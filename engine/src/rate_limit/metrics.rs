//! What `/metrics` shows of rate limits.

use std::sync::Arc;

use arc_swap::ArcSwap;
use opentelemetry::{KeyValue, metrics::Meter};

use super::{ActiveRule, Limiter};
use crate::telemetry::metrics::{Kind, observe};

/// Registers the instruments of the rules in `limiter`.
pub(crate) fn register(meter: &Meter, limiter: &Arc<ArcSwap<Limiter>>) {
    let each = Arc::clone(limiter);
    observe(
        meter,
        Kind::Counter,
        "bff.rate_limit.calls",
        "",
        "Calls by rule and outcome; a dry run's throttled calls went on.",
        move |observe| {
            for rule in each.load().all() {
                for (outcome, calls) in
                    [("allowed", rule.allowed()), ("throttled", rule.throttled())]
                {
                    let mut labels = rule_labels(rule);
                    labels.push(KeyValue::new("outcome", outcome));
                    observe(calls as f64, &labels);
                }
            }
        },
    );
    let each = Arc::clone(limiter);
    observe(
        meter,
        Kind::Gauge,
        "bff.rate_limit.store_up",
        "",
        "1 while the store that is configured decides, 0 while Redis is away and each replica counts for itself.",
        move |observe| {
            let store = each.load().store_status();
            let up = store.is_none_or(|store| store.away.is_none());
            observe(up.into(), &[]);
        },
    );
    let each = Arc::clone(limiter);
    observe(
        meter,
        Kind::Counter,
        "bff.rate_limit.fallbacks",
        "",
        "Calls that the local buckets decided because Redis was away.",
        move |observe| {
            if let Some(store) = each.load().store_status() {
                observe(store.fallbacks as f64, &[]);
            }
        },
    );
    let each = Arc::clone(limiter);
    observe(
        meter,
        Kind::Gauge,
        "bff.rate_limit.keys",
        "",
        "Clients that a rule remembers.",
        move |observe| {
            for rule in each.load().all() {
                observe(rule.keys() as f64, &rule_labels(rule));
            }
        },
    );
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
