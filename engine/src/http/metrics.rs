//! `/metrics`, in Prometheus' text format.

use axum::{
    Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get,
};
use tracing::error;

use crate::telemetry::metrics::Metrics;

pub(super) fn routes(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics)
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(problem) => {
            error!(%problem, "the metrics cannot be rendered");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be rendered\n",
            )
                .into_response()
        }
    }
}
