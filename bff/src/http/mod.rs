//! The HTTP surface.

mod client;
mod config;
mod graphql;
pub mod health;
mod metrics;

use std::time::Duration;

use axum::{Router, routing::get};

pub use self::config::Config;
use self::health::Readiness;
use crate::{graphql::Schema, rate_limit::ClientConfig, telemetry::metrics::Metrics};

/// What the routes need.
#[derive(Clone)]
pub struct Parts {
    /// Executes operations.
    pub schema: Schema,
    /// How clients are told apart.
    pub clients: ClientConfig,
    /// Deadline of a whole request.
    pub request_timeout: Duration,
    /// Whether `/` serves the playground.
    pub playground: bool,
    /// Answers `/readyz`.
    pub readiness: Readiness,
    /// Answers `/metrics`.
    pub metrics: Metrics,
}

/// Every route.
pub fn router(parts: Parts) -> Router {
    let mut router = Router::new()
        .merge(graphql::routes(
            parts.schema,
            parts.request_timeout,
            parts.clients,
        ))
        .merge(health::routes(parts.readiness))
        .merge(metrics::routes(parts.metrics));
    if parts.playground {
        router = router.route("/", get(graphql::playground));
    }
    router
}
