//! What an owner tests a schema with: the whole program but its listener, in the test's process, over
//! services that are made up from the upstreams' descriptors. The feature `testing` brings it.
//!
//! ```no_run
//! use bff_engine::{Bff, testing::TestBff};
//! # fn shop() -> Bff { unimplemented!() }
//!
//! # #[tokio::main]
//! # async fn main() -> anyhow::Result<()> {
//! let shop = TestBff::start(shop()).await?;
//! shop.made_up("catalog").on("GetProduct").fail(bff_engine::Code::Unavailable, "down");
//! let answer = shop.query("{ product(id: \"1\") { name } hello { message } }").await;
//! assert!(answer["data"]["product"].is_null());
//! assert_eq!(answer["errors"][0]["extensions"]["code"], "UPSTREAM_UNAVAILABLE");
//! # Ok(())
//! # }
//! ```

use std::{net::SocketAddr, path::Path};

use anyhow::Context;
use async_graphql::Request;
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{self, HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE},
};
use futures_util::{StreamExt, stream::BoxStream};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub use crate::made_up::{MadeUp, Received, Scripted};
use crate::{
    app::{Assembled, Bff},
    config::Sources,
    discovery::consul::Consul,
};

/// Who the client of a test is.
const CLIENT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000);

/// A program in a test's process, whose upstreams are made up. No port of its own, no Consul, no Nacos.
pub struct TestBff {
    assembled: Assembled,
    services: Vec<MadeUp>,
    headers: HeaderMap,
}

impl TestBff {
    /// `bff` with its defaults.
    ///
    /// # Errors
    /// When an upstream's client is not generated.
    pub async fn start(bff: Bff) -> anyhow::Result<Self> {
        Self::with(bff, None, &[]).await
    }

    /// `bff` with a configuration file and with single keys, such as `("http.request_timeout", "1s")`.
    /// Where its upstreams are, and what it registers, is not taken from them.
    ///
    /// # Errors
    /// When an upstream's client is not generated, or the configuration is not good.
    pub async fn with(
        bff: Bff,
        file: Option<&Path>,
        keys: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        let where_it_is = |key: &str| {
            let mut parts = key.split('.');
            parts.next() == Some("upstreams")
                && parts
                    .nth(1)
                    .is_some_and(|key| ["service", "endpoints"].contains(&key))
        };
        let mut flags: Vec<_> = keys
            .iter()
            .filter(|(key, _)| !where_it_is(key))
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        // Nothing of a test reaches anybody outside of it, whatever its file says.
        for (key, value) in [("consul.register", "false"), ("telemetry.exporter", "none")] {
            flags.push((key.to_owned(), value.to_owned()));
        }
        for upstream in bff.upstreams() {
            let service = MadeUp::of(upstream.name, upstream.descriptors).await?;
            flags.push((
                format!("upstreams.{}.endpoints", upstream.name),
                json!([format!("http://{}", service.addr())]).to_string(),
            ));
            services.push(service);
        }
        let sources = Sources {
            file: file.map(Into::into),
            flags,
            ..Sources::default()
        };
        let server = bff.build_alone(&sources)?;
        let consul = Consul::new(&server.live().now().config.consul)?;
        Ok(Self {
            assembled: server.assemble(&consul)?,
            services,
            headers: HeaderMap::new(),
        })
    }

    /// The same, sending a header with each request from now on.
    ///
    /// # Panics
    /// When it is no header.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a test that sends no header tests something else"
    )]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header's name");
        self.headers.insert(
            name,
            HeaderValue::try_from(value).expect("a header's value"),
        );
        self
    }

    /// The service that stands for an upstream.
    ///
    /// # Panics
    /// When there is no such upstream.
    pub fn made_up(&self, upstream: &str) -> &MadeUp {
        let found = self
            .services
            .iter()
            .find(|service| service.name() == upstream);
        found.unwrap_or_else(|| {
            let known: Vec<_> = self.services.iter().map(MadeUp::name).collect();
            panic!("there is no upstream {upstream}, only {}", known.join(", "))
        })
    }

    /// The answer to a query or a mutation: `data` and `errors`.
    ///
    /// # Panics
    /// When the answer is no JSON.
    pub async fn query(&self, query: &str) -> Value {
        self.request(&json!({ "query": query })).await
    }

    /// The answer to a whole request: `query`, `variables`, `operationName`.
    ///
    /// # Panics
    /// When the answer is no JSON.
    #[expect(clippy::expect_used, reason = "a test without an answer has failed")]
    pub async fn request(&self, request: &Value) -> Value {
        let answer = self.post(request).await.expect("an answer");
        serde_json::from_slice(&answer).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&answer));
        })
    }

    async fn post(&self, request: &Value) -> anyhow::Result<bytes::Bytes> {
        let mut posted = http::Request::post("/graphql").body(Body::from(request.to_string()))?;
        *posted.headers_mut() = self.headers.clone();
        let json = HeaderValue::from_static("application/json");
        posted.headers_mut().insert(CONTENT_TYPE, json);
        posted.extensions_mut().insert(ConnectInfo(CLIENT));
        let router: Router = self.assembled.router.clone();
        let answer = router.oneshot(posted).await?;
        let body = answer.into_body().collect().await;
        Ok(body.context("the answer was cut off")?.to_bytes())
    }

    /// The answers to a subscription, as over a WebSocket; dropping the stream ends it.
    ///
    /// # Panics
    /// When an answer is no JSON.
    pub fn subscribe(&self, query: &str) -> BoxStream<'static, Value> {
        let answers = self
            .assembled
            .subscribe(Request::new(query), &self.headers, CLIENT);
        answers
            .map(|answer| serde_json::from_str(answer.as_str()).unwrap_or_default())
            .boxed()
    }
}

#[cfg(feature = "internals")]
impl TestBff {
    /// What a client is answered that says these bytes on a connection and then waits, until it is closed.
    pub async fn answers(&self, said: &[u8]) -> Vec<u8> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (client, server) = tokio::io::duplex(64 << 10);
        let limits = crate::http::Config::default().limits();
        let router = self.assembled.router.clone();
        let lifecycle = self.assembled.lifecycle.clone();
        let serving = tokio::spawn(async move {
            crate::http::serve_one(server, CLIENT, router, limits, &lifecycle).await;
        });
        let (mut from, mut to) = tokio::io::split(client);
        let mut answer = Vec::new();
        let saying = async {
            // Nobody may listen any more.
            let _ = to.write_all(said).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = from.read_to_end(&mut answer) => {}
            () = saying => {}
        }
        if let Err(failed) = serving.await
            && failed.is_panic()
        {
            std::panic::resume_unwind(failed.into_panic());
        }
        answer
    }
}

impl std::fmt::Debug for TestBff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestBff")
            .field("services", &self.services)
            .finish()
    }
}
