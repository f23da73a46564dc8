//! Real processes and real signals.

use std::time::Duration;

use bff_tests::{
    Load, TestBff,
    fixtures::{
        consul::{ConsulFixture, Health},
        greeter::GreeterFixture,
    },
};
use nix::sys::signal::Signal;
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{dev, greeter_process, processes, soon};

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_three_instances_in_mid_flight_loses_no_query() {
    let (consul, greeters, bff) = processes(3, &["--latency", "5ms"]).await;
    let load = Load::clients(&bff, 8);
    load.wait_for(200).await;
    greeters[0].signal(Signal::SIGKILL).unwrap();
    consul
        .wait_for("greeter-srv", |list| {
            list.iter().any(|one| one.health == Health::Critical)
        })
        .await;
    load.wait_for(200).await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_one_of_three_instances_loses_no_query_and_it_leaves_consul_and_exits_with_0() {
    let (consul, mut greeters, bff) = processes(3, &["--latency", "5ms"]).await;
    let load = Load::clients(&bff, 8);
    load.wait_for(200).await;
    greeters[0].signal(Signal::SIGTERM).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(20), greeters[0].wait()).await;
    assert!(status.expect("an end").unwrap().success());
    assert_eq!(consul.listed("greeter-srv").len(), 2);
    load.wait_for(200).await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeter_that_stops_serves_those_who_do_not_know_it_yet_until_a_second_signal() {
    let consul = ConsulFixture::start().await.unwrap();
    let args = ["--drain-delay=5m", "--drain-timeout=5m"];
    let mut greeter = greeter_process(&consul, &args).await;
    let endpoint = format!("http://{}", greeter.addr());
    let connect = async || GreeterClient::connect(endpoint.clone()).await.unwrap();
    let mut before = connect().await;
    let listed = consul.wait_for("greeter-srv", |list| list.len() == 1);
    soon(listed).await;
    greeter.signal(Signal::SIGTERM).unwrap();
    soon(consul.wait_for("greeter-srv", |list| list.is_empty())).await;
    let mut after = connect().await;
    for client in [&mut before, &mut after] {
        client.say_hello(HelloRequest::default()).await.unwrap();
    }
    let channel = tonic::transport::Endpoint::from_shared(endpoint.clone()).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let status = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(status.into_inner().status(), ServingStatus::NotServing);
    greeter.signal(Signal::SIGTERM).unwrap();
    assert!(soon(greeter.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_greeter_told_to_fail_fails_as_told() {
    let consul = ConsulFixture::start().await.unwrap();
    let args = ["--error-ratio", "1", "--error-code", "NOT_FOUND"];
    let _greeter = greeter_process(&consul, &args).await;
    let bff = TestBff::builder().consul(consul.url()).start().await;
    bff.wait_ready().await;
    let answer = bff.query("{ hello { message } }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["grpcStatus"], "NOT_FOUND",
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_loses_lines_and_holds_nothing_up() {
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt, BufReader};

    let greeter = GreeterFixture::start().await.unwrap();
    let endpoints = format!(
        "upstreams.greeter.endpoints=[\"http://{}\"]",
        greeter.addr()
    );
    let mut child = tokio::process::Command::new(dev())
        .args([
            "bff",
            "run",
            "--listen=127.0.0.1:0",
            "--admin=127.0.0.1:0",
            "--set",
            &endpoints,
        ])
        .args([
            "--set",
            "consul.register=false",
            "--set",
            "log.filter=trace",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    soon(stdout.read_line(&mut line)).await.unwrap();
    let addr = line.trim().strip_prefix("listening on ").unwrap();
    let bff = TestBff::at(addr.parse().unwrap());
    line.clear();
    soon(stdout.read_line(&mut line)).await.unwrap();
    let metrics = format!(
        "http://{}/metrics",
        line.trim().strip_prefix("admin on ").unwrap()
    );
    // Standard error is a pipe that takes 64 KiB, and each call has dozens of lines.
    let lost = async {
        loop {
            for _ in 0..20 {
                assert!(bff.greets().await);
            }
            let page = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
            let line = page
                .lines()
                .find(|line| line.starts_with("bff_log_lost_total"));
            let lost = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
            if lost.is_some_and(|lost: f64| lost > 0.0) {
                return;
            }
        }
    };
    soon(lost).await;
    assert_eq!(bff.get("/livez").await.0, 200);
}
