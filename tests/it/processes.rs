//! Real processes and real signals.

use std::time::Duration;

use bff_tests::{
    Load, TestBff,
    fixtures::consul::{ConsulFixture, Health},
};
use nix::sys::signal::Signal;

use crate::support::{greeter_process, processes};

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
