//! Whether a browser sends a request because of another site's page.
//!
//! A page may have a browser send GETs anywhere, and open WebSockets, with its user's cookies and from
//! within its user's network. It cannot read the answer of the one, but time it; the other it can read.
//! What it cannot do is send a header of its own, or lie about where it comes from.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN, RETRY_AFTER},
    request::Parts,
};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::super::config::CorsConfig;

/// Why a GET was refused.
pub(super) const FORGED: &str = "A page of another site may have sent this GET: send the header \
    Apollo-Require-Preflight or X-Requested-With along, or use POST.";
/// Why a WebSocket was refused.
pub(super) const FOREIGN: &str =
    "Pages of this origin may not open WebSockets here: add it to http.cors.origins.";

/// Headers that a page can send to another site only if that has agreed to it before.
const PREFLIGHT: [&str; 3] = [
    "apollo-require-preflight",
    "x-apollo-operation-name",
    "x-requested-with",
];

/// Origins whose pages may do all that our own may. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(Arc<[HeaderValue]>);

impl Origins {
    pub(crate) fn new(config: Option<&CorsConfig>) -> Self {
        let origins = config.into_iter().flat_map(|config| &config.origins);
        Self(origins.map(|origin| origin.header().clone()).collect())
    }

    /// Lets browsers send what such pages ask for, and show them the answers.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        Some(
            CorsLayer::new()
                .allow_origin(AllowOrigin::list(self.0.iter().cloned()))
                .allow_methods([Method::GET, Method::POST])
                .allow_headers(AllowHeaders::mirror_request())
                .allow_credentials(true)
                .expose_headers([
                    RETRY_AFTER,
                    HeaderName::from_static("traceresponse"),
                    HeaderName::from_static("x-trace-id"),
                ])
                .max_age(Duration::from_secs(3600)),
        )
    }

    fn have(&self, headers: &HeaderMap) -> bool {
        headers
            .get(ORIGIN)
            .is_some_and(|origin| self.0.contains(origin))
    }
}

/// Whether a GET may come from another site's page: with the user's cookies, or by a browser that says so.
pub(super) fn may_be_forged(headers: &HeaderMap, origins: &Origins) -> bool {
    let preflighted = PREFLIGHT.iter().any(|name| headers.contains_key(*name))
        || headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let from_elsewhere = match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") => false,
        Some(_) => true,
        // An old browser, or none.
        None => headers.contains_key(COOKIE) || headers.contains_key(ORIGIN),
    };
    from_elsewhere && !preflighted && !origins.have(headers)
}

/// Whether a WebSocket is opened by a page of ours, or by no page.
pub(super) fn is_own(parts: &Parts, peer: SocketAddr, origins: &Origins) -> bool {
    let headers = &parts.headers;
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let same_origin = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if same_origin == Some(b"same-origin") || origins.have(headers) {
        return true;
    }
    let Some(origin) = origin.to_str().ok().and_then(host) else {
        return false;
    };
    // A proxy may have put its own name into Host; no page can set either.
    let named = ["x-forwarded-host", HOST.as_str()].into_iter();
    let ours = named
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .chain(parts.uri.authority().map(|authority| authority.as_str()));
    let same =
        |ours: &str| without_default_port(ours).eq_ignore_ascii_case(without_default_port(origin));
    let mut ours = ours;
    ours.any(same) || (peer.ip().is_loopback() && is_loopback(origin))
}

/// Host and port of an origin.
fn host(origin: &str) -> Option<&str> {
    let (_, host) = origin.split_once("://")?;
    (!host.is_empty() && !host.contains('/')).then_some(host)
}

fn without_default_port(host: &str) -> &str {
    let stripped = host.strip_suffix(":443").or(host.strip_suffix(":80"));
    stripped.unwrap_or(host)
}

/// A page on this machine, of a development server most often.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn forged(list: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.insert(*name, value.parse().unwrap());
        }
        may_be_forged(&headers, &Origins::default())
    }

    #[test]
    fn programs_and_own_pages_send_gets_as_they_like() {
        assert!(!forged(&[]));
        assert!(!forged(&[("accept", "*/*"), ("authorization", "Bearer a")]));
        assert!(!forged(&[
            ("cookie", "a=b"),
            ("sec-fetch-site", "same-origin")
        ]));
        // Typed into the address bar.
        assert!(!forged(&[("cookie", "a=b"), ("sec-fetch-site", "none")]));
    }

    #[test]
    fn what_another_sites_page_may_send_is_refused_unless_a_header_proves_the_agreement() {
        for from in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("cookie", "session=1"),
            ("origin", "https://evil.example"),
        ] {
            assert!(forged(&[from]), "{from:?}");
            assert!(!forged(&[from, ("apollo-require-preflight", "true")]));
            assert!(!forged(&[from, ("content-type", "application/json")]));
            assert!(forged(&[from, ("content-type", "text/plain")]));
        }
    }

    fn friends() -> Origins {
        Origins(Arc::from([HeaderValue::from_static(
            "https://app.friend.example",
        )]))
    }

    #[test]
    fn pages_of_configured_origins_are_no_strangers() {
        let friend = "https://app.friend.example";
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, friend.parse().unwrap());
        headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert!(may_be_forged(&headers, &Origins::default()));
        assert!(!may_be_forged(&headers, &friends()));
        assert!(own(
            &[("host", "api.example"), ("origin", friend)],
            "10.0.0.1:1"
        ));
    }

    fn own(list: &[(&'static str, &str)], peer: &str) -> bool {
        let mut request = Request::get("/graphql");
        for (name, value) in list {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        is_own(&parts, peer.parse().unwrap(), &friends())
    }

    #[test]
    fn a_websocket_is_opened_by_no_page_or_by_one_of_the_same_host() {
        let peer = "10.0.0.1:1";
        assert!(own(&[("host", "api.example")], peer));
        assert!(own(
            &[("host", "api.example"), ("origin", "https://api.example")],
            peer
        ));
        assert!(own(
            &[
                ("host", "api.example:443"),
                ("origin", "https://API.example")
            ],
            peer
        ));
        let proxied = [
            ("host", "10.1.1.1:8000"),
            ("x-forwarded-host", "api.example"),
            ("origin", "https://api.example"),
        ];
        assert!(own(&proxied, peer));
        for origin in [
            "https://evil.example",
            "https://api.example.evil",
            "null",
            "api.example",
        ] {
            assert!(
                !own(&[("host", "api.example"), ("origin", origin)], peer),
                "{origin}"
            );
        }
    }

    #[test]
    fn a_development_server_on_the_same_machine_is_no_stranger() {
        let from = |origin, peer| own(&[("host", "127.0.0.1:8000"), ("origin", origin)], peer);
        assert!(from("http://localhost:5173", "127.0.0.1:1"));
        assert!(from("http://[::1]:5173", "[::1]:1"));
        assert!(!from("http://localhost:5173", "10.0.0.1:1"));
        assert!(!from("http://localhost.evil.example", "127.0.0.1:1"));
    }
}
