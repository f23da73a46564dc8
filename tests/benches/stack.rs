//! What the whole stack costs on a healthy call, against the generated client on the same channel
//! with nothing between: one run, in turns.

use std::time::Instant;

use bff_engine::{
    Method,
    internals::{Direct, InstantReply},
};
use criterion::{Criterion, criterion_group, criterion_main};
use proto::helloworld::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use tokio::runtime::Runtime;

static SAY_HELLO: Method<(), HelloRequest, HelloReply> =
    Method::unary("/helloworld.Greeter/SayHello").idempotent();

fn reply() -> InstantReply {
    InstantReply::new(&HelloReply {
        message: "Hello, bench!".to_owned(),
    })
}

fn request() -> HelloRequest {
    HelloRequest {
        name: "bench".to_owned(),
    }
}

async fn bare(client: &GreeterClient<InstantReply>) -> bool {
    client.clone().say_hello(request()).await.is_ok()
}

async fn stack(direct: &Direct) -> bool {
    direct.unary(&SAY_HELLO, &request()).await.is_ok()
}

fn bench(c: &mut Criterion, runtime: &Runtime, name: &str, call: impl AsyncFn() -> bool) {
    assert!(runtime.block_on(call()), "{name}");
    c.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            runtime.block_on(async {
                #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
                let start = Instant::now();
                for _ in 0..iterations {
                    call().await;
                }
                start.elapsed()
            })
        });
    });
}

fn healthy_call(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    // Its connections are kept by tasks.
    let entered = runtime.enter();
    let client = GreeterClient::new(reply());
    let direct = Direct::instantly(reply());
    drop(entered);
    bench(c, &runtime, "healthy call/generated client", async || {
        bare(&client).await
    });
    bench(c, &runtime, "healthy call/whole stack", async || {
        stack(&direct).await
    });
}

criterion_group!(benches, healthy_call);
criterion_main!(benches);
