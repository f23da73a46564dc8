//! The balancer under faults, on a paused clock.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Status};

use super::*;
use crate::{discovery::Instance, resilience};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How an instance of the simulated service behaves.
#[derive(Clone, Copy, Debug)]
struct Behaviour {
    latency: Duration,
    code: Code,
    /// Sends headers at once and then nothing.
    stalls: bool,
}

const GOOD: Behaviour = Behaviour {
    latency: Duration::from_millis(10),
    code: Code::Ok,
    stalls: false,
};
const SLOW: Behaviour = Behaviour {
    latency: Duration::from_millis(500),
    ..GOOD
};
const FAST_FAILURE: Behaviour = Behaviour {
    latency: Duration::from_millis(1),
    code: Code::Unavailable,
    ..GOOD
};

/// A service of instances `0..n`, at `host:port` with the instance's number as port.
#[derive(Clone, Default)]
struct World(
    Arc<Mutex<HashMap<u16, (Behaviour, usize)>>>,
    Arc<Mutex<Vec<Authority>>>,
);

impl World {
    fn new(behaviours: &[Behaviour]) -> Self {
        let world = Self::default();
        for (port, behaviour) in (0..).zip(behaviours) {
            world.set(port, *behaviour);
        }
        world
    }

    fn set(&self, port: u16, behaviour: Behaviour) {
        lock(&self.0).entry(port).or_insert((behaviour, 0)).0 = behaviour;
    }

    fn reset_counts(&self) {
        lock(&self.0).values_mut().for_each(|(_, calls)| *calls = 0);
    }

    fn calls(&self, port: u16) -> usize {
        lock(&self.0)[&port].1
    }

    /// The share of all calls that went to `port`.
    fn share(&self, port: u16) -> f64 {
        let total: usize = lock(&self.0).values().map(|(_, calls)| calls).sum();
        self.calls(port) as f64 / total as f64
    }

    fn connections(&self) -> usize {
        lock(&self.1).len()
    }
}

#[derive(Clone)]
struct Channel(World, u16);

impl Connect for World {
    type Channel = Channel;

    fn connect(&self, address: &Authority) -> Channel {
        lock(&self.1).push(address.clone());
        Channel(self.clone(), address.port_u16().unwrap())
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let behaviour = {
            let mut world = lock(&self.0.0);
            let (behaviour, calls) = world.get_mut(&self.1).unwrap();
            *calls += 1;
            *behaviour
        };
        Box::pin(async move {
            if behaviour.stalls {
                let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>());
                return Ok(Response::new(Body::new(body)));
            }
            sleep(behaviour.latency).await;
            if behaviour.code != Code::Ok {
                return Ok(Status::new(behaviour.code, "as told").into_http());
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
        })
    }
}

fn members(ports: impl IntoIterator<Item = u16>) -> Members {
    weighted(ports.into_iter().map(|port| (port, 1)))
}

fn weighted(list: impl IntoIterator<Item = (u16, u32)>) -> Members {
    let instance = |(port, weight)| Instance {
        address: format!("host:{port}").parse().unwrap(),
        weight,
    };
    Members::Known(list.into_iter().map(instance).collect())
}

fn balance(world: &World, strategy: Strategy, members: &Members) -> Balance<World> {
    let options = Options {
        name: "service".into(),
        strategy,
        ejection: EjectionConfig::default(),
    };
    let balance = Balance::new(options, world.clone());
    balance.apply(members);
    balance
}

fn four(world: &World) -> Balance<World> {
    balance(world, Strategy::P2c, &members(0..4))
}

/// One call to its last byte: how long it took and how it ended.
async fn call<S>(service: S) -> (Duration, Result<Code, BoxError>)
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>>,
{
    let start = Instant::now();
    let outcome = async {
        let response = service
            .oneshot(Request::new(Body::empty()))
            .await
            .map_err(Into::into)?;
        let in_headers = classify::code_in(response.headers());
        let end = response.into_body().collect().await?;
        Ok(in_headers
            .or(end.trailers().and_then(classify::code_in))
            .unwrap_or(Code::Unknown))
    };
    let outcome = outcome.await;
    (start.elapsed(), outcome)
}

/// What a load saw.
struct Seen {
    latencies: Vec<Duration>,
    errors: usize,
}

impl Seen {
    fn p99(&self) -> Duration {
        self.latencies[self.latencies.len() * 99 / 100]
    }

    fn error_ratio(&self) -> f64 {
        self.errors as f64 / self.latencies.len() as f64
    }
}

/// 200 requests a second.
async fn load<S>(service: &S, duration: Duration) -> Seen
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut pace = tokio::time::interval(5 * MS);
    let mut calls = JoinSet::new();
    for _ in 0..(duration.as_millis() / 5) {
        pace.tick().await;
        calls.spawn(call(service.clone()));
    }
    let results = calls.join_all().await;
    let errors = results
        .iter()
        .filter(|(_, end)| !matches!(end, Ok(Code::Ok)))
        .count();
    let mut latencies: Vec<_> = results.into_iter().map(|(latency, _)| latency).collect();
    latencies.sort_unstable();
    Seen { latencies, errors }
}

