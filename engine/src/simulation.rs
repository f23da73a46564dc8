//! A service of several instances, simulated for tests on a paused clock: how each behaves, what
//! it was sent, and a load on it.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE, uri::Authority};
use http_body::Frame;
use http_body_util::StreamBody;
use opentelemetry::metrics::{Meter, MeterProvider};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};

use crate::{
    balance::Balance,
    call::{
        BoxFuture, Call, CallError, CallOptions, Code, Config, Decoded, Failed, RawMethod, Reply,
        ReplyBody, Strategy,
        transport::{self, Capacity, Connect, Connection, NotConnected, Place},
    },
    discovery::{Instance, Members},
    resilience::breaker::State,
    upstream::Connected,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Prints a figure of a fault test, for `just faults`.
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
    /// Whether it refuses connections.
    pub(crate) refuses: bool,
    /// How long after it has accepted a connection it says its first word.
    pub(crate) greets_after: Duration,
    /// For how long it keeps a connection.
    pub(crate) keeps_for: Option<Duration>,
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
    refuses: false,
    greets_after: Duration::ZERO,
    keeps_for: None,
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
struct WorldState {
    behaviours: HashMap<u16, Behaviour>,
    received: HashMap<u16, Vec<Received>>,
    connections: Vec<Authority>,
}

/// A service of instances at `host:0`, `host:1`, …
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<WorldState>>);

impl World {
    pub(crate) fn new(behaviours: &[Behaviour]) -> Self {
        let world = Self::default();
        for (port, behaviour) in (0..).zip(behaviours) {
            world.set(port, behaviour.clone());
        }
        world
    }

    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.0.lock()
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

    /// When the calls to `port` came.
    pub(crate) fn received_by(&self, port: u16) -> Vec<Instant> {
        let world = self.lock();
        let received = world.received.get(&port).into_iter().flatten();
        received.map(|received| received.at).collect()
    }

    /// The share of all calls that went to `port`.
    pub(crate) fn share(&self, port: u16) -> f64 {
        self.calls(port) as f64 / self.received().len().max(1) as f64
    }

    pub(crate) fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    pub(crate) fn balance(&self, strategy: Strategy, members: &Members) -> Balance<Self> {
        let config = Config {
            balancer: strategy,
            ..Config::default()
        };
        let balance = Balance::new("service", &config, self.clone());
        balance.apply(members);
        balance
    }
}

impl Connect for World {
    type Channel = Channel;

    fn connect(
        &self,
        address: &Authority,
        _: u32,
        place: Place,
    ) -> BoxFuture<Result<Connection<Channel>, NotConnected>> {
        let port = address.port_u16().unwrap();
        let mut world = self.lock();
        world.connections.push(address.clone());
        let channel = Channel(self.clone(), port);
        let behaviour = world.behaviours[&port].clone();
        Box::pin(async move {
            if behaviour.refuses {
                return Err(NotConnected("refused".to_owned()));
            }
            drop(place);
            if !behaviour.greets_after.is_zero() {
                sleep(behaviour.greets_after).await;
            }
            let ended = async move {
                match behaviour.keeps_for {
                    Some(time) => sleep(time).await,
                    None => std::future::pending().await,
                }
                transport::Ended::Closed
            };
            Ok(Connection {
                channel,
                ended: Box::pin(ended),
            })
        })
    }
}

/// A connection to one instance.
#[derive(Clone)]
pub(crate) struct Channel(World, u16);

impl Capacity for Channel {}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

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

/// A message that says hello, as gRPC frames it.
const HELLO: &[u8] = b"\0\0\0\0\x07\x0a\x05hello";

/// An answer of these frames, and then nothing.
fn frames(list: Vec<Frame<Bytes>>, stalls: bool) -> Result<Response<Body>, Infallible> {
    let list = stream::iter(list.into_iter().map(Ok::<_, Status>));
    let body = match stalls {
        true => Body::new(StreamBody::new(list.chain(stream::pending()))),
        false => Body::new(StreamBody::new(list)),
    };
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    Ok(response)
}

fn status(code: Code) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code as u16));
    Frame::trailers(trailers)
}

