//! What the whole stack costs on a healthy call, against calling the inner service directly: one
//! run, both read to the last byte of the answer.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bff::{
    balance::{Balance, Connect, EjectionConfig, Options, Strategy},
    discovery::{Instance, Members},
    resilience::{self, Layers, Method, Settings},
};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::{
    future::{Ready, ready},
    stream,
};
use http::{HeaderMap, HeaderValue, Request, Response, uri::Authority};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};

/// Answers at once.
#[derive(Clone)]
struct Inner;

impl Service<Request<Body>> for Inner {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames: [Result<_, Status>; 2] = [
            Ok(Frame::data(Bytes::from_static(b"hello"))),
            Ok(Frame::trailers(trailers)),
        ];
        ready(Ok(Response::new(Body::new(StreamBody::new(stream::iter(
            frames,
        ))))))
    }
}

struct ToInner;

impl Connect for ToInner {
    type Channel = Inner;

    fn connect(&self, _: &Authority) -> Inner {
        Inner
    }
}

fn layers() -> Layers {
    Layers::new("bench", &Settings::default())
}

fn balance() -> Balance<ToInner> {
    let options = Options {
        name: "bench".into(),
        strategy: Strategy::P2c,
        ejection: EjectionConfig::default(),
    };
    let balance = Balance::new(options, ToInner);
    let instances = (0..4).filter_map(|n| {
        let address = format!("10.0.0.{n}:50051").parse().ok()?;
        Some(Instance { address, weight: 1 })
    });
    balance.apply(&Members::Known(Arc::from_iter(instances)));
    balance
}

async fn call<S>(service: S)
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let mut request = Request::new(Body::new(Full::new(Bytes::from_static(b"name"))));
    request.extensions_mut().insert(Method {
        idempotent: true,
        streaming: false,
    });
    if let Ok(answer) = service.oneshot(request).await {
        let _ = answer.into_body().collect().await;
    }
}

fn bench<S>(c: &mut Criterion, name: &str, service: &S)
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    c.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            runtime.block_on(async {
                #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
                let start = Instant::now();
                for _ in 0..iterations {
                    call(service.clone()).await;
                }
                start.elapsed()
            })
        });
    });
}

fn healthy_call(c: &mut Criterion) {
    bench(c, "healthy call/inner service", &Inner);
    bench(c, "healthy call/balance alone", &balance());
    bench(
        c,
        "healthy call/whole stack",
        &resilience::stack(balance(), &layers()),
    );
}

criterion_group!(benches, healthy_call);
criterion_main!(benches);