#[tokio::test(start_paused = true)]
async fn f3_one_of_four_slow_gets_under_a_hundredth_of_the_calls_after_two_seconds() {
    let world = World::new(&[GOOD; 4]);
    let balance = four(&world);
    let normal = load(&balance, 5 * SECOND).await;
    world.set(0, SLOW);
    load(&balance, 2 * SECOND).await;
    world.reset_counts();
    let seen = load(&balance, 60 * SECOND).await;
    assert!(world.share(0) <= 0.01, "share {}", world.share(0));
    assert!(
        seen.p99() <= 2 * normal.p99(),
        "{:?} against {:?}",
        seen.p99(),
        normal.p99()
    );
    assert_eq!(seen.errors, 0);
}

#[tokio::test(start_paused = true)]
async fn f3_a_slow_one_that_is_fast_again_gets_its_share_back() {
    let world = World::new(&[SLOW, GOOD, GOOD, GOOD]);
    let balance = four(&world);
    load(&balance, 5 * SECOND).await;
    world.set(0, GOOD);
    load(&balance, 60 * SECOND).await;
    world.reset_counts();
    load(&balance, 30 * SECOND).await;
    assert!(
        (world.share(0) - 0.25).abs() < 0.05,
        "share {}",
        world.share(0)
    );
}

#[tokio::test(start_paused = true)]
async fn f4_one_of_four_that_fails_fast_gets_under_a_hundredth_of_the_calls() {
    let world = World::new(&[FAST_FAILURE, GOOD, GOOD, GOOD]);
    let seen = load(&four(&world), 60 * SECOND).await;
    assert!(world.share(0) <= 0.01, "share {}", world.share(0));
    assert!(seen.error_ratio() <= 0.001, "errors {}", seen.error_ratio());
}

#[tokio::test(start_paused = true)]
async fn f4_with_the_whole_stack_no_client_sees_the_failures() {
    const METHODS: &[resilience::Method] = &[resilience::Method {
        path: "/",
        idempotent: true,
        streaming: false,
    }];
    let world = World::new(&[FAST_FAILURE, GOOD, GOOD, GOOD]);
    let retry = resilience::retry::Config::default();
    let stack = resilience::stack(four(&world), 2 * SECOND, &retry, METHODS);
    let seen = load(&stack, 60 * SECOND).await;
    assert_eq!(seen.errors, 0);
    assert!(world.share(0) <= 0.01, "share {}", world.share(0));
}

#[tokio::test(start_paused = true)]
async fn f15_with_three_of_four_bad_ejection_stops_at_its_cap_and_there_is_always_an_instance() {
    let world = World::new(&[FAST_FAILURE, FAST_FAILURE, FAST_FAILURE, GOOD]);
    let balance = balance(&world, Strategy::Random, &members(0..4));
    for _ in 0..2000 {
        let (_, end) = call(balance.clone()).await;
        assert!(end.is_ok(), "{end:?}");
        assert!(balance.ejected().len() <= 2, "{:?}", balance.ejected());
    }
    assert_eq!(balance.ejected().len(), 2);
    assert!(
        world.share(3) > 0.3,
        "share of the good one {}",
        world.share(3)
    );
}