async fn answer(behaviour: Behaviour) -> Result<Response<Body>, Infallible> {
    let message = || Frame::data(Bytes::from_static(HELLO));
    match behaviour.stall {
        Stall::Nowhere => {}
        Stall::AtOnce => std::future::pending().await,
        Stall::AfterHeaders => return frames(vec![], true),
        Stall::AfterMessage => return frames(vec![message()], true),
        Stall::ErrorAfterMessage => {
            return frames(vec![message(), status(Code::Internal)], false);
        }
    }
    let _worker = match &behaviour.workers {
        Some(workers) => Some(workers.acquire().await.unwrap()),
        None => None,
    };
    sleep(behaviour.latency).await;
    if behaviour.code != Code::Ok {
        let mut response = frames(vec![], false)?;
        let headers = response.headers_mut();
        headers.insert("grpc-status", HeaderValue::from(behaviour.code as u16));
        if let Some(pushback) = behaviour.pushback {
            headers.insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
        }
        return Ok(response);
    }
    frames(vec![message(), status(Code::Ok)], false)
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

/// What a program with a greeter knows.
pub(crate) fn known() -> Arc<crate::config::Known> {
    struct Greeter;
    impl crate::upstream::Upstream for Greeter {
        const NAME: &'static str = "greeter";
        const SERVICE: &'static str = "greeter-srv";
    }
    Arc::new(crate::config::Known {
        upstreams: vec![crate::upstream::Description::of::<Greeter>()],
        coordinates: ["Query.hello", "Greeting.message", "Subscription.greetings"]
            .map(str::to_owned)
            .into(),
    })
}

/// A configuration as TOML, secrets redacted.
pub(crate) fn toml(config: &crate::config::Config) -> String {
    toml_edit::ser::to_string_pretty(config).unwrap()
}

/// A meter whose values are discarded.
pub(crate) fn meter() -> Meter {
    opentelemetry::metrics::noop::NoopMeterProvider::new().meter("simulation")
}

/// The whole stack over four instances, as the figures of the fault list have it: deadline 2 s,
/// attempt 500 ms, and the defaults, which are the rest of that list.
pub(crate) struct Stack {
    pub(crate) world: World,
    pub(crate) upstream: Arc<Connected<World>>,
}

impl Stack {
    pub(crate) fn new(behaviour: &Behaviour) -> Self {
        Self::with(behaviour, |_| {})
    }

    pub(crate) fn with(behaviour: &Behaviour, change: impl FnOnce(&mut Config)) -> Self {
        let world = World::new(&[const { GOOD }; 4]);
        world.set_all(behaviour);
        let balance = world.balance(Strategy::P2c, &members(0..4));
        let mut config = Config::default();
        change(&mut config);
        let upstream = Arc::new(Connected::new("service", config, balance, &meter(), &[]));
        Self { world, upstream }
    }

    /// Makes a configuration effective that differs from the default by `change`.
    pub(crate) fn apply(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::default();
        change(&mut config);
        self.upstream.apply(&config);
    }

    pub(crate) fn breaker(&self) -> State {
        self.upstream.layers().breaker.status().state
    }

    /// Calls and attempts in flight.
    pub(crate) fn in_flight(&self) -> (usize, u32) {
        let calls = self.upstream.layers().bulkhead.in_flight();
        (calls, self.upstream.balance().in_flight())
    }

    pub(crate) fn budget_left(&self) -> f64 {
        let config = self.upstream.config();
        let retry = &self.upstream.layers().retry;
        retry.budget_left(&config.retry, Instant::now())
    }
}

const fn method(idempotent: bool, streaming: bool) -> RawMethod {
    RawMethod {
        path: "/simulation.Service/Method",
        idempotent,
        streaming,
        decode: Decoded::of::<String>,
    }
}

pub(crate) static IDEMPOTENT: RawMethod = method(true, false);
pub(crate) static ONCE: RawMethod = method(false, false);
pub(crate) static STREAMING: RawMethod = method(true, true);

/// What can be called in a simulation.
pub(crate) trait Callee: Clone + Send + 'static {
    fn config(&self) -> Arc<Config>;
    fn send(self, call: Call) -> BoxFuture<Result<Reply, Failed>>;
}

impl Callee for Arc<Connected<World>> {
    fn config(&self) -> Arc<Config> {
        Connected::config(self)
    }

    fn send(self, call: Call) -> BoxFuture<Result<Reply, Failed>> {
        Box::pin(async move { Connected::send(&self, call).await })
    }
}

impl Callee for Balance<World> {
    fn config(&self) -> Arc<Config> {
        Arc::default()
    }

    fn send(self, call: Call) -> BoxFuture<Result<Reply, Failed>> {
        Box::pin(self.oneshot(call))
    }
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) took: Duration,
    pub(crate) result: Result<(), Failed>,
}

impl Ended {
    pub(crate) fn ok(&self) -> bool {
        self.result.is_ok()
    }

    /// The true code, of an answer or an error.
    pub(crate) fn code(&self) -> Code {
        match &self.result {
            Ok(()) => Code::Ok,
            Err(failed) => failed.outcome().code,
        }
    }

    /// What ended it, if it was not answered.
    pub(crate) fn error(&self) -> Option<&CallError> {
        self.result.as_ref().err().map(Failed::error)
    }

    pub(crate) fn is_circuit_open(&self) -> bool {
        matches!(self.error(), Some(CallError::CircuitOpen(_)))
    }

    pub(crate) fn is_overloaded(&self) -> bool {
        matches!(self.error(), Some(CallError::Overloaded(_)))
    }
}

/// One call of an idempotent method, to its last byte.
pub(crate) async fn call(callee: impl Callee) -> Ended {
    call_with(callee, &IDEMPOTENT, CallOptions::default()).await
}

/// One call of `method`, to its last byte.
pub(crate) async fn call_with(
    callee: impl Callee,
    method: &'static RawMethod,
    options: CallOptions,
) -> Ended {
    let call = Call::new(
        method,
        Bytes::from_static(b"name"),
        callee.config(),
        options,
    );
    send(callee, call).await
}

/// Sends `call` and reads the answer to its last byte.
pub(crate) async fn send(callee: impl Callee, call: Call) -> Ended {
    let start = Instant::now();
    let result = match callee.send(call).await {
        Ok(Reply {
            body: ReplyBody::Many(mut messages),
            ..
        }) => loop {
            match messages.next().await {
                Some(Ok(_)) => {}
                Some(Err(failed)) => break Err(failed),
                None => break Ok(()),
            }
        },
        Ok(_) => Ok(()),
        Err(failed) => Err(failed),
    };
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
pub(crate) async fn load(callee: &impl Callee, duration: Duration) -> Seen {
    load_at(callee, 5 * MS, duration).await
}

/// One request every `gap`.
pub(crate) async fn load_at(callee: &impl Callee, gap: Duration, duration: Duration) -> Seen {
    let mut pace = tokio::time::interval(gap);
    let mut calls = JoinSet::new();
    for _ in 0..(duration.as_micros() / gap.as_micros()) {
        pace.tick().await;
        calls.spawn(call(callee.clone()));
    }
    let mut all = calls.join_all().await;
    all.sort_unstable_by_key(|ended| ended.took);
    Seen(all)
}
