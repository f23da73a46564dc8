//! Instances that come, go and misbehave.

use std::{sync::Arc, time::Duration};

use bff_tests::{
    Load,
    chaos::Network,
    fixtures::{consul::Health, greeter::GreeterFixture},
};
use tokio::time::interval;
use tonic::Code;

use crate::support::System;

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_connections_break_loses_no_query() {
    let System {
        consul: _consul,
        greeters,
        bff,
    } = System::start(3).await;
    let bff = Arc::new(bff);
    let load = Load::clients(&bff, 8);
    load.wait_for(200).await;
    greeters[0].network(Network::Cut);
    load.wait_for(500).await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_an_instance_that_fails_at_once_is_left_alone_and_no_client_sees_it() {
    let System {
        consul: _consul,
        greeters,
        bff,
    } = System::start(4).await;
    greeters[0].script(|script| script.fail_with = Some(Code::Unavailable));
    let bff = Arc::new(bff);
    let load = Load::clients(&bff, 4);
    load.wait_for(2000).await;
    assert_eq!(load.failures().await, 0);
    let total: usize = greeters.iter().map(GreeterFixture::call_count).sum();
    let bad = greeters[0].call_count();
    assert!(bad * 100 <= total, "{bad} of {total}");
}

#[tokio::test]
async fn a_new_instance_is_used_within_a_second_of_passing() {
    let system = System::start(1).await;
    assert!(system.bff.greets().await);
    let new = GreeterFixture::start().await.unwrap();
    let id = system.consul.register("greeter-srv", new.addr());
    system.consul.set_health(&id, Health::Critical);
    for _ in 0..20 {
        assert!(system.bff.greets().await);
    }
    assert_eq!(new.call_count(), 0, "its check does not pass yet");
    system.consul.set_health(&id, Health::Passing);
    let used = async {
        while new.call_count() == 0 {
            assert!(system.bff.greets().await);
        }
    };
    tokio::time::timeout(Duration::from_secs(1), used)
        .await
        .expect("used within a second");
}

#[tokio::test]
async fn an_instance_that_turns_critical_gets_no_more_calls() {
    let system = System::start(2).await;
    let id = format!("greeter-srv-{}", system.greeters[0].addr());
    system.consul.set_health(&id, Health::Critical);
    system
        .bff
        .wait_readyz(|_, text| text.contains("1 instance"))
        .await;
    let before = system.greeters[0].call_count();
    for _ in 0..50 {
        assert!(system.bff.greets().await);
    }
    assert_eq!(system.greeters[0].call_count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_list_that_churns_ten_times_a_second_recreates_no_unchanged_connection() {
    let System {
        consul,
        greeters,
        bff,
    } = System::start(3).await;
    let bff = Arc::new(bff);
    let load = Load::clients(&bff, 4);
    load.wait_for(100).await;
    let guest = GreeterFixture::start().await.unwrap();
    let mut pace = interval(Duration::from_millis(50));
    for _ in 0..25 {
        pace.tick().await;
        let id = consul.register("greeter-srv", guest.addr());
        pace.tick().await;
        consul.deregister(&id);
    }
    load.wait_for(100).await;
    assert_eq!(load.failures().await, 0);
    assert!(guest.connections() > 0, "the list did change");
    for greeter in &greeters {
        assert_eq!(greeter.connections(), 1);
    }
}
