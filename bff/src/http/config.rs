//! `[http]`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::config::types::{secs, within};

/// Where the frontend reaches us.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; port 0 lets the system choose.
    #[garde(skip)]
    pub listen: SocketAddr,
    /// How long open requests may take to finish after a stop signal.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(0)..=secs(300))))]
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            drain_timeout: Duration::from_secs(20),
        }
    }
}
