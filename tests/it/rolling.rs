//! All instances of a service replaced, one after another, while it is used.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bff_tests::{
    Load, TestBff,
    fixtures::{consul::ConsulFixture, greeter::GreeterFixture},
    websocket::Client,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::soon;

const MS: Duration = Duration::from_millis(1);
const INSTANCES: usize = 4;
const CONNECTIONS: usize = 50;
const STREAMS: usize = 1000;

/// Why streams have ended.
type Ends = Arc<Mutex<Vec<String>>>;

async fn instance(consul: &ConsulFixture) -> (String, GreeterFixture) {
    let greeter = GreeterFixture::start().await.unwrap();
    greeter.script(|script| {
        script.latency = 5 * MS;
        script.greetings = 1;
        script.holds = true;
    });
    let id = consul.register("greeter-srv", greeter.addr());
    (id, greeter)
}

/// `streams` subscriptions over one connection, each made again whenever it has ended.
async fn subscribe(bff: Arc<TestBff>, streams: usize, ends: Ends) {
    let mut client = Client::connect(bff.addr(), &[]).await;
    let query = json!({ "query": "subscription { greetings(name: \"F44\") { message } }" });
    let request = |id: &str| json!({ "id": id, "type": "subscribe", "payload": query });
    for id in 0..streams {
        client.send(request(&id.to_string())).await;
    }
    let mut reasons = vec![None; streams];
    loop {
        let message = client.wait().await;
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        let reason = &mut reasons[id.parse::<usize>().unwrap()];
        match message["type"].as_str() {
            Some("next") => {
                let code = &message["payload"]["errors"][0]["extensions"]["code"];
                if let Value::String(code) = code {
                    *reason = Some(code.clone());
                }
            }
            Some("complete") => {
                let reason = reason.take().unwrap_or_else(|| "none".to_owned());
                ends.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(reason);
                client.send(request(&id)).await;
            }
            _ => panic!("unexpected: {message}"),
        }
    }
}

/// Waits until all streams are open on `greeters`; returns how many on each.
async fn all_open(greeters: &[(String, GreeterFixture)]) -> Vec<usize> {
    let count = || -> Vec<usize> {
        let open = greeters.iter().map(|(_, greeter)| *greeter.open().borrow());
        open.collect()
    };
    let mut pace = tokio::time::interval(20 * MS);
    soon(async {
        while count().iter().sum::<usize>() < STREAMS {
            pace.tick().await;
        }
    })
    .await;
    count()
}

#[tokio::test(flavor = "multi_thread")]
async fn f44_all_instances_restart_under_streams_and_queries_and_no_query_fails() {
    let consul = ConsulFixture::start().await.unwrap();
    let mut greeters = Vec::new();
    for _ in 0..INSTANCES {
        greeters.push(instance(&consul).await);
    }
    let bff = TestBff::builder()
        .consul(consul.url())
        .set("upstreams.greeter.max_in_flight", STREAMS + 1000)
        // A busy machine is no slow instance.
        .set("upstreams.greeter.timeout", "8s")
        .set("upstreams.greeter.attempt_timeout", "4s")
        .start()
        .await;
    let bff = Arc::new(bff);
    let listed = |n: usize| format!("greeter: {n} instance");
    bff.wait_readyz(|_, text| text.contains(&listed(INSTANCES)))
        .await;
    let ends = Ends::default();
    let mut subscribers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let subscriber = subscribe(Arc::clone(&bff), STREAMS / CONNECTIONS, Arc::clone(&ends));
        subscribers.spawn(subscriber);
    }
    all_open(&greeters).await;
    let load = Load::steady(&bff, 500);
    for _ in 0..INSTANCES {
        greeters.push(instance(&consul).await);
        bff.wait_readyz(|_, text| text.contains(&listed(INSTANCES + 1)))
            .await;
        // A deploy goes on once the new instance has shown that it works.
        let new = &greeters[INSTANCES].1;
        let mut pace = tokio::time::interval(20 * MS);
        soon(async {
            while new.call_count() < 100 {
                pace.tick().await;
            }
        })
        .await;
        let (id, old) = greeters.remove(0);
        consul.deregister(&id);
        bff.wait_readyz(|_, text| text.contains(&listed(INSTANCES)))
            .await;
        old.drain(300 * MS).await;
        all_open(&greeters).await;
    }
    let open = all_open(&greeters).await;
    let queries = load.done();
    let failed = load.failures().await;
    subscribers.abort_all();
    let ends = ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let told = ends.iter().filter(|end| *end == "UPSTREAM_UNAVAILABLE");
    println!(
        "F44  four restarts: {failed} of {queries} queries failed; {} of {} streams that ended were told why; then {open:?}",
        told.clone().count(),
        ends.len()
    );
    assert_eq!(failed, 0);
    assert!(ends.len() >= STREAMS, "{}", ends.len());
    assert_eq!(told.count(), ends.len(), "{ends:?}");
    let even = STREAMS / INSTANCES;
    assert!(
        open.iter().all(|open| open.abs_diff(even) * 10 <= even),
        "{open:?}"
    );
}
