//! `[http]`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use garde::Validate;
use serde::{Deserialize, Serialize};

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

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            request_timeout: Duration::from_secs(10),
            max_connections: 10_000,
            max_connections_per_client: 5_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
        }
    }
}
