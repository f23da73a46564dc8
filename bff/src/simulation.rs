//! A service of several instances, simulated for tests on a paused clock: how each behaves, what
//! it was sent, and a load on it.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Request, Response, uri::Authority};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Code, Status, body::Body};
use tower::{BoxError, Service, ServiceExt};

use crate::{
    balance::{Balance, Connect, EjectionConfig, Options, Strategy},
    discovery::{Instance, Members},
    resilience::{self, Layers, Method, Settings, UpstreamService, classify},
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Prints a figure of a fault test, for whoever runs `just faults`.
macro_rules! figure {
    ($fault:literal, $($text:tt)*) => {
        println!("{:<4} {}", $fault, format!($($text)*))
    };
}
pub(crate) use figure;

/// How an instance behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) latency: Duration,
    pub(crate) code: Code,
    pub(crate) pushback: Option<&'static str>,
    pub(crate) stall: Stall,
    /// How many calls it works on at one time; the others wait.
    pub(crate) workers: Option<Arc<Semaphore>>,
}

/// Where an answer stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    Nowhere,
    /// Nothing comes at all.
    AtOnce,
    /// Headers come, and then nothing.
    AfterHeaders,
    /// Headers and a message come, and then nothing.
    AfterMessage,
    /// Headers and a message come, and then an error.
    ErrorAfterMessage,
}

pub(crate) const GOOD: Behaviour = Behaviour {
    latency: Duration::from_millis(10),
    code: Code::Ok,
    pushback: None,
    stall: Stall::Nowhere,
    workers: None,
};
pub(crate) const SLOW: Behaviour = Behaviour {
    latency: Duration::from_millis(500),
    ..GOOD
};
pub(crate) const FAST_FAILURE: Behaviour = failing(Code::Unavailable);
pub(crate) const HANGING: Behaviour = Behaviour {
    stall: Stall::AtOnce,
    ..GOOD
};

/// Fails with `code` in a millisecond.
pub(crate) const fn failing(code: Code) -> Behaviour {
    Behaviour {
        latency: Duration::from_millis(1),
        code,
        ..GOOD
    }
}

/// A call as an instance saw it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
}

#[derive(Default)]
struct State {
    behaviours: HashMap<u16, Behaviour>,
    received: HashMap<u16, Vec<Received>>,
    connections: Vec<Authority>,
}

/// A service of instances at `host:0`, `host:1`, …
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

impl World {
    pub(crate) fn new(behaviours: &[Behaviour]) -> Self {
        let world = Self::default();
        for (port, behaviour) in (0..).zip(behaviours) {
            world.set(port, behaviour.clone());
        }
        world
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set(&self, port: u16, behaviour: Behaviour) {
        self.lock().behaviours.insert(port, behaviour);
    }

    pub(crate) fn set_all(&self, behaviour: &Behaviour) {
        self.lock()
            .behaviours
            .values_mut()
            .for_each(|b| *b = behaviour.clone());
    }

    pub(crate) fn reset(&self) {
        self.lock().received.clear();
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        let mut all: Vec<_> = self.lock().received.values().flatten().cloned().collect();
        all.sort_by_key(|received| received.at);
        all
    }

    pub(crate) fn calls(&self, port: u16) -> usize {
        self.lock().received.get(&port).map_or(0, Vec::len)
    }

    /// The share of all calls that went to `port`.
    pub(crate) fn share(&self, port: u16) -> f64 {
        self.calls(port) as f64 / self.received().len().max(1) as f64
    }

    pub(crate) fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    pub(crate) fn balance(&self, strategy: Strategy, members: &Members) -> Balance<Self> {
        let options = Options {
            name: "service".into(),
            strategy,
            ejection: EjectionConfig::default(),
        };
        let balance = Balance::new(options, self.clone());
        balance.apply(members);
        balance
    }
}

impl Connect for World {
    type Channel = Channel;

    fn connect(&self, address: &Authority) -> Channel {
        self.lock().connections.push(address.clone());
        Channel(self.clone(), address.port_u16().unwrap())
    }
}

/// A connection to one instance.
#[derive(Clone)]
pub(crate) struct Channel(World, u16);

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut world = self.0.lock();
        let received = Received {
            at: Instant::now(),
            headers: request.headers().clone(),
        };
        world.received.entry(self.1).or_default().push(received);
        let behaviour = world.behaviours[&self.1].clone();
        Box::pin(answer(behaviour))
    }
}

async fn answer(behaviour: Behaviour) -> Result<Response<Body>, Infallible> {
    match behaviour.stall {
        Stall::Nowhere => {}
        Stall::AtOnce => std::future::pending().await,
        Stall::AfterHeaders => {
            let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>());
            return Ok(Response::new(Body::new(body)));
        }
        Stall::AfterMessage => {
            let message =
                stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(b"hello")))]);
            let body = StreamBody::new(message.chain(stream::pending()));
            return Ok(Response::new(Body::new(body)));
        }
        Stall::ErrorAfterMessage => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "13".parse().unwrap());
            let frames: [Result<_, Status>; 2] = [
                Ok(Frame::data(Bytes::from_static(b"hello"))),
                Ok(Frame::trailers(trailers)),
            ];
            return Ok(Response::new(Body::new(StreamBody::new(stream::iter(
                frames,
            )))));
        }
    }
    let _worker = match &behaviour.workers {
        Some(workers) => Some(workers.acquire().await.unwrap()),
        None => None,
    };
    sleep(behaviour.latency).await;
    if behaviour.code != Code::Ok {
        let mut response: Response<Body> = Status::new(behaviour.code, "as told").into_http();
        if let Some(pushback) = behaviour.pushback {
            response
                .headers_mut()
                .insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
        }
        return Ok(response);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames: [Result<_, Status>; 2] = [
        Ok(Frame::data(Bytes::from_static(b"hello"))),
        Ok(Frame::trailers(trailers)),
    ];
    Ok(Response::new(Body::new(StreamBody::new(stream::iter(
        frames,
    )))))
}

