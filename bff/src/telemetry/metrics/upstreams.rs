//! What is seen of the upstreams: discovery, balance and resilience.

use opentelemetry::KeyValue;
use tokio::time::Instant;

use super::Metrics;
use crate::{
    discovery::Source,
    resilience::{breaker::State, classify::code_name},
    upstream::{Connected, Upstreams},
};

impl Metrics {
    /// Watches discovery, balance and resilience of `upstreams`.
    pub fn observe(&self, upstreams: &Upstreams) {
        let meter = self.meter();
        let each = upstreams.clone();
        meter
            .u64_observable_gauge("bff.discovery.instances")
            .with_description("Instances in the list in use.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let instances = upstream.watch.borrow().members.list().len() as u64;
                    gauge.observe(instances, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .f64_observable_gauge("bff.discovery.staleness")
            .with_unit("s")
            .with_description("For how long the list in use has not been confirmed.")
            .with_callback(move |gauge| {
                let now = Instant::now();
                for upstream in each.connected() {
                    let stale = upstream.watch.borrow().source.staleness(now).as_secs_f64();
                    gauge.observe(stale, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_gauge("bff.discovery.held_empty")
            .with_description("1 while Consul calls the service empty and the last list is held.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let held = matches!(upstream.watch.borrow().source, Source::HeldEmpty { .. });
                    gauge.observe(held.into(), &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_gauge("bff.balance.ejected")
            .with_description("Instances that take no calls at present.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let ejected = upstream.balance.ejected().len() as u64;
                    gauge.observe(ejected, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_counter("bff.balance.ejections")
            .with_description("How often an instance was ejected.")
            .with_callback(move |counter| {
                for upstream in each.connected() {
                    let ejections = upstream.balance.ejections();
                    counter.observe(ejections, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_gauge("bff.breaker.state")
            .with_description("1 for the state the breaker is in, 0 for the others.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let now = upstream.layers.breaker.status().state;
                    for state in State::ALL {
                        gauge.observe((state == now).into(), &breaker_labels(upstream, state));
                    }
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_counter("bff.breaker.transitions")
            .with_description("How often the breaker entered a state.")
            .with_callback(move |counter| {
                for upstream in each.connected() {
                    for state in State::ALL {
                        let entered = upstream.layers.breaker.transitions_to(state);
                        counter.observe(entered, &breaker_labels(upstream, state));
                    }
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_counter("bff.bulkhead.shed")
            .with_description("Calls that were not made because too many were in flight.")
            .with_callback(move |counter| {
                for upstream in each.connected() {
                    let shed = upstream.layers.bulkhead.shed();
                    counter.observe(shed, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_counter("bff.retry.retries")
            .with_description("Further attempts, by the status of the attempt before.")
            .with_callback(move |counter| {
                for upstream in each.connected() {
                    for (code, retries) in upstream.layers.retry.retries() {
                        let labels = [
                            KeyValue::new("upstream", upstream.name),
                            KeyValue::new("reason", code_name(code)),
                        ];
                        counter.observe(retries, &labels);
                    }
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_counter("bff.retry.exhausted")
            .with_description("Failures that the budget had no retry for.")
            .with_callback(move |counter| {
                for upstream in each.connected() {
                    let exhausted = upstream.layers.retry.exhausted();
                    counter.observe(exhausted, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_gauge("bff.bulkhead.in_flight")
            .with_description("Calls that hold a place.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let calls = upstream.layers.bulkhead.in_flight() as u64;
                    gauge.observe(calls, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .f64_observable_gauge("bff.retry.budget_left")
            .with_description("Retries the budget has left.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let left = upstream.layers.retry.budget_left();
                    gauge.observe(left, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
        let each = upstreams.clone();
        meter
            .u64_observable_gauge("bff.balance.in_flight")
            .with_description("Calls in flight on listed instances.")
            .with_callback(move |gauge| {
                for upstream in each.connected() {
                    let calls = upstream.balance.in_flight().into();
                    gauge.observe(calls, &[KeyValue::new("upstream", upstream.name)]);
                }
            })
            .build();
    }
}

fn breaker_labels(upstream: &Connected, state: State) -> [KeyValue; 2] {
    [
        KeyValue::new("upstream", upstream.name),
        KeyValue::new("state", state.as_str()),
    ]
}
