//! The HTTP surface.

mod client;
mod config;
mod configz;
mod graphql;
pub mod health;
mod metrics;
mod trace;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{Router, middleware, routing::get};
use tower_http::catch_panic::CatchPanicLayer;

use self::health::Readiness;
pub use self::{config::Config, configz::CONFIGZ};
use crate::{
    config::Live,
    graphql::{Execution, Schema},
    rate_limit::ClientConfig,
    telemetry::{
        metrics::{DURATIONS, Metrics},
        trace::Tracing,
    },
};

/// What a request is executed by; swapped as one when the configuration changes.
pub struct Served {
    /// Executes operations.
    pub schema: Schema,
    /// How clients are told apart.
    pub clients: ClientConfig,
    /// What operations are executed with.
    pub execution: Execution,
}

/// What the routes need.
#[derive(Clone)]
pub struct Parts {
    /// Executes operations.
    pub served: Arc<ArcSwap<Served>>,
    /// Answers `/configz`.
    pub live: Live,
    /// Deadline of a whole request.
    pub request_timeout: Duration,
    /// Whether `/` serves the playground.
    pub playground: bool,
    /// Answers `/readyz`.
    pub readiness: Readiness,
    /// Answers `/metrics`.
    pub metrics: Metrics,
    /// Makes the spans of requests.
    pub tracing: Tracing,
}

/// Every route.
pub fn router(parts: Parts) -> Router {
    let durations = parts
        .metrics
        .meter()
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .with_description("How long requests took, by route and status.")
        .with_boundaries(DURATIONS.to_vec())
        .build();
    let observed = trace::Observed {
        tracing: parts.tracing,
        durations: Arc::new(durations),
    };
    let mut router = Router::new()
        .merge(graphql::routes(parts.served, parts.request_timeout))
        .merge(configz::routes(parts.live))
        .merge(health::routes(parts.readiness))
        .merge(metrics::routes(parts.metrics));
    if parts.playground {
        router = router.route("/", get(graphql::playground));
    }
    router
        // A request that panics is answered and seen like any other.
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(observed, trace::observe))
}
