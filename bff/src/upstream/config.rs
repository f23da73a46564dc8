//! `[upstreams.<name>]`: the same keys for every upstream.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    time::Duration,
};

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};

use super::KNOWN;
use crate::{
    balance::{self, Strategy, channel::Http2},
    config::types::{BaseUrl, ServiceName, ms, secs, within},
    resilience::{self, breaker, retry},
};

/// How one gRPC service is found and called.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The service's name in Consul. Absent with `endpoints`, or to use the upstream's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(not_both(&self.endpoints)))]
    pub service: Option<ServiceName>,
    /// Fixed addresses instead of Consul.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(not_empty), inner(inner(custom(plain_http))))]
    pub endpoints: Option<Vec<BaseUrl>>,
    /// How an instance is chosen.
    #[garde(skip)]
    pub balancer: Strategy,
    /// Deadline of a whole call, all attempts included.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(300))))]
    pub timeout: Duration,
    /// How long one attempt may take; below `timeout`, or there would be no second. The last
    /// attempt may take all that is left of `timeout`.
    /// Absent means 500 ms, or half of a `timeout` below a second.
    #[serde(with = "humantime_serde", default)]
    #[garde(inner(custom(within(ms(1)..=secs(300)))), inner(custom(below(self.timeout))))]
    pub attempt_timeout: Option<Duration>,
    /// Calls in flight above which further ones are shed.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_in_flight: usize,
    /// How long one TCP connection may take to come up.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(60))))]
    pub connect_timeout: Duration,
    /// How often, while calls are open, an HTTP/2 ping asks whether a connection is alive; half
    /// of it again without an answer closes the connection.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(1)..=secs(3600))))]
    pub keepalive: Duration,
    /// When a failed call is tried again.
    #[garde(dive)]
    pub retry: retry::Config,
    /// When the whole service is left alone for a while.
    #[garde(dive)]
    pub breaker: breaker::Config,
    /// When an instance is left out for a while.
    #[garde(dive)]
    pub ejection: balance::EjectionConfig,
}

impl Config {
    /// How long one attempt may take.
    pub fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
            .unwrap_or_else(|| ms(500).min(self.timeout / 2))
    }

    /// What the layers are told.
    pub fn settings(&self) -> resilience::Settings {
        resilience::Settings {
            timeout: self.timeout,
            attempt_timeout: self.attempt_timeout(),
            max_in_flight: self.max_in_flight,
            retry: self.retry.clone(),
            breaker: self.breaker.clone(),
        }
    }

    /// What the balancer of the upstream `name` is told.
    pub fn balance(&self, name: &str) -> balance::Options {
        balance::Options {
            name: name.into(),
            strategy: self.balancer,
            ejection: self.ejection.clone(),
        }
    }

    /// How connections are made.
    pub fn http2(&self) -> Http2 {
        Http2 {
            connect_timeout: self.connect_timeout,
            keepalive: self.keepalive,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service: None,
            endpoints: None,
            balancer: Strategy::P2c,
            timeout: Duration::from_secs(2),
            attempt_timeout: None,
            max_in_flight: 1000,
            connect_timeout: Duration::from_millis(200),
            keepalive: Duration::from_secs(10),
            retry: retry::Config::default(),
            breaker: breaker::Config::default(),
            ejection: balance::EjectionConfig::default(),
        }
    }
}

/// Every upstream's configuration by its name: exactly the upstreams this program calls.
#[derive(Clone, Debug, PartialEq, Serialize, Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub struct ConfigMap(#[garde(dive)] BTreeMap<String, Config>);

impl Default for ConfigMap {
    fn default() -> Self {
        Self(
            KNOWN
                .iter()
                .map(|known| (known.name.to_owned(), known.config()))
                .collect(),
        )
    }
}

impl Deref for ConfigMap {
    type Target = BTreeMap<String, Config>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for ConfigMap {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<'de> Deserialize<'de> for ConfigMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut configs = Self::default();
        for (Name(name), mut config) in BTreeMap::<Name, Config>::deserialize(deserializer)? {
            if config.service.is_none() && config.endpoints.is_none() {
                config.service = configs
                    .get(&name)
                    .and_then(|default| default.service.clone());
            }
            config.attempt_timeout = Some(config.attempt_timeout());
            configs.insert(name, config);
        }
        Ok(configs)
    }
}

/// A name of [`KNOWN`]: a section for anything else would silently do nothing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if KNOWN.iter().any(|known| known.name == name) {
            return Ok(Self(name));
        }
        Err(serde::de::Error::custom(format!(
            "unknown upstream, the known ones are: {}",
            KNOWN
                .iter()
                .map(|known| known.name)
                .collect::<Vec<_>>()
                .join(", ")
        )))
    }
}

fn not_both(
    endpoints: &Option<Vec<BaseUrl>>,
) -> impl FnOnce(&Option<ServiceName>, &()) -> garde::Result + '_ {
    move |service, ()| match (service, endpoints) {
        (Some(_), Some(_)) => Err(garde::Error::new("set `service` or `endpoints`, not both")),
        _ => Ok(()),
    }
}

fn below(timeout: Duration) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |attempt, ()| match *attempt < timeout {
        true => Ok(()),
        false => Err(garde::Error::new(format!(
            "{} must be below `timeout` ({})",
            humantime::format_duration(*attempt),
            humantime::format_duration(timeout)
        ))),
    }
}

fn not_empty(endpoints: &Option<Vec<BaseUrl>>, _: &()) -> garde::Result {
    match endpoints {
        Some(list) if list.is_empty() => Err(garde::Error::new(
            "name at least one address, or use `service`",
        )),
        _ => Ok(()),
    }
}

fn plain_http(endpoint: &BaseUrl, _: &()) -> garde::Result {
    if endpoint.as_str().starts_with("http://") && endpoint.authority().port_u16().is_some() {
        return Ok(());
    }
    Err(garde::Error::new(format!(
        "`{endpoint}` must be http://host:port (TLS to upstreams is not offered)"
    )))
}
