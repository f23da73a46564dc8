//! What tests and benches of other crates need to see of the inside. No part of the public door: it
//! changes whenever the inside does.

pub mod fleet;
mod graph;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE, uri::Authority};
use http_body::Frame;
use http_body_util::StreamBody;
use opentelemetry::metrics::{Meter, MeterProvider};
use prost::Message;
use tonic::{Status, body::Body};
use tower::Service;

pub use self::graph::Graph;
pub use crate::call::{Counts, counts};
use crate::{
    UpstreamError,
    balance::Balance,
    call::{
        BoxFuture, CallOptions, Config, Method, Strategy,
        transport::{Capacity, Connect, Connection, Http2, NotConnected, Place},
    },
    discovery::{Instance, Members, parse_instances},
    rate_limit::{self, Limiter},
    upstream::Connected,
};

/// An upstream with the whole stack before it, without a server around it.
#[derive(Clone)]
pub struct Direct(Reached);

#[derive(Clone)]
enum Reached {
    BySockets(Arc<Connected<Http2>>),
    Instantly(Arc<Connected<InstantReply>>),
}

impl Direct {
    /// The upstream `name` at `addrs`, with the defaults.
    pub fn over(name: &'static str, addrs: &[SocketAddr]) -> Self {
        let config = Config {
            connect_timeout: std::time::Duration::from_millis(500),
            ..Config::default()
        };
        let http2 = Http2::new(&config);
        let addrs = addrs.iter().map(ToString::to_string);
        Self(Reached::BySockets(connected(name, config, http2, addrs)))
    }

    /// Four instances that answer at once with `reply`.
    pub fn instantly(reply: InstantReply) -> Self {
        let addrs = (0..4).map(|n| format!("10.0.0.{n}:50051"));
        let upstream = connected("instantly", Config::default(), reply, addrs);
        Self(Reached::Instantly(upstream))
    }

    /// Calls a unary method.
    ///
    /// # Errors
    /// [`UpstreamError`], as a resolver gets it.
    pub async fn unary<U, Q, R>(
        &self,
        method: &'static Method<U, Q, R>,
        request: &Q,
    ) -> Result<R, UpstreamError>
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let options = CallOptions::default();
        let answer = match &self.0 {
            Reached::BySockets(upstream) => upstream.unary(method, request, options).await,
            Reached::Instantly(upstream) => upstream.unary(method, request, options).await,
        };
        answer.map(|(message, _)| message)
    }
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

fn connected<C: Connect>(
    name: &'static str,
    config: Config,
    connect: C,
    addrs: impl Iterator<Item = String>,
) -> Arc<Connected<C>> {
    let balance = Balance::new(name, &config, connect);
    balance.apply(&Members::Known(
        addrs
            .filter_map(|addr| Some(instance(addr.parse().ok()?, 1)))
            .collect(),
    ));
    Arc::new(Connected::new(name, config, balance, &meter(), &[]))
}

fn instance(address: Authority, weight: u32) -> Instance {
    Instance { address, weight }
}

fn meter() -> Meter {
    opentelemetry::metrics::noop::NoopMeterProvider::new().meter("testing")
}

/// A channel that answers every call at once with the same message.
#[derive(Clone, Debug)]
pub struct InstantReply(Bytes);

impl InstantReply {
    /// Answers with `message`.
    pub fn new(message: &impl Message) -> Self {
        let message = message.encode_to_vec();
        let mut frame = vec![0];
        frame.extend((message.len() as u32).to_be_bytes());
        frame.extend(message);
        Self(frame.into())
    }
}

impl Connect for InstantReply {
    type Channel = Self;

    fn connect(
        &self,
        _: &Authority,
        _: u32,
        _: Place,
    ) -> BoxFuture<Result<Connection<Self>, NotConnected>> {
        let connection = Connection {
            channel: self.clone(),
            ended: Box::pin(std::future::pending()),
        };
        Box::pin(ready(Ok(connection)))
    }
}

impl Capacity for InstantReply {}

impl Service<Request<Body>> for InstantReply {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames: [Result<_, Status>; 2] = [
            Ok(Frame::data(self.0.clone())),
            Ok(Frame::trailers(trailers)),
        ];
        let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        ready(Ok(response))
    }
}

/// A balancer, for the price of a pick and of a new list.
#[derive(Debug)]
pub struct Picks(Balance<InstantReply>);

impl Picks {
    /// One without instances.
    pub fn new(p2c: bool) -> Self {
        let config = Config {
            balancer: match p2c {
                true => Strategy::P2c,
                false => Strategy::Random,
            },
            ..Config::default()
        };
        Self(Balance::new("bench", &config, InstantReply(Bytes::new())))
    }

    /// Parses and applies a list as Consul answers it; returns how long it is. To be called within a
    /// tokio runtime.
    pub fn apply(&self, body: &[u8]) -> usize {
        let list = parse_instances(body).unwrap_or_default();
        let length = list.len();
        self.0.apply(&Members::Known(list.into()));
        length
    }

    /// Waits until every instance of the list is connected.
    pub async fn connected(&self) {
        while self.0.connected() < self.0.instances() {
            tokio::task::yield_now().await;
        }
    }

    /// Picks an instance.
    pub fn pick(&self, now: tokio::time::Instant) {
        black_box(self.0.pick_only(now));
    }
}

/// A limiter, for the price of a field with a rule and of one without.
#[derive(Debug)]
pub struct Limits(Limiter);

/// A client as the limiter sees it.
#[derive(Clone, Copy, Debug)]
pub struct Client(crate::types::ClientKey);

impl Client {
    /// The fingerprint of `identity`.
    pub fn new(identity: &str) -> Self {
        Self(crate::types::ClientKey::of(identity))
    }
}

impl Limits {
    /// The rules of a `[rate_limit]` section.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(section: &str) -> anyhow::Result<Self> {
        let config: rate_limit::Config = toml_edit::de::from_str(section)?;
        Ok(Self(Limiter::new(&config)))
    }

    /// Whether `client` may ask for `Query.field`.
    pub fn allows(&self, field: &str, client: Client) -> bool {
        match self.0.rules("Query", field) {
            None => true,
            Some(rules) => self
                .0
                .take(rules, client.0)
                .now_or_never()
                .is_some_and(|taken| taken.is_ok()),
        }
    }
}
