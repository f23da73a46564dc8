//! Instances that are listed and no good: gone, wrong, closing, silent. Their siblings answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bff_tests::{
    Load, TestBff,
    fixtures::{
        greeter::GreeterFixture,
        hostile::{Harm, HostileFixture},
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{System, soon};

const MS: Duration = Duration::from_millis(1);

/// `n` good greeters of 20 ms, their addresses, and those of `n` entries that refuse connections.
async fn good(n: usize) -> Vec<GreeterFixture> {
    let mut good = Vec::new();
    for _ in 0..n {
        let greeter = GreeterFixture::start().await.unwrap();
        greeter.script(|script| script.latency = 20 * MS);
        good.push(greeter);
    }
    good
}

async fn hostile(n: usize, harm: Harm) -> Vec<HostileFixture> {
    let mut hostile = Vec::new();
    for _ in 0..n {
        hostile.push(HostileFixture::start(harm).await.unwrap());
    }
    hostile
}

/// A BFF whose greeter is at these addresses.
async fn over(addrs: impl IntoIterator<Item = SocketAddr>) -> Arc<TestBff> {
    let endpoints = addrs.into_iter().map(|addr| format!("http://{addr}"));
    let endpoints: Vec<_> = endpoints.collect();
    let bff = TestBff::builder()
        .set("upstreams.greeter.endpoints", json!(endpoints))
        // A busy machine is no slow instance.
        .set("upstreams.greeter.timeout", "8s")
        .set("upstreams.greeter.attempt_timeout", "4s")
        .start()
        .await;
    Arc::new(bff)
}

/// Three good greeters and `harm` beside them.
async fn beside(harm: Harm) -> (Vec<GreeterFixture>, Vec<HostileFixture>, Arc<TestBff>) {
    let (good, hostile) = (good(3).await, hostile(1, harm).await);
    let all = good.iter().map(GreeterFixture::addr);
    let bff = over(all.chain(hostile.iter().map(HostileFixture::addr))).await;
    (good, hostile, bff)
}

/// The value of the sample that begins with `name`; 0 if there is none.
async fn metric(bff: &TestBff, name: &str) -> f64 {
    let (_, text) = bff.admin("/metrics").await;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().unwrap())
}

async fn ejections(bff: &TestBff) -> f64 {
    metric(bff, "bff_balance_ejections_total").await
}

/// Addresses where nobody listens: of sockets that are bound, and therefore nobody else's.
async fn refusing(n: usize) -> (Vec<tokio::net::TcpSocket>, Vec<SocketAddr>) {
    let mut sockets = Vec::new();
    let mut addrs = Vec::new();
    for _ in 0..n {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        addrs.push(socket.local_addr().unwrap());
        sockets.push(socket);
    }
    (sockets, addrs)
}

async fn hello(bff: &TestBff) -> Value {
    bff.query("{ hello { message } }").await
}

