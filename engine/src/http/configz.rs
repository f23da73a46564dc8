//! `/configz`: the effective configuration, for operators.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::Instant;
use tracing::error;

use super::ConfigView;

/// Where the effective configuration can be read.
pub(crate) const CONFIGZ: &str = "/configz";

pub(super) fn routes(config: Arc<dyn ConfigView>) -> Router {
    Router::new().route(CONFIGZ, get(show)).with_state(config)
}

async fn show(State(config): State<Arc<dyn ConfigView>>) -> Response {
    match config.toml(Instant::now()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/toml")], text).into_response(),
        Err(problem) => {
            error!(%problem, "the configuration cannot be printed");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the configuration cannot be printed\n",
            )
                .into_response()
        }
    }
}
