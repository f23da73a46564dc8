//! What the choice of an instance costs, and what a new list costs, at 10, 100 and 1000
//! instances: a pick must not depend on their number.

use std::{convert::Infallible, hint::black_box};

use bff::{
    balance::{Balance, Connect, EjectionConfig, Options, Strategy},
    discovery::{Instance, Members, parse_instances},
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::future::{Ready, ready};
use http::{Request, Response, uri::Authority};
use tokio::time::Instant;
use tonic::body::Body;
use tower::Service;

const SIZES: [usize; 3] = [10, 100, 1000];

struct Nowhere;

#[derive(Clone)]
struct Channel;

impl Connect for Nowhere {
    type Channel = Channel;

    fn connect(&self, _: &Authority) -> Channel {
        Channel
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

fn instances(count: usize) -> Vec<Instance> {
    (0..count)
        .filter_map(|n| {
            let address = format!("10.0.{}.{}:50051", n / 250, n % 250).parse().ok()?;
            Some(Instance {
                address,
                weight: 1 + n as u32 % 3,
            })
        })
        .collect()
}

fn balance(strategy: Strategy) -> Balance<Nowhere> {
    let options = Options {
        name: "bench".into(),
        strategy,
        ejection: EjectionConfig::default(),
    };
    Balance::new(options, Nowhere)
}

/// A body as Consul sends it, with what an entry carries beside the part that is read.
fn consul_answer(count: usize) -> Vec<u8> {
    let entries: Vec<_> = instances(count)
        .iter()
        .map(|instance| {
            serde_json::json!({
                "Node": {
                    "ID": "40e4a748-2192-161a-0510-9bf59fe950b5", "Node": "node-1",
                    "Address": "10.0.0.1", "Datacenter": "dc1",
                    "TaggedAddresses": { "lan": "10.0.0.1", "wan": "10.0.0.1" },
                    "Meta": { "consul-network-segment": "" }, "CreateIndex": 10,
                },
                "Service": {
                    "ID": instance.address.as_str(), "Service": "greeter-srv",
                    "Tags": ["primary"], "Address": instance.address.host(),
                    "Port": instance.address.port_u16(), "Meta": { "version": "1" },
                    "Weights": { "Passing": instance.weight, "Warning": 1 },
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

fn pick(c: &mut Criterion) {
    for (name, strategy) in [
        ("pick/p2c", Strategy::P2c),
        ("pick/random", Strategy::Random),
    ] {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let balance = balance(strategy);
            balance.apply(&Members::Known(instances(size).into()));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                let now = Instant::now();
                b.iter(|| black_box(balance.pick_only(now)));
            });
        }
    }
}

fn new_list(c: &mut Criterion) {
    let mut group = c.benchmark_group("new list: parse and apply");
    for size in SIZES {
        let body = consul_answer(size);
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let balance = balance(Strategy::P2c);
                let list = parse_instances(&body).unwrap_or_default();
                balance.apply(&Members::Known(list.into()));
                balance
            });
        });
    }
}

criterion_group!(benches, pick, new_list);
criterion_main!(benches);
