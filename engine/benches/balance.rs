//! What the choice of an instance costs, and what a new list costs, at 10, 100 and 1000
//! instances: a pick must not depend on their number.

use bff_engine::internals::Picks;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::time::Instant;

const SIZES: [usize; 3] = [10, 100, 1000];

/// A body as Consul sends it, with what an entry carries beside the part that is read.
fn consul_answer(count: usize) -> Vec<u8> {
    let entries: Vec<_> = (0..count)
        .map(|n| {
            let address = format!("10.0.{}.{}", n / 250, n % 250);
            serde_json::json!({
                "Node": {
                    "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "node-1",
                    "Address": "10.0.0.1", "Datacenter": "dc1",
                    "TaggedAddresses": { "lan": "10.0.0.1", "wan": "10.0.0.1" },
                    "Meta": { "consul-network-segment": "" }, "CreateIndex": 10,
                },
                "Service": {
                    "ID": address, "Service": "greeter-srv",
                    "Tags": ["primary"], "Address": address,
                    "Port": 50051, "Meta": { "version": "1" },
                    "Weights": { "Passing": 1 + n % 3, "Warning": 1 },
                },
                "Checks": [
                    { "CheckID": "serfHealth", "Status": "passing", "Output": "Agent alive" },
                    { "CheckID": "service:greeter", "Status": "passing", "Output": "gRPC ok" },
                ],
            })
        })
        .collect();
    serde_json::to_vec(&entries).unwrap_or_default()
}

/// Where connections are kept.
#[expect(
    clippy::unwrap_used,
    reason = "a bench without a runtime measures nothing"
)]
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

fn pick(c: &mut Criterion) {
    let runtime = runtime();
    let _entered = runtime.enter();
    for (name, p2c) in [("pick/p2c", true), ("pick/random", false)] {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let picks = Picks::new(p2c);
            assert_eq!(picks.apply(&consul_answer(size)), size);
            runtime.block_on(picks.connected());
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                let now = Instant::now();
                b.iter(|| picks.pick(now));
            });
        }
    }
}

fn new_list(c: &mut Criterion) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut group = c.benchmark_group("new list: parse and apply");
    for size in SIZES {
        let body = consul_answer(size);
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let picks = Picks::new(true);
                picks.apply(&body);
                picks
            });
        });
    }
}

criterion_group!(benches, pick, new_list);
criterion_main!(benches);
