//! Two upstreams side by side, one of them dead: what the other's p99 loses by it. One run, the
//! phases in turns, the ratio at the end.

use std::time::Duration;

use bff_engine::{Method, internals::Direct};
use bff_tests::{chaos::Network, fixtures::greeter::GreeterFixture};
use proto::helloworld::{HelloReply, HelloRequest};
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

const ROUNDS: u32 = 5;

static SAY_HELLO: Method<(), HelloRequest, HelloReply> =
    Method::unary("/helloworld.Greeter/SayHello").idempotent();

async fn call(stack: &Direct) -> Duration {
    let request = HelloRequest {
        name: "bench".to_owned(),
    };
    let start = Instant::now();
    // How it ends does not matter here, only how long it takes.
    let _ = stack.unary(&SAY_HELLO, &request).await;
    start.elapsed()
}

/// 200 calls a second for three seconds; the p99.
async fn p99(stack: &Direct) -> Duration {
    let mut pace = interval(Duration::from_millis(5));
    let mut calls = JoinSet::new();
    for _ in 0..600 {
        pace.tick().await;
        let stack = stack.clone();
        calls.spawn(async move { call(&stack).await });
    }
    let mut took = calls.join_all().await;
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (healthy, dead) = (
        GreeterFixture::start().await?,
        GreeterFixture::start().await?,
    );
    healthy.script(|script| script.latency = Duration::from_millis(10));
    dead.network(Network::Frozen);
    let (healthy, dead_stack) = (
        Direct::over("greeter", &[healthy.addr()]),
        Direct::over("greeter", &[dead.addr()]),
    );
    let (mut alone, mut beside) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=ROUNDS {
        let without = p99(&healthy).await;
        let (with, _) = tokio::join!(p99(&healthy), p99(&dead_stack));
        println!("round {round}: p99 alone {without:?}, beside a dead upstream {with:?}");
        alone += without;
        beside += with;
    }
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    println!("ratio of the p99s over {ROUNDS} rounds: {ratio:.3}");
    Ok(())
}
