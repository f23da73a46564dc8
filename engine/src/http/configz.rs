//! `/configz`: the effective configuration, for people on this machine.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
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

/// Addresses, limits and names are for the operator only: a request from another
/// machine, from a page in a browser, or one that a proxy on this machine passed on, is refused.
/// A proxy that leaves no trace of itself has to close this path.
async fn show(
    State(config): State<Arc<dyn ConfigView>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let from_here = peer.ip().to_canonical().is_loopback() && names_this_machine(&headers);
    if !from_here || is_forwarded(&headers) {
        let refusal = "the configuration is shown on this machine only, and not through a proxy\n";
        return (StatusCode::FORBIDDEN, refusal).into_response();
    }
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

/// Whether the client meant this machine, and not a name that was made to point at it.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    let address: Option<IpAddr> = name.parse().ok();
    name == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback())
}

/// Whether a proxy, or a page in a browser, stands between us and the client.
fn is_forwarded(headers: &HeaderMap) -> bool {
    const TRACES: [&str; 6] = [
        "forwarded",
        "x-forwarded-for",
        "x-real-ip",
        "via",
        "origin",
        "sec-fetch-site",
    ];
    TRACES.iter().any(|name| headers.contains_key(*name))
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

    #[test]
    fn a_name_that_somebody_let_point_at_this_machine_is_not_this_machine() {
        for (host, ours) in [
            ("127.0.0.1:8000", true),
            ("localhost", true),
            ("[::1]:8000", true),
            ("rebound.example:8000", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            assert_eq!(names_this_machine(&headers), ours, "{host}");
        }
    }
}
