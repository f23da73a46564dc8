//! Subscriptions over graphql-transport-ws.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use tonic::Code;

use bff_tests::{
    TestBff,
    fixtures::hostile::{Harm, HostileFixture},
};

use crate::support::System;

pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn connect(system: &System) -> Self {
        Self::connect_to(system.bff.addr(), &[]).await
    }

    pub(crate) async fn connect_to(addr: SocketAddr, headers: &[&(&'static str, String)]) -> Self {
        let url = format!("ws://{addr}/graphql");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let protocol = "graphql-transport-ws".parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (socket, answer) = connect_async(request).await.unwrap();
        assert_eq!(
            answer.headers()["sec-websocket-protocol"],
            "graphql-transport-ws"
        );
        let mut client = Self(socket);
        client.send(json!({ "type": "connection_init" })).await;
        assert_eq!(client.next().await["type"], "connection_ack");
        client
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    pub(crate) async fn next(&mut self) -> Value {
        let message = timeout(Duration::from_secs(10), self.0.next())
            .await
            .expect("a message");
        serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
    }
}

pub(crate) fn subscribe(query: &str) -> Value {
    json!({ "id": "1", "type": "subscribe", "payload": { "query": query } })
}

#[tokio::test]
async fn greetings_arrive_one_by_one_and_then_the_subscription_completes() {
    let system = System::start(1).await;
    let mut client = Client::connect(&system).await;
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
        let mut client = Client::connect_to(bff.addr(), &[]).await;
        client
            .send(subscribe("subscription { greetings { message } }"))
            .await;
        for _ in 0..whole {
            let next = client.next().await;
            let greeting = &next["payload"]["data"]["greetings"]["message"];
            assert_eq!(greeting, "Hello", "{harm:?}: {next}");
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
    let mut client = Client::connect(&system).await;
    client
        .send(subscribe("subscription { greetings { message } }"))
        .await;
    let text = client.next().await.to_string();
    assert!(
        text.contains("UPSTREAM_ERROR") && text.contains("PERMISSION_DENIED"),
        "{text}"
    );
}
