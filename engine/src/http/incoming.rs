//! What an owner makes of a request before its operation is executed.

use std::{any::Any, net::SocketAddr, sync::Arc};

use async_graphql::Data;
use axum::http::HeaderMap;

/// A request, or the beginning of a connection, as an owner sees it who makes data for resolvers of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Incoming<'r> {
    /// Headers of the request, or of the one that a WebSocket began with.
    pub headers: &'r HeaderMap,
    /// Who sent it: the client, or a proxy in front of us.
    pub peer: SocketAddr,
    /// Whether that is one of `http.trusted_proxies`: what it says of others, in headers such as
    /// `X-Forwarded-For`, is its own word and no client's.
    pub trusted: bool,
    /// Of a WebSocket, the payload of its `connection_init`; `null` if there was none.
    pub connection_init: Option<&'r serde_json::Value>,
}

type Make = dyn Fn(&Incoming<'_>, &mut Data) + Send + Sync;

/// What is made of each request, and of each connection. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct RequestData(Vec<Arc<Make>>);

impl RequestData {
    /// Makes a `D` as well.
    pub(crate) fn add<D: Any + Send + Sync>(
        &mut self,
        make: impl Fn(&Incoming<'_>) -> D + Send + Sync + 'static,
    ) {
        self.0
            .push(Arc::new(move |incoming, data| data.insert(make(incoming))));
    }

    /// Makes all of it of `incoming`.
    pub(super) fn fill(&self, incoming: &Incoming<'_>, data: &mut Data) {
        self.0.iter().for_each(|make| make(incoming, data));
    }
}
