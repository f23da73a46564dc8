//! What the limiter costs a field that has a rule and one that has none, with one client and with
//! a hundred thousand, in one run.

use bff::rate_limit::{ClientKey, Config, Limiter};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;

/// As far as `cargo bench` is concerned the limit is never reached.
fn limiter(algorithm: &str) -> Limiter {
    let text = format!(
        "max_keys = 1000000\n[fields.\"Query.hello\"]\ncalls = 1000000000\nperiod = \"1s\"\n\
         algorithm = \"{algorithm}\"\n"
    );
    match toml_edit::de::from_str::<Config>(&text) {
        Ok(config) => Limiter::new(&config),
        Err(error) => panic!("{error}"),
    }
}

fn field(limiter: &Limiter, name: &str, client: ClientKey) -> bool {
    match limiter.rules("Query", name) {
        None => true,
        Some(rules) => limiter
            .take(rules, client)
            .now_or_never()
            .is_some_and(|taken| taken.is_ok()),
    }
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("field");
    for clients in [1_usize, 100_000] {
        let keys: Vec<_> = (0..clients)
            .map(|n| ClientKey::of(&n.to_string()))
            .collect();
        for (name, field_name, algorithm) in [
            ("no rule", "other", "gcra"),
            ("gcra", "hello", "gcra"),
            ("fixed window", "hello", "fixed-window"),
        ] {
            let limiter = limiter(algorithm);
            // Every client is known before the clock starts.
            keys.iter().for_each(|key| {
                field(&limiter, field_name, *key);
            });
            // A stride that visits all and is no friend of the cache.
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, clients), |bencher| {
                bencher.iter(|| {
                    next = (next + 7_919) % clients;
                    field(&limiter, field_name, keys[next])
                });
            });
        }
    }
    group.finish();
    criterion.bench_function("a client's fingerprint", |bencher| {
        bencher.iter(|| ClientKey::of(std::hint::black_box("203.0.113.77")));
    });
}

criterion_group!(benches, limits);
criterion_main!(benches);
