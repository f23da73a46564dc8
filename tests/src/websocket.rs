//! A client of subscriptions over graphql-transport-ws.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async, tungstenite::client::IntoClientRequest,
};

pub use tokio_tungstenite::tungstenite::Message;

/// A connection.
#[derive(Debug)]
pub struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

#[expect(
    clippy::expect_used,
    reason = "a test whose connection fails has failed"
)]
impl Client {
    /// Connects to the server at `addr`, with headers of its own.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect(addr: SocketAddr, headers: &[&(&'static str, String)]) -> Self {
        Self::connect_as(addr, headers, Value::Null).await
    }

    /// The same with what `connection_init` says.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn connect_as(
        addr: SocketAddr,
        headers: &[&(&'static str, String)],
        payload: Value,
    ) -> Self {
        let mut client = Self::open(addr, headers, payload).await;
        assert_eq!(client.next().await["type"], "connection_ack");
        client
    }

    /// Why the server at `addr` closes a connection whose `connection_init` says `payload`.
    ///
    /// # Panics
    /// When it does not.
    pub async fn refused(addr: SocketAddr, payload: Value) -> String {
        let mut client = Self::open(addr, &[], payload).await;
        client.closed().await.1
    }

    /// The code and the reason that the server closes the connection with; what it says before is skipped.
    ///
    /// # Panics
    /// When it does not within twenty seconds.
    pub async fn closed(&mut self) -> (u16, String) {
        let closed = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => {
                        return (frame.code.into(), frame.reason.to_string());
                    }
                    Some(Ok(Message::Close(None))) => return (1005, String::new()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return (1006, String::new()),
                }
            }
        };
        let closed = timeout(Duration::from_secs(20), closed).await;
        closed.expect("it is closed in time")
    }

    /// All messages until the server closes the connection, and the code that it does so with.
    ///
    /// # Panics
    /// When a message is no JSON.
    pub async fn last_words(&mut self) -> (Vec<Value>, u16) {
        let mut messages = Vec::new();
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    messages.push(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(frame))) => {
                    return (messages, frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (messages, 1006),
            }
        }
    }

    /// Closes the connection; whether the server has confirmed it (RFC 6455, 7.1.5).
    ///
    /// # Panics
    /// When nothing comes of it.
    pub async fn leave(mut self) -> bool {
        self.0.close(None).await.expect("the connection is open");
        let ended = async {
            loop {
                match self.0.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
        };
        let ended = timeout(Duration::from_secs(10), ended).await;
        ended.expect("it ends in time")
    }

    /// Sends a frame as it is.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn send_raw(&mut self, message: Message) {
        self.0.send(message).await.expect("the connection is open");
    }

    async fn open(addr: SocketAddr, headers: &[&(&'static str, String)], payload: Value) -> Self {
        let protocol = Some("graphql-transport-ws");
        let mut client = Self::silent(addr, headers, protocol).await;
        let init = match payload {
            Value::Null => json!({ "type": "connection_init" }),
            payload => json!({ "type": "connection_init", "payload": payload }),
        };
        client.send(init).await;
        client
    }

    /// Connects and says nothing.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn silent(
        addr: SocketAddr,
        headers: &[&(&'static str, String)],
        protocol: Option<&str>,
    ) -> Self {
        let url = format!("ws://{addr}/graphql");
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let value = value.parse().expect("a header");
            request.headers_mut().insert(*name, value);
        }
        if let Some(protocol) = protocol {
            let protocol = protocol.parse().expect("a header");
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", protocol);
        }
        let (socket, _) = connect_async(request).await.expect("a connection");
        Self(socket)
    }

    /// Sends a message.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn send(&mut self, message: Value) {
        let message = Message::text(message.to_string());
        self.0.send(message).await.expect("the connection is open");
    }

    /// The next message.
    ///
    /// # Panics
    /// When there is none within ten seconds.
    pub async fn next(&mut self) -> Value {
        let message = timeout(Duration::from_secs(10), self.wait()).await;
        message.expect("a message in time")
    }

    /// The next message, whenever it comes.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn wait(&mut self) -> Value {
        let message = loop {
            match self.0.next().await.expect("a message") {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                message => break message,
            }
        };
        let message = message.expect("the connection is open");
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    }
}

/// The message that subscribes to `query`.
pub fn subscribe(query: &str) -> Value {
    json!({ "id": "1", "type": "subscribe", "payload": { "query": query } })
}
