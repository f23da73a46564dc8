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
    /// How long open requests may take to finish after a stop signal.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(0)..=secs(300))))]
    pub(crate) drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            request_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
        }
    }
}