#[tokio::test(start_paused = true)]
async fn f15_failures_that_arrive_together_do_not_eject_more_than_the_cap() {
    let world = World::new(&[FAST_FAILURE; 4]);
    let balance = balance(&world, Strategy::Random, &members(0..4));
    let calls: JoinSet<_> = (0..1000).map(|_| call(balance.clone())).collect();
    assert!(calls.join_all().await.iter().all(|(_, end)| end.is_ok()));
    assert_eq!(balance.ejected().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_shrinks_to_its_ejected_instances_panics_and_uses_them() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = balance(&world, Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        let _ = call(balance.clone()).await;
    }
    balance.apply(&members([0]));
    assert!(matches!(
        call(balance.clone()).await.1,
        Ok(Code::Unavailable)
    ));
}

#[tokio::test(start_paused = true)]
async fn an_ejected_instance_returns_after_one_good_probe() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = balance(&world, Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        let _ = call(balance.clone()).await;
    }
    world.set(0, GOOD);
    world.reset_counts();
    load(&balance, SECOND).await;
    assert_eq!(world.calls(0), 0, "still ejected");
    load(&balance, 5 * SECOND).await;
    assert!(balance.ejected().is_empty());
    assert!(world.calls(0) > 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_during_a_probe_gives_the_probe_back_and_counts_for_nothing() {
    let world = World::new(&[FAST_FAILURE, GOOD]);
    let balance = balance(&world, Strategy::Random, &members(0..2));
    while balance.ejected().is_empty() {
        let _ = call(balance.clone()).await;
    }
    world.set(0, GOOD);
    world.reset_counts();
    sleep(6 * SECOND).await;
    let left = tokio::time::timeout(MS, call(balance.clone())).await;
    assert!(left.is_err());
    assert_eq!(world.calls(0), 1, "the abandoned call was the probe");
    assert_eq!(balance.in_flight(), 0);
    assert!(matches!(call(balance.clone()).await.1, Ok(Code::Ok)));
    assert_eq!(world.calls(0), 2, "the next call is the probe");
    assert!(balance.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn headers_that_are_followed_by_nothing_count_as_failures_at_the_deadline() {
    let stalling = Behaviour {
        stalls: true,
        ..GOOD
    };
    let world = World::new(&[stalling, GOOD]);
    let balance = balance(&world, Strategy::Random, &members(0..2));
    let retry = resilience::retry::Config {
        max_attempts: 1,
        ..Default::default()
    };
    let stack = resilience::stack(balance.clone(), 2 * SECOND, &retry, &[]);
    while balance.ejected().is_empty() {
        let (took, end) = call(stack.clone()).await;
        if let Err(error) = end {
            assert_eq!(
                classify::of_error(error.as_ref()).code,
                Code::DeadlineExceeded
            );
            assert_eq!(took, 2 * SECOND);
        }
    }
    assert_eq!(balance.ejected(), ["host:0"]);
    assert_eq!(balance.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn equal_instances_share_the_calls_equally() {
    for strategy in [Strategy::P2c, Strategy::Random] {
        let world = World::new(&[GOOD; 3]);
        load(&balance(&world, strategy, &members(0..3)), 60 * SECOND).await;
        for port in 0..3 {
            assert!(
                (world.share(port) - 1.0 / 3.0).abs() < 0.03,
                "{}",
                world.share(port)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn weights_from_the_catalog_are_honoured() {
    for strategy in [Strategy::P2c, Strategy::Random] {
        let world = World::new(&[GOOD; 3]);
        let balance = balance(&world, strategy, &weighted([(0, 6), (1, 3), (2, 1)]));
        // One after the other: with calls in flight, p2c also looks at who is idle.
        for _ in 0..10_000 {
            let _ = call(balance.clone()).await;
        }
        for (port, wanted) in [(0, 0.6), (1, 0.3), (2, 0.1)] {
            assert!(
                (world.share(port) - wanted).abs() < 0.03,
                "{}",
                world.share(port)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_joins_is_used_at_once_and_is_not_flooded() {
    let world = World::new(&[GOOD; 4]);
    let balance = balance(&world, Strategy::P2c, &members(0..3));
    load(&balance, 5 * SECOND).await;
    balance.apply(&members(0..4));
    world.reset_counts();
    load(&balance, SECOND).await;
    assert!(
        world.share(3) > 0.15 && world.share(3) < 0.40,
        "share {}",
        world.share(3)
    );
}

#[tokio::test(start_paused = true)]
async fn instances_that_stay_keep_their_channel_through_any_change_of_the_list() {
    let world = World::new(&[GOOD; 8]);
    let balance = four(&world);
    load(&balance, SECOND).await;
    assert_eq!(world.connections(), 4);
    for round in 0..100 {
        balance.apply(&weighted((0..4).map(|port| (port, 1 + round % 3))));
        balance.apply(&members([3, 1, 0, 2]));
        load(&balance, 50 * MS).await;
    }
    assert_eq!(world.connections(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_on_an_instance_that_leaves_the_list_finishes() {
    let world = World::new(&[SLOW]);
    let balance = balance(&world, Strategy::P2c, &members([0]));
    let running = tokio::spawn(call(balance.clone()));
    sleep(100 * MS).await;
    balance.apply(&members([]));
    assert!(matches!(running.await.unwrap().1, Ok(Code::Ok)));
}

#[tokio::test(start_paused = true)]
async fn unknown_and_empty_are_different_errors_and_both_come_at_once() {
    let world = World::default();
    let balance = balance(&world, Strategy::P2c, &Members::Unknown);
    for known in [false, true] {
        let (took, end) = call(balance.clone()).await;
        let error = end.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&NoInstance { known }));
        assert_eq!(took, Duration::ZERO);
        balance.apply(&members([]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_goes_to_another_instance() {
    let world = World::new(&[GOOD; 3]);
    let balance = balance(&world, Strategy::P2c, &members(0..3));
    for _ in 0..200 {
        let tried = Tried::default();
        for _ in 0..3 {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(tried.clone());
            balance.clone().oneshot(request).await.expect("an answer");
        }
        let mut list = tried.list();
        list.sort_unstable_by_key(|address| address.port_u16());
        assert_eq!(list, ["host:0", "host:1", "host:2"]);
    }
}
