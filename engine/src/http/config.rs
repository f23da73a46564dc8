//! `[http]`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use garde::Validate;
use http::HeaderValue;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    serve::{Limits, TlsConfig},
    trust::private,
};
use crate::types::{ms, secs, within};

/// Where the frontend reaches us.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to listen on; port 0 lets the system choose.
    #[garde(skip)]
    pub(crate) listen: SocketAddr,
    /// Deadline of a whole request, shared by all its fields; a client may ask for less with the
    /// header `X-Request-Timeout`.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(300))))]
    pub(crate) request_timeout: Duration,
    /// Connections that may be open; further ones wait until one ends.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_connections: usize,
    /// How many of them one address may have, of IPv6 one network of 64 bits.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_connections_per_client: usize,
    /// How long the head of a request may take, and a connection to begin with one.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(300))))]
    pub(crate) header_timeout: Duration,
    /// How long a connection may be idle between two requests: longer than a proxy in front keeps it.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(1)..=secs(3600))))]
    pub(crate) idle_timeout: Duration,
    /// Requests that may be executed at one time; further ones are answered 503.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_in_flight: usize,
    /// Operations that one request may have, as a list; 0: it has one, and is no list.
    #[garde(range(max = 100))]
    pub(crate) max_batch: usize,
    /// Operations that may run over WebSockets and as server-sent events at one time; further ones are refused.
    /// One client gets at most four times what it leaves free.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_streams: usize,
    /// Networks of proxies in front of us: of others, their word alone counts. They say who the client is
    /// (`rate_limit.client`), whether a trace is kept, and what travels with it as baggage.
    #[garde(length(max = 1000))]
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The certificate for connections in TLS; absent: they are plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub(crate) tls: Option<TlsConfig>,
    /// Pages of other origins; absent: they get nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub(crate) cors: Option<CorsConfig>,
    /// How long everything is served as before after a stop signal: whoever sends requests learns of it
    /// later.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(0)..=secs(300))))]
    pub(crate) drain_delay: Duration,
    /// How long all of a stop may take, the delay included.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(0)..=secs(300))))]
    pub(crate) drain_timeout: Duration,
}

/// Pages of other origins that may send requests and open WebSockets.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorsConfig {
    /// Their origins.
    #[garde(length(min = 1, max = 1000))]
    pub(crate) origins: Vec<Origin>,
}

/// Where a page comes from: scheme, host and, where it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Origin(#[garde(skip)] HeaderValue);

impl Origin {
    /// As browsers send it.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0.to_str().unwrap_or_default().to_owned()
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no origin; write it like https://app.example, without a path");
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let plain = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some()
            && text
                .split_once("://")
                .is_some_and(|(_, rest)| !rest.contains(['/', '@', '?']));
        if !plain {
            return Err(wrong());
        }
        // Browsers write it in small letters.
        let header = HeaderValue::try_from(text.to_ascii_lowercase()).map_err(|_| wrong())?;
        Ok(Self(header))
    }
}

impl Config {
    /// What the listener allows.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            request_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_connections_per_client: 5_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_in_flight: 2_000,
            max_batch: 0,
            max_streams: 10_000,
            trusted_proxies: private(),
            tls: None,
            cors: None,
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_send() {
        let of = |text: &str| Origin::try_from(text.to_owned());
        assert_eq!(
            of("https://App.example").unwrap().header(),
            "https://app.example"
        );
        assert_eq!(
            of("http://localhost:5173").unwrap().header(),
            "http://localhost:5173"
        );
        for wrong in [
            "*",
            "app.example",
            "https://app.example/",
            "https://a@b",
            "ftp://a",
            "null",
            "",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
