//! `/graphql` over WebSocket: graphql-transport-ws.

mod connection;
mod message;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_graphql::Data;
use axum::{
    extract::ws::{WebSocket, WebSocketUpgrade},
    http::HeaderMap,
    response::Response,
};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter, UpDownCounter},
};
use serde_json::Value;

pub(super) use self::message::Close;
use self::message::PROTOCOL;
use super::{
    InFlight, Incoming, Lifecycle, RequestData, Served, graphql::session, persisted::Persisted,
};
use crate::{
    graphql::Execution,
    telemetry::trace::Span,
    types::{ClientKey, Lasting, LastingPlace},
};

/// Bytes of a message.
const MAX_MESSAGE: usize = 1 << 20;

/// What is counted of operations with many answers.
#[derive(Clone, Debug)]
pub(crate) struct SocketCounts {
    open: UpDownCounter<i64>,
    slow: Counter<u64>,
    refused: Counter<u64>,
    places: Lasting<ClientKey>,
    max: usize,
}

impl SocketCounts {
    /// At most `max` may be open.
    pub(crate) fn new(max: usize, meter: &Meter) -> Self {
        Self {
            places: Lasting::default(),
            max,
            refused: meter
                .u64_counter("bff.http.streams.refused")
                .with_description("Operations that were refused because of http.max_streams.")
                .build(),
            open: meter
                .i64_up_down_counter("bff.http.streams")
                .with_description("Operations that run over WebSockets and as server-sent events.")
                .build(),
            slow: meter
                .u64_counter("bff.http.streams.slow")
                .with_description(
                    "Operations that ended because their client did not read what came.",
                )
                .build(),
        }
    }
}

/// An operation that is counted for as long as it runs.
pub(super) struct Open {
    open: UpDownCounter<i64>,
    _place: LastingPlace<ClientKey>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.add(-1, &[]);
    }
}

impl SocketCounts {
    /// One more of `client`'s runs, if there is a place for it.
    pub(super) fn open(&self, client: Option<ClientKey>) -> Option<Open> {
        let Some(place) = self.places.take(self.max, client) else {
            self.refused.add(1, &[]);
            return None;
        };
        self.open.add(1, &[]);
        Some(Open {
            open: self.open.clone(),
            _place: place,
        })
    }

    /// One has ended because its client did not read.
    pub(super) fn slow(&self) {
        self.slow.add(1, &[]);
    }
}

/// A connection before it has begun.
pub(super) struct Connection {
    pub(super) served: Arc<ArcSwap<Served>>,
    pub(super) execution: Execution,
    pub(super) data: RequestData,
    pub(super) lifecycle: Lifecycle,
    pub(super) counts: SocketCounts,
    pub(super) in_flight: InFlight,
    pub(super) persisted: Persisted,
    /// How long the client may take to say `connection_init`.
    pub(super) init_timeout: Duration,
    /// Deadline of what is no subscription.
    pub(super) request_timeout: Duration,
    /// Headers of the request that it began with.
    pub(super) headers: HeaderMap,
    pub(super) peer: SocketAddr,
    /// Whether that is a proxy of ours.
    pub(super) trusted: bool,
    /// The span of that.
    pub(super) span: Span,
}

impl Connection {
    /// Answers the request that asks for a WebSocket, and serves it.
    pub(super) fn upgrade(self, upgrade: WebSocketUpgrade) -> Response {
        // An upgraded connection is the server's no more: this one holds up its end.
        let open = self.lifecycle.hold();
        upgrade
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .protocols([PROTOCOL])
            .on_upgrade(async move |socket: WebSocket| {
                connection::serve(socket, self).await;
                drop(open);
            })
    }

    /// What resolvers have of it.
    ///
    /// # Errors
    /// The end of the connection.
    fn begin(&self, payload: &Value) -> Result<Arc<Data>, Close> {
        let incoming = Incoming {
            headers: &self.headers,
            peer: self.peer,
            trusted: self.trusted,
            connection_init: Some(payload),
        };
        let data = session(&self.served.load(), &self.data, &incoming);
        data.map(Arc::new).map_err(Close::forbidden)
    }

    /// The span of one operation: in a trace of its own, because a connection may last for days, unless
    /// the client named one.
    fn operation(&self) -> Span {
        self.span.follower("WebSocket /graphql", || {
            vec![KeyValue::new("http.route", "/graphql")]
        })
    }
}
