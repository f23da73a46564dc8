//! The BFF and Consul, whatever Consul does.

use std::time::Duration;

use bff_tests::{
    TestBff,
    chaos::Network,
    fixtures::{
        consul::{ConsulFixture, Fault, Health},
        greeter::GreeterFixture,
    },
};

use tokio::time::Instant;

use crate::support::System;

#[tokio::test]
async fn f16_a_service_that_is_empty_at_boot_is_an_error_at_once_and_not_ready() {
    let system = System::start(0).await;
    system
        .bff
        .wait_readyz(|_, text| text.contains("no instance\n"))
        .await;
    let start = Instant::now();
    let answer = system.bff.query("{ hello { message } }").await;
    assert!(start.elapsed() < Duration::from_secs(1));
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "UPSTREAM_UNAVAILABLE", "{answer}");
    assert_eq!(extensions["attempts"], 0, "{answer}");
    assert_eq!(system.bff.get("/readyz").await.0, 503);
    assert_eq!(system.bff.get("/livez").await.0, 200);

    let greeter = GreeterFixture::start().await.unwrap();
    system.consul.register("greeter-srv", greeter.addr());
    tokio::time::timeout(Duration::from_secs(1), system.bff.wait_ready())
        .await
        .expect("serving within a second of the registration");
    assert!(system.bff.greets().await);
}

#[tokio::test]
async fn without_a_consul_at_start_it_lives_says_so_and_recovers_by_itself() {
    let greeter = GreeterFixture::start().await.unwrap();
    let consul = ConsulFixture::start().await.unwrap();
    consul.register("greeter-srv", greeter.addr());
    consul.network(Network::Cut);
    let bff = TestBff::builder().consul(consul.url()).start().await;
    assert_eq!(bff.get("/livez").await.0, 200);
    bff.wait_readyz(|status, text| status == 503 && text.contains("stale for"))
        .await;
    let answer = bff.query("{ hello { message } }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UPSTREAM_UNAVAILABLE",
        "{answer}"
    );

    consul.network(Network::Up);
    bff.wait_ready().await;
    assert!(bff.greets().await);
}

#[tokio::test]
async fn f17_a_list_that_is_suddenly_empty_is_held_for_a_bounded_time_without_errors() {
    let system = System::with(2, |bff| bff.set("consul.empty_hold", "5s")).await;
    let ids: Vec<_> = system
        .greeters
        .iter()
        .map(|greeter| format!("greeter-srv-{}", greeter.addr()))
        .collect();
    for id in &ids {
        system.consul.set_health(id, Health::Critical);
    }
    system
        .bff
        .wait_readyz(|_, text| text.contains("held"))
        .await;
    assert!(system.bff.greets().await);
    assert_eq!(system.bff.get("/readyz").await.0, 200);
    let (_, metrics) = system.bff.admin("/metrics").await;
    assert!(
        metrics.contains("bff_discovery_held{upstream=\"greeter\"} 1"),
        "{metrics}"
    );

    system
        .bff
        .wait_readyz(|status, text| status == 503 && text.contains("no instance"))
        .await;
    let answer = system.bff.query("{ hello { message } }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UPSTREAM_UNAVAILABLE",
        "{answer}"
    );
}

#[tokio::test]
async fn f18_a_consul_that_goes_away_loses_no_query_and_is_told_of() {
    let system = System::start(2).await;
    system.consul.network(Network::Cut);
    system
        .bff
        .wait_readyz(|_, text| text.contains("stale for"))
        .await;
    for _ in 0..100 {
        assert!(system.bff.greets().await);
    }
    let (status, text) = system.bff.admin("/readyz?verbose").await;
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("[+] upstream greeter: 2 instances, last good list, stale"),
        "{text}"
    );

    // It comes back with an older index and another list.
    let new = GreeterFixture::start().await.unwrap();
    system.consul.register("greeter-srv", new.addr());
    system.consul.reset_index(1);
    system.consul.network(Network::Up);
    system
        .bff
        .wait_readyz(|_, text| text.contains("greeter: 3 instances\n"))
        .await;
    assert!(system.bff.greets().await);
}

#[tokio::test]
async fn f19_whatever_consul_answers_the_last_good_list_stays_in_use() {
    let faults = [
        Fault::Status(500),
        Fault::Status(429),
        Fault::Html,
        Fault::Null,
        Fault::GarbageHeader,
    ];
    for fault in faults {
        let system = System::start(1).await;
        let before = system.consul.polls();
        system.consul.answer_with(Some(fault));
        system
            .bff
            .wait_readyz(|_, text| text.contains("stale for"))
            .await;
        // One retry after a blip, so that what follows is the outage's pace.
        system.consul.wait_for_polls(1).await;
        for _ in 0..50 {
            assert!(system.bff.greets().await, "{fault:?}");
        }
        let polls = system.consul.polls() - before;
        assert!(polls <= 4, "{polls} polls with {fault:?}");
        assert_eq!(system.bff.get("/livez").await.0, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn f19_a_consul_that_hangs_is_given_up_and_the_last_good_list_stays_in_use() {
    let system = System::with(1, |bff| bff.set("consul.wait", "1s")).await;
    system.consul.network(Network::Frozen);
    system
        .bff
        .wait_readyz(|_, text| text.contains("no answer within"))
        .await;
    assert!(system.bff.greets().await);
}
