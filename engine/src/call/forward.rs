//! Headers of a client's that reach an upstream.

use std::fmt;

use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

/// A header that is forwarded from client to upstream: `authorization`, `x-tenant`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ForwardedHeader(HeaderName);

/// Headers that say something about one connection (RFC 9110, 7.6.1), or about a body that is not
/// passed on.
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that are written for each attempt.
const OWN: [&str; 5] = [
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-request-timeout",
    "user-agent",
];

impl ForwardedHeader {
    pub(crate) fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl fmt::Display for ForwardedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl From<ForwardedHeader> for String {
    fn from(header: ForwardedHeader) -> Self {
        header.0.as_str().to_owned()
    }
}

impl TryFrom<String> for ForwardedHeader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("`{text}` cannot be forwarded: {why}"));
        let Ok(name) = HeaderName::try_from(text.as_str()) else {
            return refuse("it is no header's name");
        };
        let own = name.as_str();
        if OF_THE_CONNECTION.contains(&own) || own.starts_with("sec-") {
            return refuse("it is about the client's connection");
        }
        if OWN.contains(&own) {
            return refuse("it is written for each attempt");
        }
        if own.starts_with("grpc-") {
            return refuse("names that begin with grpc- are gRPC's own");
        }
        if own.ends_with("-bin") {
            return refuse("names that end with -bin have values of gRPC's own form");
        }
        Ok(Self(name))
    }
}

/// Those of `headers` that are among `wanted`; they never show in logs.
pub(crate) fn forwarded<'h>(
    headers: &HeaderMap,
    wanted: impl IntoIterator<Item = &'h ForwardedHeader>,
) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for ForwardedHeader(name) in wanted {
        for value in headers.get_all(name) {
            let mut value = value.clone();
            value.set_sensitive(true);
            forwarded.append(name, value);
        }
    }
    forwarded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_connection_or_to_grpc_is_not_forwarded() {
        for bad in [
            "",
            "a b",
            "Host",
            "TE",
            "connection",
            "content-type",
            "Sec-WebSocket-Key",
            "grpc-timeout",
            "traceparent",
            "x-request-timeout",
            "id-bin",
            ":path",
            "proxy-authorization",
        ] {
            assert!(ForwardedHeader::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        let names = ["Authorization", "x-tenant", "cookie", "accept-language"];
        let names = names.map(|name| ForwardedHeader::try_from(name.to_owned()).unwrap());
        let mut headers = HeaderMap::new();
        headers.append("x-tenant", "a".parse().unwrap());
        headers.append("x-tenant", "b".parse().unwrap());
        headers.append("x-other", "c".parse().unwrap());
        headers.append("authorization", "Bearer x".parse().unwrap());
        let forwarded = forwarded(&headers, &names);
        assert_eq!(forwarded.len(), 3);
        assert!(forwarded.values().all(|value| value.is_sensitive()));
        assert_eq!(forwarded.get_all("x-tenant").iter().count(), 2);
    }
}
