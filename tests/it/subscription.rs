//! Subscriptions over graphql-transport-ws.

use serde_json::json;
use tonic::Code;

use bff_tests::{
    TestBff,
    fixtures::{
        greeter::GreeterFixture,
        hostile::{Harm, HostileFixture},
    },
    websocket::{Client, subscribe},
};

use crate::support::{System, soon};

#[tokio::test]
async fn greetings_arrive_one_by_one_and_then_the_subscription_completes() {
    let system = System::start(1).await;
    let mut client = Client::connect(system.bff.addr(), &[]).await;
    client
        .send(subscribe(
            "subscription { greetings(name: \"Ann\") { message } }",
        ))
        .await;
    for n in 1..=3 {
        let next = client.next().await;
        assert_eq!(next["type"], "next");
        let greeting = &next["payload"]["data"]["greetings"]["message"];
        assert_eq!(greeting, &format!("Hello, Ann! ({n})"));
    }
    assert_eq!(client.next().await["type"], "complete");
}

#[tokio::test]
async fn a_message_that_is_cut_off_is_an_error_and_not_the_end() {
    for (harm, whole) in [(Harm::HalfAMessage, 0), (Harm::MessageAndAHalf, 1)] {
        let hostile = HostileFixture::start(harm).await.unwrap();
        let endpoints = json!([format!("http://{}", hostile.addr())]);
        let bff = TestBff::builder()
            .set("upstreams.greeter.endpoints", endpoints)
            .start()
            .await;
        let mut client = Client::connect(bff.addr(), &[]).await;
        client
            .send(subscribe("subscription { greetings { message } }"))
            .await;
        for _ in 0..whole {
            let next = client.next().await;
            let greeting = &next["payload"]["data"]["greetings"]["message"];
            assert_eq!(greeting, "Hello, iveBoy!", "{harm:?}: {next}");
        }
        let text = client.next().await.to_string();
        assert!(
            text.contains("UPSTREAM_ERROR") && text.contains("INTERNAL"),
            "{harm:?}: {text}"
        );
    }
}

#[tokio::test]
async fn an_upstream_that_fails_is_an_error_with_its_code() {
    let system = System::start(1).await;
    system.greeters[0].script(|script| script.fail_with = Some(Code::PermissionDenied));
    let mut client = Client::connect(system.bff.addr(), &[]).await;
    client
        .send(subscribe("subscription { greetings { message } }"))
        .await;
    let text = client.next().await.to_string();
    assert!(
        text.contains("FORBIDDEN") && text.contains("PERMISSION_DENIED"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_a_connection_takes_stand_beside_queries_that_are_answered() {
    // What servers and proxies allow by default.
    three_hundred_streams_beside_queries(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_few_streams_on_a_connection_gets_as_many_connections_as_it_takes() {
    three_hundred_streams_beside_queries(20).await;
}

/// Of a server that allows so many on a connection.
async fn three_hundred_streams_beside_queries(allowed: u32) {
    let greeter = GreeterFixture::with_streams(Some(allowed)).await.unwrap();
    greeter.script(|script| (script.greetings, script.holds) = (1, true));
    let bff = TestBff::builder()
        .set(
            "upstreams.greeter.endpoints",
            json!([format!("http://{}", greeter.addr())]),
        )
        .start()
        .await;
    bff.wait_ready().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(bff.addr(), &[]).await;
        for n in 0..150 {
            let query = "subscription { greetings { message } }";
            let subscribe =
                json!({ "id": n.to_string(), "type": "subscribe", "payload": { "query": query } });
            client.send(subscribe).await;
        }
        for _ in 0..150 {
            let message = client.next().await;
            assert_eq!(message["type"], "next", "{message}");
        }
        clients.push(client);
    }
    assert_eq!(*greeter.open().borrow(), 300);
    for _ in 0..50 {
        assert!(bff.greets().await);
    }
    // They end with those that wanted them.
    drop(clients);
    soon(greeter.open().wait_for(|open| *open == 0))
        .await
        .unwrap();
    assert!(bff.greets().await);
}