pub(crate) fn members(ports: impl IntoIterator<Item = u16>) -> Members {
    weighted(ports.into_iter().map(|port| (port, 1)))
}

pub(crate) fn weighted(list: impl IntoIterator<Item = (u16, u32)>) -> Members {
    let instance = |(port, weight)| Instance {
        address: format!("host:{port}").parse().unwrap(),
        weight,
    };
    Members::Known(list.into_iter().map(instance).collect())
}

/// The whole stack over four instances, as the figures of the fault list have it: deadline 2 s,
/// attempt 500 ms, and the defaults, which are the rest of that list.
pub(crate) struct Stack {
    pub(crate) world: World,
    pub(crate) balance: Balance<World>,
    pub(crate) layers: Layers,
    pub(crate) service: UpstreamService,
}

impl Stack {
    pub(crate) fn new(behaviour: &Behaviour) -> Self {
        Self::with(behaviour, |_| {})
    }

    pub(crate) fn with(behaviour: &Behaviour, change: impl FnOnce(&mut Settings)) -> Self {
        let world = World::new(&[const { GOOD }; 4]);
        world.set_all(behaviour);
        let balance = world.balance(Strategy::P2c, &members(0..4));
        let mut settings = Settings::default();
        change(&mut settings);
        let layers = Layers::new("service", &settings);
        let service = resilience::stack(balance.clone(), &layers);
        Self {
            world,
            balance,
            layers,
            service,
        }
    }
}

pub(crate) const IDEMPOTENT: Method = Method {
    idempotent: true,
    streaming: false,
};
pub(crate) const ONCE: Method = Method {
    idempotent: false,
    streaming: false,
};

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) took: Duration,
    pub(crate) result: Result<Code, BoxError>,
}

impl Ended {
    pub(crate) fn ok(&self) -> bool {
        matches!(self.result, Ok(Code::Ok))
    }

    /// The true code, of an answer or an error.
    pub(crate) fn code(&self) -> Code {
        match &self.result {
            Ok(code) => *code,
            Err(error) => classify::of_error(error.as_ref()).code,
        }
    }

    /// Whether an error of type `E` ended it.
    pub(crate) fn is<E: std::error::Error + 'static>(&self) -> bool {
        let found = |error: &BoxError| classify::find::<E>(error.as_ref()).is_some();
        self.result.as_ref().is_err_and(found)
    }
}

/// One call of an idempotent method, to its last byte.
pub(crate) async fn call<S>(service: S) -> Ended
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>>,
{
    call_with(service, IDEMPOTENT).await
}

/// One call of `method`, to its last byte.
pub(crate) async fn call_with<S>(service: S, method: Method) -> Ended
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>>,
{
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(method);
    send(service, request).await
}

/// Sends `request` and reads the answer to its last byte.
pub(crate) async fn send<S>(service: S, request: Request<Body>) -> Ended
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>>,
{
    let start = Instant::now();
    let result = async {
        let response = service.oneshot(request).await.map_err(Into::into)?;
        let in_headers = classify::code_in(response.headers());
        let end = response.into_body().collect().await?;
        Ok(in_headers
            .or(end.trailers().and_then(classify::code_in))
            .unwrap_or(Code::Unknown))
    };
    let result = result.await;
    Ended {
        took: start.elapsed(),
        result,
    }
}

/// What a load saw, fastest first.
pub(crate) struct Seen(Vec<Ended>);

impl Seen {
    pub(crate) fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100].took
    }

    pub(crate) fn count(&self, is: impl Fn(&Ended) -> bool) -> usize {
        self.0.iter().filter(|ended| is(ended)).count()
    }

    pub(crate) fn errors(&self) -> usize {
        self.count(|ended| !ended.ok())
    }

    pub(crate) fn error_ratio(&self) -> f64 {
        self.errors() as f64 / self.0.len() as f64
    }

    pub(crate) fn all(&self) -> &[Ended] {
        &self.0
    }
}

/// 200 requests a second.
pub(crate) async fn load<S>(service: &S, duration: Duration) -> Seen
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    load_at(service, 5 * MS, duration).await
}

/// One request every `gap`.
pub(crate) async fn load_at<S>(service: &S, gap: Duration, duration: Duration) -> Seen
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut pace = tokio::time::interval(gap);
    let mut calls = JoinSet::new();
    for _ in 0..(duration.as_micros() / gap.as_micros()) {
        pace.tick().await;
        calls.spawn(call(service.clone()));
    }
    let mut all = calls.join_all().await;
    all.sort_unstable_by_key(|ended| ended.took);
    Seen(all)
}
