//! `[consul]`.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::types::{BaseUrl, Secret, SecretFile, ms, secs, within};

/// Where services are found and where this program registers itself.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The local agent's HTTP API.
    #[garde(skip)]
    pub(crate) address: BaseUrl,
    /// ACL token; it needs `service:read` on the upstreams and `service:write` on `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(fits_a_header)))]
    pub(crate) token: Option<Secret>,
    /// A file that holds the token, read at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(not_both(&self.token)))]
    pub(crate) token_file: Option<SecretFile>,
    /// The datacenter to look in; absent means the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) datacenter: Option<crate::types::ServiceName>,
    /// Whether any Consul server may answer, not only the leader (`?stale`): less load on the
    /// leader and answers during an election, at the price of up to some milliseconds of lag.
    #[garde(skip)]
    pub(crate) stale: bool,
    /// How long one blocking query waits for a change.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(1)..=secs(600))))]
    pub(crate) wait: Duration,
    /// How long the last good list is kept after Consul suddenly calls a service empty.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(0)..=secs(3600))))]
    pub(crate) empty_hold: Duration,
    /// Whether this program registers itself.
    #[garde(skip)]
    pub(crate) register: bool,
    /// The service name that it registers under, and that its traces and metrics carry: two BFFs are two
    /// services.
    #[garde(skip)]
    pub(crate) service: crate::types::ServiceName,
    /// `host:port` under which Consul reaches this program; absent means the listen address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(host_and_port))]
    pub(crate) advertise: Option<String>,
    /// How often Consul asks `/readyz`. Consul itself allows no less than a second.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(300))))]
    pub(crate) check_interval: Duration,
    /// How often this program looks whether the agent still knows it.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(300))))]
    pub(crate) heartbeat: Duration,
    /// How long an unhealthy registration is kept. Consul itself allows no less than a minute.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(86_400))))]
    pub(crate) deregister_critical_after: Duration,
}

fn fits_a_header(token: &Secret, _: &()) -> garde::Result {
    match token.reveal().bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(garde::Error::new("must be visible ASCII characters")),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: default_address(),
            token: None,
            token_file: None,
            datacenter: None,
            stale: true,
            wait: Duration::from_secs(30),
            empty_hold: Duration::from_secs(60),
            register: true,
            service: crate::types::ServiceName::bff(),
            advertise: None,
            check_interval: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
            deregister_critical_after: Duration::from_secs(60),
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant that a test parses")]
fn default_address() -> BaseUrl {
    BaseUrl::try_from("http://127.0.0.1:8500".to_owned()).expect("a valid address")
}

fn not_both(token: &Option<Secret>) -> impl FnOnce(&Option<SecretFile>, &()) -> garde::Result + '_ {
    move |file, ()| match (token, file) {
        (Some(_), Some(_)) => Err(garde::Error::new("set `token` or `token_file`, not both")),
        _ => Ok(()),
    }
}

fn host_and_port(advertise: &Option<String>, _: &()) -> garde::Result {
    let Some(text) = advertise else { return Ok(()) };
    match text.parse::<http::uri::Authority>() {
        Ok(authority) if authority.port_u16().is_some_and(|port| port > 0) => Ok(()),
        _ => Err(garde::Error::new(format!(
            "`{text}` is no host:port, such as 10.0.0.7:8000"
        ))),
    }
}