#[tokio::test(flavor = "multi_thread")]
async fn f51_an_address_where_another_service_answers_is_ejected_and_clients_hardly_see_it() {
    for harm in [Harm::OtherService, Harm::GoodPage] {
        let (_good, _hostile, bff) = beside(harm).await;
        let started = Instant::now();
        let (mut asked, mut failed) = (0, 0);
        while ejections(&bff).await == 0.0 {
            let (done, bad) = Load::rate(&bff, 100, 1).await;
            (asked, failed) = (asked + done, failed + bad);
            assert!(started.elapsed() < Duration::from_secs(10), "{harm:?}");
        }
        // From the first second no more than its fair share.
        assert!(failed * 4 <= asked + 20, "{harm:?}: {failed} of {asked}");
        let (asked, failed) = Load::rate(&bff, 100, 8).await;
        println!("F51  {harm:?}: {failed} of {asked} queries failed after the ejection");
        assert!(failed * 100 <= asked, "{harm:?}: {failed} of {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f51_what_all_instances_answer_is_the_answer_and_ejects_none() {
    let hostile = hostile(4, Harm::OtherService).await;
    let bff = over(hostile.iter().map(HostileFixture::addr)).await;
    let (asked, failed) = Load::rate(&bff, 100, 2).await;
    assert_eq!(failed, asked);
    let answer = hello(&bff).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["grpcStatus"], "UNIMPLEMENTED", "{answer}");
    assert_eq!(ejections(&bff).await, 0.0);
    assert_eq!(bff.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn f52_a_start_with_most_entries_dead_answers_from_the_first_query_on() {
    for dead in [3, 9] {
        let good = good(1).await;
        let (_sockets, refusing) = refusing(dead).await;
        let silent = hostile(dead / 3, Harm::Silent).await;
        let addrs = refusing.into_iter();
        let addrs = addrs.chain(silent.iter().map(HostileFixture::addr));
        let bff = over(addrs.chain([good[0].addr()])).await;
        let (asked, failed) = Load::rate(&bff, 100, 3).await;
        println!("F52  {dead} dead entries: {failed} of {asked} queries failed");
        assert_eq!(failed, 0, "of {asked}");
        let state = metric(&bff, "bff_breaker_transitions_total{state=\"open\"").await;
        assert_eq!(state, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f52_a_list_that_jumps_to_dead_entries_loses_no_query() {
    let system = System::start(1).await;
    let bff = Arc::new(system.bff);
    let load = Load::clients(&bff, 4);
    load.wait_for(50).await;
    let (_sockets, refusing) = refusing(8).await;
    for addr in refusing {
        system.consul.register("greeter-srv", addr);
    }
    bff.wait_readyz(|_, text| text.contains("greeter: 9 instance"))
        .await;
    load.wait_for(1000).await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f31_an_instance_that_accepts_and_closes_costs_no_query() {
    for harm in [
        Harm::Closes,
        Harm::ClosesSoon,
        Harm::NoHttp,
        Harm::WebServer,
    ] {
        let (_good, _hostile, bff) = beside(harm).await;
        let (asked, failed) = Load::rate(&bff, 100, 2).await;
        println!("F31  {harm:?} of four: {failed} of {asked} queries failed");
        assert_eq!(failed, 0, "{harm:?}: of {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f31_a_service_whose_instances_all_close_opens_the_breaker_within_a_second() {
    let hostile = hostile(4, Harm::Closes).await;
    let bff = over(hostile.iter().map(HostileFixture::addr)).await;
    Load::rate(&bff, 100, 1).await;
    let answer = hello(&bff).await;
    let code = &answer["errors"][0]["extensions"]["code"];
    assert_eq!(code, "CIRCUIT_OPEN", "{answer}");
    // They greet from now on, and are called again.
    hostile.iter().for_each(|hostile| hostile.set(Harm::None));
    soon(async { while !bff.greets().await {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f43_calls_that_wait_for_a_silent_instance_are_sent_elsewhere_whatever_they_do() {
    let silent = hostile(3, Harm::Silent).await;
    let good = good(1).await;
    let silent = silent.iter().map(HostileFixture::addr);
    let endpoints: Vec<_> = silent
        .chain([good[0].addr()])
        .map(|addr| format!("http://{addr}"))
        .collect();
    let bff = TestBff::builder()
        .set("upstreams.greeter.endpoints", json!(endpoints))
        .set("upstreams.greeter.methods.SayHello.idempotent", false)
        .start()
        .await;
    let bff = Arc::new(bff);
    let (asked, failed) = Load::rate(&bff, 100, 1).await;
    assert_eq!(failed, 0, "of {asked}");
    assert_eq!(good[0].call_count(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn f54_long_trailers_cost_their_own_call_at_most() {
    for harm in [Harm::LongTrailers, Harm::EndlessTrailers] {
        let (_good, _hostile, bff) = beside(harm).await;
        let (asked, failed) = Load::rate(&bff, 50, 4).await;
        println!("F54  {harm:?}: {failed} of {asked} queries failed");
        assert!(failed * 50 <= asked, "{harm:?}: {failed} of {asked}");
        let opened = metric(&bff, "bff_breaker_transitions_total{state=\"open\"").await;
        assert_eq!(opened, 0.0, "{harm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f54_long_trailers_cost_no_call_beside_them_on_the_connection() {
    let hostile = hostile(1, Harm::LongTrailersBeside).await;
    let bff = over([hostile[0].addr()]).await;
    let four =
        "{ a: hello { message } b: hello { message } c: hello { message } d: hello { message } }";
    for _ in 0..16 {
        let answer = bff.query(four).await;
        assert_eq!(answer["errors"], Value::Null, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f55_replies_that_are_compressed_with_gzip_are_served_and_their_size_is_bounded() {
    let hostile = hostile(1, Harm::Gzip).await;
    let bff = over([hostile[0].addr()]).await;
    let answer = hello(&bff).await;
    assert_eq!(answer["data"]["hello"]["message"], "Hello, iveBoy!");
    hostile[0].set(Harm::GzipBomb);
    let answer = hello(&bff).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["grpcStatus"], "RESOURCE_EXHAUSTED", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f56_a_proxy_that_says_503_is_an_upstream_that_is_unavailable() {
    let hostile = hostile(1, Harm::UnavailablePage).await;
    let bff = over([hostile[0].addr()]).await;
    let answer = hello(&bff).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "UPSTREAM_UNAVAILABLE", "{answer}");
    assert_eq!(extensions["grpcStatus"], "UNAVAILABLE", "{answer}");
}

#[tokio::test]
async fn a_service_that_refuses_connections_is_said_to_be_unavailable_at_once() {
    let (_sockets, refusing) = refusing(1).await;
    let bff = over(refusing).await;
    let began = Instant::now();
    let answer = hello(&bff).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "UPSTREAM_UNAVAILABLE", "{answer}");
    assert!(began.elapsed() < Duration::from_secs(1), "{began:?}");
}
