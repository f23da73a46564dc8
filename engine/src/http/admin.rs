//! The admin listener: what operators and their machines read. None of it is on the public one.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use garde::Validate;
use http::{HeaderMap, StatusCode, header, uri::Authority};
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;

use super::{AdminParts, Limits, configz, health, metrics};

/// Who comes here is few: scrapers, probes, a person.
pub(crate) const LIMITS: Limits = Limits {
    max_connections: 256,
    max_connections_per_client: 256,
    header_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(75),
};

/// `[admin]`.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen on; port 0 lets the system choose, `none` turns it off. Who reaches it
    /// reads everything but secrets.
    #[garde(skip)]
    pub(crate) listen: Listen,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8001)))),
        }
    }
}

/// An address, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "none" => Ok(Self(None)),
            text => text.parse().map(|addr| Self(Some(addr))).map_err(|_| {
                format!("`{text}` is no address; write it like 127.0.0.1:8001, or none")
            }),
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Every route of the admin listener, which listens on `bound`.
pub(crate) fn router(parts: AdminParts, bound: SocketAddr) -> Router {
    Router::new()
        .route("/", get(index))
        .merge(configz::routes(parts.config))
        .merge(health::admin_routes(parts.readiness))
        .merge(metrics::routes(parts.metrics))
        .layer(middleware::from_fn_with_state(bound, no_stranger))
        .layer(CatchPanicLayer::new())
}

async fn index() -> Html<&'static str> {
    Html(include_str!("admin.html"))
}

/// Refuses what another site's page sends from an operator's browser. That page may have let a name of
/// its own point at this machine, so over loopback only names of this machine are heard. From elsewhere any
/// name is: clusters have their own.
async fn no_stranger(State(bound): State<SocketAddr>, request: Request, next: Next) -> Response {
    let refusal = match from_another_site(request.headers()) {
        true => "pages of other sites are not answered here\n",
        false if over_loopback(bound, &request) && !names_this_machine(&request) => {
            "ask for it by 127.0.0.1 or localhost\n"
        }
        false => return next.run(request).await,
    };
    (StatusCode::FORBIDDEN, refusal).into_response()
}

/// Whether a request came from this machine itself.
fn over_loopback(bound: SocketAddr, request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let is_loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
    // Where all addresses are listened on, sidecars and this machine's own scrapers come that way, too, by
    // whatever name; it is browsers that pages can use.
    is_loopback(bound)
        || (is_browsers(request.headers())
            && peer.is_some_and(|ConnectInfo(peer)| is_loopback(*peer)))
}

/// Whether a browser sends it, by what all of them say.
fn is_browsers(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
        || headers.contains_key("sec-fetch-site")
        || headers.contains_key(header::ORIGIN)
}

/// By what browsers add to a request. An address that is typed, and our own pages, are not another
/// site.
fn from_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        let opened = text("sec-fetch-mode") == Some("navigate");
        return !(matches!(site, "same-origin" | "none") || opened);
    }
    // Browsers leave that header out where the connection is not trusted, but not this one of a page
    // that would read the answer.
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = text("host").unwrap_or_default();
    let same = origin.to_str().ok().and_then(|origin| {
        let (_, authority) = origin.split_once("://")?;
        Some(authority == host)
    });
    same != Some(true)
}

/// Whether the client meant this machine, and not a name that was made to point at it.
fn names_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST);
    let host = host
        .and_then(|host| host.to_str().ok()?.parse::<Authority>().ok())
        // HTTP/2 has it in the target.
        .or_else(|| request.uri().authority().cloned());
    let Some(authority) = host else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    let address: Option<IpAddr> = name.parse().ok();
    name == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_an_address_or_none() {
        let of = |text: &str| Listen::try_from(text.to_owned());
        assert_eq!(of("none").unwrap(), Listen(None));
        assert_eq!(of("[::1]:0").unwrap().to_string(), "[::1]:0");
        for wrong in ["", "8001", "off", "localhost:8001"] {
            assert!(of(wrong).unwrap_err().contains("127.0.0.1:8001"), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_somebody_let_point_at_this_machine_is_not_this_machine() {
        for (host, ours) in [
            ("127.0.0.1:8001", true),
            ("localhost", true),
            ("[::1]:8001", true),
            ("rebound.example:8001", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            let request = Request::get("/configz").header("host", host);
            let request = request.body(axum::body::Body::empty()).unwrap();
            assert_eq!(names_this_machine(&request), ours, "{host}");
        }
    }

    #[test]
    fn what_comes_over_loopback_is_known_by_its_peer_also_where_all_addresses_are_listened_on() {
        let from = |peer: Option<&str>| {
            let mut request = Request::new(axum::body::Body::empty());
            let browser = http::HeaderValue::from_static("Mozilla/5.0");
            request.headers_mut().insert(header::USER_AGENT, browser);
            let peer = peer.map(|peer| ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            peer.map(|peer| request.extensions_mut().insert(peer));
            request
        };
        let all = "0.0.0.0:8001".parse().unwrap();
        assert!(over_loopback(all, &from(Some("127.0.0.1:50000"))));
        assert!(over_loopback(all, &from(Some("[::ffff:127.0.0.1]:50000"))));
        assert!(!over_loopback(all, &from(Some("10.0.0.7:50000"))));
        let scraper = Request::new(axum::body::Body::empty());
        assert!(!over_loopback(all, &scraper));
        let own = "[::ffff:127.0.0.1]:8001".parse().unwrap();
        assert!(over_loopback(own, &from(None)));
    }

    #[test]
    fn a_page_of_another_site_is_told_from_a_person() {
        let of = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            });
            from_another_site(&pairs.collect())
        };
        assert!(!of(&[]));
        assert!(!of(&[("sec-fetch-site", "none")]));
        assert!(!of(&[("sec-fetch-site", "same-origin")]));
        // A link in a chat or a wiki.
        assert!(!of(&[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate")
        ]));
        assert!(of(&[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "cors")
        ]));
        assert!(of(&[
            ("origin", "http://evil.example"),
            ("host", "127.0.0.1:8001")
        ]));
        assert!(of(&[("origin", "null"), ("host", "127.0.0.1:8001")]));
        assert!(!of(&[
            ("origin", "http://127.0.0.1:8001"),
            ("host", "127.0.0.1:8001")
        ]));
    }
}
