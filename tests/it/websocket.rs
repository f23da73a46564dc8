//! graphql-transport-ws: every message in every state, and the ends of connections.

use std::time::Duration;

use bff_tests::{
    Load, TestBff,
    websocket::{Client, Message, subscribe},
};
use serde_json::{Value, json};

use crate::support::{System, soon};

const PROTOCOL: Option<&str> = Some("graphql-transport-ws");

/// A greeter whose streams stay open after their first greeting, and a BFF.
async fn quiet() -> System {
    let system = System::start(1).await;
    system.greeters[0].script(|script| {
        script.greetings = 1;
        script.holds = true;
    });
    system
}

async fn connect(bff: &TestBff) -> Client {
    Client::connect(bff.addr(), &[]).await
}

fn of(id: &str, query: &str) -> Value {
    json!({ "id": id, "type": "subscribe", "payload": { "query": query } })
}

const GREETINGS: &str = "subscription { greetings { message } }";

#[tokio::test]
async fn before_a_connection_is_acknowledged_only_its_beginning_and_pings_are_understood() {
    let system = quiet().await;
    let silent = || Client::silent(system.bff.addr(), &[], PROTOCOL);
    let mut client = silent().await;
    client.send(json!({ "type": "ping" })).await;
    assert_eq!(client.next().await, json!({ "type": "pong" }));
    client
        .send(json!({ "type": "ping", "payload": { "a": 1 } }))
        .await;
    let pong = json!({ "type": "pong", "payload": { "a": 1 } });
    assert_eq!(client.next().await, pong);
    client.send(json!({ "type": "pong" })).await;
    client.send(json!({ "type": "complete", "id": "1" })).await;
    client.send(of("1", GREETINGS)).await;
    assert_eq!(client.closed().await, (4401, "Unauthorized".to_owned()));
    for (said, code) in [
        (Message::text("hello"), 4400),
        (Message::text("{}"), 4400),
        (Message::text(r#"{"type":"start","id":"1"}"#), 4400),
        (
            Message::text(r#"{"type":"subscribe","payload":{"query":"{ a }"}}"#),
            4400,
        ),
        (
            Message::binary(br#"{"type":"connection_init"}"#.to_vec()),
            4400,
        ),
    ] {
        let mut client = silent().await;
        client.send_raw(said.clone()).await;
        assert_eq!(client.closed().await.0, code, "{said}");
    }
}

#[tokio::test]
async fn an_acknowledged_connection_is_not_begun_again_and_understands_no_other_words() {
    let system = quiet().await;
    let mut client = connect(&system.bff).await;
    client.send(json!({ "type": "connection_init" })).await;
    let twice = (4429, "Too many initialisation requests".to_owned());
    assert_eq!(client.closed().await, twice);
    let mut client = connect(&system.bff).await;
    client
        .send_raw(Message::text("x".repeat((1 << 20) + 1)))
        .await;
    assert_eq!(client.closed().await.0, 1009);
    let mut client = connect(&system.bff).await;
    client.send_raw(Message::text("[")).await;
    let (code, reason) = client.closed().await;
    assert_eq!(code, 4400);
    assert!(reason.starts_with("Invalid message: "), "{reason}");
}

#[tokio::test]
async fn a_client_of_another_protocol_is_told_so() {
    let system = quiet().await;
    for protocol in [None, Some("graphql-ws"), Some("mqtt")] {
        // A client that asked for a protocol may end the connection itself where none is chosen.
        let addr = system.bff.addr();
        let connecting = tokio::spawn(async move {
            let mut client = Client::silent(addr, &[], protocol).await;
            client.closed().await.0
        });
        if let Ok(code) = soon(connecting).await {
            assert_eq!(code, 4406, "{protocol:?}");
        }
    }
}

#[tokio::test]
async fn an_id_is_one_operation_at_a_time_and_can_be_used_again() {
    let system = quiet().await;
    let mut client = connect(&system.bff).await;
    client.send(of("1", GREETINGS)).await;
    assert_eq!(client.next().await["type"], "next");
    // What the client ends is not confirmed, and its id is free at once.
    client.send(json!({ "type": "complete", "id": "1" })).await;
    client.send(of("1", "{ hello { message } }")).await;
    let next = client.next().await;
    assert_eq!(
        next["payload"]["data"]["hello"]["message"], "Hello, iveBoy!",
        "{next}"
    );
    assert_eq!(
        client.next().await,
        json!({ "type": "complete", "id": "1" })
    );
    // What has ended by itself too.
    client.send(of("1", GREETINGS)).await;
    assert_eq!(client.next().await["type"], "next");
    client.send(of("1", GREETINGS)).await;
    let exists = (4409, "Subscriber for 1 already exists".to_owned());
    assert_eq!(client.closed().await, exists);
}

#[tokio::test]
async fn an_operation_that_is_not_executed_is_one_error_and_the_connection_goes_on() {
    let system = quiet().await;
    let mut client = connect(&system.bff).await;
    for (query, code) in [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "query A { __typename } query B { __typename }",
            "OPERATION_RESOLUTION_FAILURE",
        ),
    ] {
        client.send(of("1", query)).await;
        let error = client.next().await;
        assert_eq!(
            (&error["type"], &error["id"]),
            (&json!("error"), &json!("1")),
            "{error}"
        );
        assert_eq!(error["payload"][0]["extensions"]["code"], code, "{error}");
    }
    client
        .send(json!({ "id": "1", "type": "subscribe", "payload": { "variables": {} } }))
        .await;
    let error = client.next().await;
    assert_eq!(
        error["payload"][0]["extensions"]["code"], "BAD_USER_INPUT",
        "{error}"
    );
    client.send(of("1", "{ __typename }")).await;
    assert_eq!(
        client.next().await["payload"]["data"]["__typename"],
        "Query"
    );
}

#[tokio::test]
async fn a_client_that_does_not_begin_is_closed_and_one_that_leaves_ends_its_calls() {
    let system = System::with(1, |bff| bff.set("http.header_timeout", "200ms")).await;
    system.greeters[0].script(|script| {
        script.greetings = 1;
        script.holds = true;
    });
    let mut client = Client::silent(system.bff.addr(), &[], PROTOCOL).await;
    assert_eq!(client.closed().await.0, 4408);
    let mut client = connect(&system.bff).await;
    client.send(subscribe(GREETINGS)).await;
    assert_eq!(client.next().await["type"], "next");
    let mut open = system.greeters[0].open();
    assert_eq!(*open.borrow_and_update(), 1);
    drop(client);
    soon(open.wait_for(|open| *open == 0)).await.unwrap();
}

#[tokio::test]
async fn the_end_that_a_client_asks_for_is_confirmed_and_ends_its_calls() {
    let system = quiet().await;
    let mut client = connect(&system.bff).await;
    client.send(subscribe(GREETINGS)).await;
    assert_eq!(client.next().await["type"], "next");
    let mut open = system.greeters[0].open();
    assert!(client.leave().await);
    soon(open.wait_for(|open| *open == 0)).await.unwrap();
    assert!(
        Client::silent(system.bff.addr(), &[], PROTOCOL)
            .await
            .leave()
            .await
    );
}

#[tokio::test]
async fn a_page_of_another_site_opens_no_connection() {
    let system = quiet().await;
    let status = async |headers: &[(&'static str, String)]| {
        let mut request = reqwest::Client::new().get(system.bff.url("/graphql"));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "graphql-transport-ws");
        request.send().await.unwrap().status().as_u16()
    };
    let own = format!("http://{}", system.bff.addr());
    assert_eq!(status(&[("origin", own)]).await, 101);
    assert_eq!(status(&[]).await, 101);
    let evil = "https://evil.example".to_owned();
    assert_eq!(status(&[("origin", evil)]).await, 403);
}

#[tokio::test]
async fn queries_over_a_connection_have_the_deadline_of_requests() {
    let system = System::with(1, |bff| bff.set("http.request_timeout", "300ms")).await;
    system.greeters[0].script(|script| script.latency = Duration::from_secs(20));
    let mut client = connect(&system.bff).await;
    client.send(of("1", "{ hello { message } }")).await;
    let next = client.next().await;
    let error = &next["payload"]["errors"][0];
    assert_eq!(error["extensions"]["code"], "UPSTREAM_TIMEOUT", "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_that_does_not_read_holds_nobody_else_up() {
    let system = System::start(1).await;
    system.greeters[0].script(|script| script.greetings = 50);
    let bff = std::sync::Arc::new(system.bff);
    let mut client = connect(&bff).await;
    let name = "x".repeat(900 << 10);
    let query = "subscription($name: String!) { greetings(name: $name) { message } }";
    for id in 0..8 {
        let payload = json!({ "query": query, "variables": { "name": name } });
        client
            .send(json!({ "id": id.to_string(), "type": "subscribe", "payload": payload }))
            .await;
    }
    let slow = async || {
        let (_, page) = bff.admin("/metrics").await;
        let line = page
            .lines()
            .find(|line| line.starts_with("bff_http_streams_slow_total"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_default()
    };
    let load = Load::clients(&bff, 2);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    // The socket itself takes some of them.
    soon(async {
        while slow().await < 6.0 {
            pace.tick().await;
        }
    })
    .await;
    load.wait_for(200).await;
    assert_eq!(load.failures().await, 0);
    // Once it reads again it learns what has become of them.
    let mut told = 0;
    while told < 6 {
        let message = client.next().await;
        if message["type"] == "error" {
            assert_eq!(
                message["payload"][0]["extensions"]["code"], "OVERLOADED",
                "{message}"
            );
            told += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f27_a_stop_completes_subscriptions_and_says_going_away() {
    let system = quiet().await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = connect(&system.bff).await;
        for id in 0..10 {
            client.send(of(&id.to_string(), GREETINGS)).await;
            assert_eq!(client.next().await["type"], "next");
        }
        clients.push(client);
    }
    let stopping = tokio::spawn(system.bff.stop());
    for mut client in clients {
        let mut completed = Vec::new();
        for _ in 0..10 {
            let message = client.next().await;
            assert_eq!(message["type"], "complete", "{message}");
            completed.push(message["id"].as_str().unwrap_or_default().to_owned());
        }
        completed.sort();
        assert_eq!(
            completed,
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
        );
        assert_eq!(client.closed().await, (1001, "Going away".to_owned()));
    }
    soon(stopping).await.unwrap();
}
