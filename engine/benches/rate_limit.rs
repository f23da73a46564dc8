//! What the limiter costs a field that has a rule and one that has none, with one client and with
//! a hundred thousand, in one run.

use bff_engine::internals::{Client, Limits};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// As far as `cargo bench` is concerned the limit is never reached.
fn limits_of(algorithm: &str) -> Limits {
    let text = format!(
        "max_keys = 1000000\n[fields.\"Query.hello\"]\ncalls = 1000000000\nperiod = \"1s\"\n\
         algorithm = \"{algorithm}\"\n"
    );
    match Limits::new(&text) {
        Ok(limits) => limits,
        Err(error) => panic!("{error}"),
    }
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("field");
    for clients in [1_usize, 100_000] {
        let keys: Vec<_> = (0..clients).map(|n| Client::new(&n.to_string())).collect();
        for (name, field, algorithm) in [
            ("no rule", "other", "gcra"),
            ("gcra", "hello", "gcra"),
            ("fixed window", "hello", "fixed-window"),
        ] {
            let limits = limits_of(algorithm);
            // Every client is known before the clock starts.
            keys.iter().for_each(|key| {
                limits.allows(field, *key);
            });
            // A stride that visits all and is no friend of the cache.
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, clients), |bencher| {
                bencher.iter(|| {
                    next = (next + 7_919) % clients;
                    limits.allows(field, keys[next])
                });
            });
        }
    }
    group.finish();
    criterion.bench_function("a client's fingerprint", |bencher| {
        bencher.iter(|| Client::new(std::hint::black_box("203.0.113.77")));
    });
}

criterion_group!(benches, limits);
criterion_main!(benches);
