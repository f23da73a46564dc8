//! The HTTP surface.

pub(crate) mod admin;
mod client;
mod config;
mod configz;
mod graphql;
pub(crate) mod health;
mod incoming;
mod metrics;
mod outbox;
mod parameters;
mod persisted;
mod playground;
mod serve;
mod trace;
mod trust;
mod websocket;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Router, middleware};
use opentelemetry::metrics::Meter;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

#[cfg(feature = "made-up")]
pub(crate) use self::graphql::session;
pub(crate) use self::graphql::{InFlight, Origins};
use self::health::Readiness;
pub use self::incoming::Incoming;
#[cfg(all(feature = "internals", feature = "testing"))]
pub(crate) use self::serve::serve_one;
pub(crate) use self::{
    config::Config,
    configz::CONFIGZ,
    incoming::RequestData,
    persisted::{Config as DocumentsConfig, Persisted, Published},
    serve::{Counts, Lifecycle, Limits, Tls, serve},
    trust::Proxies,
    websocket::SocketCounts,
};
use crate::{
    call::ForwardedHeader,
    graphql::{Executable, Execution},
    rate_limit::ClientConfig,
    telemetry::{
        metrics::{DURATIONS, Metrics},
        trace::Tracing,
    },
};

/// The effective configuration, as far as pages show it.
pub(crate) trait ConfigView: Send + Sync {
    /// As TOML: where each value came from, and above it what an operator should know. Secrets are
    /// redacted.
    ///
    /// # Errors
    /// Never for an effective configuration; the TOML writer's type asks for it.
    fn toml(&self, now: Instant) -> anyhow::Result<String>;

    /// The lines of `/readyz?verbose`: keys only, for whoever may read that page.
    fn checks(&self, now: Instant) -> String;
}

/// What requests are executed with; swapped as one when the rules change.
pub(crate) struct Served {
    /// Executes operations.
    pub(crate) executable: Executable,
    /// What a client is.
    pub(crate) clients: ClientConfig,
    /// Headers of a client's that some upstream is to have.
    pub(crate) forward: Vec<ForwardedHeader>,
}

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Parts {
    /// What requests are executed with.
    pub(crate) served: Arc<ArcSwap<Served>>,
    /// What operations are executed with, whatever the rules.
    pub(crate) execution: Execution,
    /// What the owner makes of each request.
    pub(crate) data: RequestData,
    /// Routes of the owner's.
    pub(crate) routes: Router,
    /// Deadline of a whole request.
    pub(crate) request_timeout: Duration,
    /// How long a connection may take to begin.
    pub(crate) header_timeout: Duration,
    /// Ends what outlives a request.
    pub(crate) lifecycle: Lifecycle,
    /// Whose word counts about others.
    pub(crate) proxies: Proxies,
    /// Origins whose pages may call.
    pub(crate) origins: Origins,
    /// Documents that requests may name.
    pub(crate) persisted: Persisted,
    /// Places for requests.
    pub(crate) in_flight: InFlight,
    /// Operations of one request.
    pub(crate) max_batch: usize,
    /// Counts operations with many answers.
    pub(crate) sockets: SocketCounts,
    /// What `/` serves, if anything.
    pub(crate) playground: Option<Playground>,
    /// Answers `/readyz`.
    pub(crate) readiness: Readiness,
    /// Measures requests.
    pub(crate) meter: Meter,
    /// Makes the spans of requests.
    pub(crate) tracing: Tracing,
}

/// A playground.
#[derive(Clone)]
pub(crate) struct Playground {
    /// A folder with its files.
    pub(crate) files: Option<PathBuf>,
    /// What it opens with.
    pub(crate) operations: Vec<String>,
}

/// What the routes of the admin listener need.
#[derive(Clone)]
pub(crate) struct AdminParts {
    /// Answers `/configz`.
    pub(crate) config: Arc<dyn ConfigView>,
    /// Answers `/readyz`.
    pub(crate) readiness: Readiness,
    /// Answers `/metrics`.
    pub(crate) metrics: Metrics,
}

/// Every route of the public listener.
pub(crate) fn router(parts: Parts) -> Router {
    let durations = parts
        .meter
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .with_description("How long requests took, by route and status.")
        .with_boundaries(DURATIONS.to_vec())
        .build();
    let observed = trace::Observed {
        tracing: parts.tracing,
        durations: Arc::new(durations),
        proxies: parts.proxies.clone(),
    };
    let mut router = parts
        .routes
        .merge(graphql::routes(graphql::Endpoint {
            served: parts.served,
            execution: parts.execution,
            data: parts.data,
            request_timeout: parts.request_timeout,
            header_timeout: parts.header_timeout,
            lifecycle: parts.lifecycle,
            sockets: parts.sockets,
            proxies: parts.proxies,
            origins: parts.origins,
            in_flight: parts.in_flight,
            persisted: parts.persisted,
            max_batch: parts.max_batch,
        }))
        .merge(health::routes(parts.readiness));
    if let Some(Playground { files, operations }) = parts.playground {
        router = router.merge(playground::routes(files.as_deref(), &operations));
    }
    router
        // A request that panics is answered and seen like any other.
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(observed, trace::observe))
}
