//! What `/metrics` shows of upstreams.

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::time::Instant;

use super::{UpstreamStatus, Upstreams};
use crate::{
    discovery::Source,
    resilience::breaker::State,
    telemetry::metrics::{Kind, Observe, observe},
};

/// Registers the instruments of `upstreams`.
pub(super) fn register(meter: &Meter, upstreams: &Upstreams) {
    for (kind, name, unit, description, read) in INSTRUMENTS {
        let upstreams = upstreams.clone();
        observe(meter, *kind, name, unit, description, move |observe| {
            let now = Instant::now();
            for status in upstreams.status(now) {
                read(&status, now, observe);
            }
        });
    }
}

type Read = fn(&UpstreamStatus, Instant, &mut Observe<'_>);

const INSTRUMENTS: &[(Kind, &str, &str, &str, Read)] = &[
    (
        Kind::Gauge,
        "bff.discovery.instances",
        "",
        "Instances in the list in use.",
        |status, _, observe| observe(status.instances as f64, &[upstream(status)]),
    ),
    (
        Kind::Gauge,
        "bff.discovery.staleness",
        "s",
        "For how long the list in use has not been confirmed.",
        |status, now, observe| {
            let stale = status.source.staleness(now).as_secs_f64();
            observe(stale, &[upstream(status)]);
        },
    ),
    (
        Kind::Gauge,
        "bff.discovery.held",
        "",
        "1 while Consul lists less than half of the service and the last list is held.",
        |status, _, observe| {
            let held = matches!(status.source, Source::Held { .. });
            observe(held.into(), &[upstream(status)]);
        },
    ),
    (
        Kind::Gauge,
        "bff.balance.connected",
        "",
        "Listed instances that there is a connection to; the others get no calls.",
        |status, _, observe| observe(status.connected as f64, &[upstream(status)]),
    ),
    (
        Kind::Gauge,
        "bff.balance.ejected",
        "",
        "Instances that are ejected: they get no calls at present.",
        |status, _, observe| observe(status.ejected.len() as f64, &[upstream(status)]),
    ),
    (
        Kind::Counter,
        "bff.balance.ejections",
        "",
        "How often an instance was ejected.",
        |status, _, observe| observe(status.ejections as f64, &[upstream(status)]),
    ),
    (
        Kind::Gauge,
        "bff.balance.in_flight",
        "",
        "Attempts in flight on listed instances.",
        |status, _, observe| observe(status.attempts_in_flight.into(), &[upstream(status)]),
    ),
    (
        Kind::Gauge,
        "bff.breaker.state",
        "",
        "1 for the state the circuit breaker is in, 0 for the others.",
        |status, _, observe| {
            for state in State::ALL {
                let is = state == status.breaker.state;
                observe(is.into(), &[upstream(status), label(state)]);
            }
        },
    ),
    (
        Kind::Counter,
        "bff.breaker.transitions",
        "",
        "How often the circuit breaker entered a state.",
        |status, _, observe| {
            for (state, entered) in status.transitions {
                observe(entered as f64, &[upstream(status), label(state)]);
            }
        },
    ),
    (
        Kind::Gauge,
        "bff.bulkhead.in_flight",
        "",
        "Calls in flight, which hold a permit.",
        |status, _, observe| observe(status.calls_in_flight as f64, &[upstream(status)]),
    ),
    (
        Kind::Gauge,
        "bff.bulkhead.streams",
        "",
        "Streams that are open.",
        |status, _, observe| observe(status.streams as f64, &[upstream(status)]),
    ),
    (
        Kind::Counter,
        "bff.bulkhead.shed",
        "",
        "Calls that were shed because too many were in flight.",
        |status, _, observe| observe(status.shed as f64, &[upstream(status)]),
    ),
    (
        Kind::Counter,
        "bff.retry.retries",
        "",
        "Further attempts, by the status of the attempt before.",
        |status, _, observe| {
            for (code, retries) in &status.retries {
                let reason = KeyValue::new("reason", code.as_str());
                observe(*retries as f64, &[upstream(status), reason]);
            }
        },
    ),
    (
        Kind::Counter,
        "bff.retry.exhausted",
        "",
        "Failures that the retry budget had nothing left for.",
        |status, _, observe| observe(status.retries_exhausted as f64, &[upstream(status)]),
    ),
    (
        Kind::Gauge,
        "bff.retry.budget_left",
        "",
        "Retries that the budget has left.",
        |status, _, observe| observe(status.budget_left, &[upstream(status)]),
    ),
];

fn upstream(status: &UpstreamStatus) -> KeyValue {
    KeyValue::new("upstream", status.name)
}

fn label(state: State) -> KeyValue {
    KeyValue::new("state", state.as_str())
}
