//! What is found in Consul about the programs themselves.

use std::time::Duration;

use bff_tests::{
    TestBff,
    chaos::Network,
    fixtures::consul::{ConsulFixture, Health, Listed},
    process::Program,
};
use nix::sys::signal::Signal;

use crate::support::{System, dev, greeter_process};

fn one_passing(list: &[Listed]) -> bool {
    matches!(list, [one] if one.health == Health::Passing)
}

#[tokio::test]
async fn the_bff_registers_itself_passes_its_check_and_deregisters_at_the_end() {
    let system = System::with(1, |bff| {
        bff.set("consul.register", true)
            .set("consul.check_interval", "200ms")
    })
    .await;
    system.consul.wait_for("bff", one_passing).await;
    assert_eq!(
        system.consul.listed("bff")[0].address,
        system.bff.addr().to_string()
    );
    system.bff.stop().await;
    assert_eq!(system.consul.listed("bff"), []);
}

#[tokio::test]
async fn f21_an_agent_that_loses_its_data_gets_everybody_back_within_two_heartbeats() {
    let consul = ConsulFixture::start().await.unwrap();
    let _greeter = greeter_process(&consul, &["--heartbeat", "500ms"]).await;
    let bff = TestBff::builder()
        .consul(consul.url())
        .set("consul.register", true)
        .set("consul.heartbeat", "500ms")
        .set("consul.check_interval", "200ms")
        .start()
        .await;
    consul.wait_for("bff", one_passing).await;
    consul.wait_for("greeter-srv", one_passing).await;
    consul.lose_data();
    let back = async {
        consul.wait_for("bff", |list| list.len() == 1).await;
        consul.wait_for("greeter-srv", |list| list.len() == 1).await;
    };
    tokio::time::timeout(Duration::from_secs(1), back)
        .await
        .expect("within two heartbeats");
    bff.wait_ready().await;
}

#[tokio::test]
async fn f21_a_bff_that_is_killed_is_gone_from_consul_after_its_critical_time() {
    let consul = ConsulFixture::start().await.unwrap();
    let url = consul.url();
    let args = [
        "bff",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--consul",
        &url,
        "--set",
        "consul.check_interval=100ms",
        "--set",
        "consul.deregister_critical_after=500ms",
    ];
    let _greeter = greeter_process(&consul, &[]).await;
    let bff = Program::start(dev(), args).await.unwrap();
    consul.wait_for("bff", one_passing).await;
    bff.signal(Signal::SIGKILL).unwrap();
    consul
        .wait_for("bff", |list| {
            list.iter().any(|bff| bff.health == Health::Critical)
        })
        .await;
    consul.wait_for("bff", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_consul_that_is_away_at_start_gets_the_registration_when_it_comes() {
    let consul = ConsulFixture::start().await.unwrap();
    consul.network(Network::Cut);
    let _bff = TestBff::builder()
        .consul(consul.url())
        .set("consul.register", true)
        .set("consul.heartbeat", "200ms")
        .start()
        .await;
    let _greeter = greeter_process(&consul, &["--heartbeat", "200ms"]).await;
    consul.network(Network::Up);
    consul.wait_for("bff", |list| list.len() == 1).await;
    consul.wait_for("greeter-srv", one_passing).await;
}

#[tokio::test]
async fn a_consul_that_hangs_does_not_hold_up_the_end() {
    let system = System::with(1, |bff| bff.set("consul.register", true)).await;
    system.consul.wait_for("bff", |list| list.len() == 1).await;
    system.consul.network(Network::Frozen);
    tokio::time::timeout(Duration::from_secs(10), system.bff.stop())
        .await
        .expect("an end");
}
