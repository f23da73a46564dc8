//! `/configz`: the configuration in force, for whoever is on this machine.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::Instant;
use tracing::error;

use crate::config::Live;

/// Where the configuration in force can be read.
pub const CONFIGZ: &str = "/configz";

pub(super) fn routes(live: Live) -> Router {
    Router::new().route(CONFIGZ, get(show)).with_state(live)
}

/// Addresses, limits and names are nobody's business but the operator's: a request from another
/// machine, or one that a proxy on this machine passed on, is refused.
async fn show(
    State(live): State<Live>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() || is_forwarded(&headers) {
        let told = "the configuration is shown on this machine only, and not through a proxy\n";
        return (StatusCode::FORBIDDEN, told).into_response();
    }
    match live.now().to_toml(Instant::now()) {
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

/// Whether a proxy, or a page in a browser, stands between us and whoever asks.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip", "via", "origin"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_passed_on_is_told_by_its_headers() {
        let mut headers = HeaderMap::new();
        assert!(!is_forwarded(&headers));
        headers.insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
        assert!(is_forwarded(&headers));
    }
}
