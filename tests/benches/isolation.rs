//! Two upstreams side by side, one of them dead: what the other's p99 loses by it. One run, the
//! phases in turns, the ratio at the end.

use std::time::Duration;

use bff::resilience::Method;
use bff_tests::{GreeterStack, chaos::Network, fixtures::greeter::GreeterFixture};
use proto::helloworld::HelloRequest;
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};
use tonic::Request;

const ROUNDS: u32 = 5;

async fn call(stack: &GreeterStack) -> Duration {
    let mut request = Request::new(HelloRequest {
        name: "bench".to_owned(),
    });
    request.extensions_mut().insert(Method {
        idempotent: true,
        streaming: false,
    });
    let start = Instant::now();
    // How it ends does not matter here, only how long it takes.
    let _ = stack.client.clone().say_hello(request).await;
    start.elapsed()
}

/// 200 calls a second for three seconds; the p99.
async fn p99(stack: &GreeterStack) -> Duration {
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
        GreeterStack::over(&[healthy.addr()]),
        GreeterStack::over(&[dead.addr()]),
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
