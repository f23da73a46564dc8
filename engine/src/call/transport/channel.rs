//! The real channel to an instance: tonic's, connecting when first used and again when needed.

use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use tonic::transport::{Channel, Endpoint};

use super::{super::Config, Connect};

/// Connects over plaintext HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Http2 {
    /// How long a TCP connection may take to come up.
    pub(crate) connect_timeout: Duration,
    /// How often, while calls are open, a ping asks whether the connection is alive. Without it a
    /// peer that froze or lost its network is never noticed.
    pub(crate) keepalive: Duration,
}

impl Http2 {
    /// Connections as `config` has them.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            connect_timeout: config.connect_timeout,
            keepalive: config.keepalive,
        }
    }
}

impl Connect for Http2 {
    type Channel = Channel;

    fn connect(&self, address: &Authority) -> Channel {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(address.clone());
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        // Scheme, authority and path are there, which is all that can be missing.
        let uri = http::Uri::from_parts(parts).unwrap_or_default();
        Endpoint::from(uri)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keepalive)
            .keep_alive_timeout(self.keepalive / 2)
            .connect_lazy()
    }
}
