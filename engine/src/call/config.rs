//! `[upstreams.<name>]`: how one service is found and called. Every value is stated here once, its
//! default beside it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytesize::ByteSize;
use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{forward::ForwardedHeader, method::RawMethod};
use crate::types::{BaseUrl, ServiceName, bytes_within, ms, secs, within};

/// How one gRPC service is found and called.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The service's name in Consul. Absent with `endpoints`, or to use the upstream's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(not_both(&self.endpoints)))]
    pub(crate) service: Option<ServiceName>,
    /// Fixed addresses instead of Consul.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(custom(not_empty), inner(inner(custom(plain_http))))]
    pub(crate) endpoints: Option<Vec<BaseUrl>>,
    /// Whether the process waits for an instance of it before it asks for traffic. A service that is not
    /// deployed everywhere is not required.
    #[garde(skip)]
    pub(crate) required: bool,
    /// How an instance is chosen.
    #[garde(skip)]
    pub(crate) balancer: Strategy,
    /// Deadline of a whole call, all attempts included.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(300))))]
    pub(crate) timeout: Duration,
    /// How long one attempt may take; below `timeout`, or there would be no second. The last
    /// attempt may take all that is left of `timeout`.
    /// Absent means 500 ms, or half of a `timeout` below a second.
    #[serde(with = "humantime_serde", default)]
    #[garde(inner(custom(within(ms(1)..=secs(300)))), inner(custom(below(self.timeout))))]
    pub(crate) attempt_timeout: Option<Duration>,
    /// Calls in flight above which further ones are shed.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_in_flight: usize,
    /// Streams that may be open at the same time. One client gets at most four times what it leaves free.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_streams: usize,
    /// How long one TCP connection may take to come up.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(60))))]
    pub(crate) connect_timeout: Duration,
    /// How often, while calls are open, an HTTP/2 ping asks whether a connection is alive; without an
    /// answer within half of it, or twenty seconds, the connection is closed. gRPC's servers minimally
    /// allow one in five minutes (gRPC A8); a peer that asks for fewer gets half as many.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(secs(1)..=secs(3600))))]
    pub(crate) keepalive: Duration,
    /// Bytes of one message of a reply, inflated.
    #[garde(custom(bytes_within(ByteSize::kib(1)..=ByteSize::gib(1))))]
    pub(crate) max_message: ByteSize,
    /// Headers of the client's that the upstream is sent, from its request or, over a WebSocket, from
    /// the keys of its `connection_init`, where the upgrade's headers lack it. They are in no span and no log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[garde(skip)]
    pub(crate) forward: Vec<ForwardedHeader>,
    /// `[upstreams.<name>.methods.<Method>]`: what is different for one method, by its name, or as
    /// `package.Service/Method` where several services have one of that name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[garde(custom(methods_fit(self.timeout)), dive)]
    pub(crate) methods: BTreeMap<String, MethodConfig>,
    /// When a failed call is tried again.
    #[garde(dive)]
    pub(crate) retry: RetryConfig,
    /// When the circuit breaker of the whole service opens.
    #[garde(dive)]
    pub(crate) breaker: BreakerConfig,
    /// When an instance is ejected.
    #[garde(dive)]
    pub(crate) ejection: EjectionConfig,
}

impl Config {
    /// How long the longest call may take, whatever its method.
    pub(crate) fn longest_timeout(&self) -> Duration {
        let methods = self.methods.values().filter_map(|method| method.timeout);
        methods.fold(self.timeout, Duration::max)
    }

    /// How long one attempt may take.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
            .unwrap_or_else(|| ms(500).min(self.timeout / 2))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service: None,
            endpoints: None,
            required: true,
            balancer: Strategy::P2c,
            timeout: Duration::from_secs(2),
            attempt_timeout: None,
            max_in_flight: 1000,
            max_streams: 5000,
            connect_timeout: Duration::from_millis(200),
            keepalive: Duration::from_secs(330),
            max_message: ByteSize::mib(4),
            forward: Vec::new(),
            methods: BTreeMap::new(),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
            ejection: EjectionConfig::default(),
        }
    }
}

/// What is different for one method; what is absent is the upstream's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MethodConfig {
    /// Whether running it twice does no more than running it once, so that it may be retried when it is
    /// not known whether it ran. Absent: what its proto file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) idempotent: Option<bool>,
    /// Deadline of a whole call.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(within(ms(10)..=secs(300)))))]
    pub(crate) timeout: Option<Duration>,
    /// How long one attempt may take. Absent: the upstream's, or half of a shorter `timeout`.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(within(ms(1)..=secs(300)))))]
    pub(crate) attempt_timeout: Option<Duration>,
    /// When a failed call is tried again.
    #[garde(dive)]
    pub(crate) retry: MethodRetryConfig,
}

/// What is different for the retries of one method. The budget is the upstream's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MethodRetryConfig {
    /// Attempts per call, the first included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 10)))]
    pub(crate) max_attempts: Option<u32>,
    /// Upper bound of the random pause before the second attempt.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(within(ms(0)..=secs(10)))))]
    pub(crate) backoff: Option<Duration>,
    /// Upper bound of any pause.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(within(ms(0)..=secs(60)))))]
    pub(crate) backoff_max: Option<Duration>,
}

/// What is effective for the calls to one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// For methods that have nothing of their own.
    pub(crate) config: Arc<Config>,
    methods: HashMap<String, ForMethod>,
}

/// What is effective for the calls of one method.
#[derive(Clone, Debug)]
pub(crate) struct ForMethod {
    pub(crate) config: Arc<Config>,
    /// If it is not as its proto file says.
    pub(crate) idempotent: Option<bool>,
}

impl From<Arc<Config>> for ForMethod {
    fn from(config: Arc<Config>) -> Self {
        Self {
            config,
            idempotent: None,
        }
    }
}

impl Effective {
    /// What `config` says.
    pub(crate) fn new(config: Config) -> Self {
        let methods = config.methods.iter().map(|(name, method)| {
            let of_method = ForMethod {
                config: Arc::new(method.over(&config)),
                idempotent: method.idempotent,
            };
            (name.clone(), of_method)
        });
        Self {
            methods: methods.collect(),
            config: Arc::new(config),
        }
    }

    /// What is effective for `method`.
    pub(crate) fn of(&self, method: &RawMethod) -> ForMethod {
        let whole = method.name();
        let short = whole.rsplit('/').next().unwrap_or(whole);
        // Nearly always there are none.
        let own = match self.methods.is_empty() {
            true => None,
            false => self.methods.get(whole).or_else(|| self.methods.get(short)),
        };
        own.cloned()
            .unwrap_or_else(|| Arc::clone(&self.config).into())
    }
}

impl MethodConfig {
    /// The upstream's `config` with what is different for the method.
    fn over(&self, config: &Config) -> Config {
        let timeout = self.timeout.unwrap_or(config.timeout);
        let attempt_timeout = self.attempt_timeout.or_else(|| {
            let of_upstream = config.attempt_timeout();
            Some(match of_upstream < timeout {
                true => of_upstream,
                false => timeout / 2,
            })
        });
        let mut retry = config.retry.clone();
        retry.max_attempts = self.retry.max_attempts.unwrap_or(retry.max_attempts);
        retry.backoff = self.retry.backoff.unwrap_or(retry.backoff);
        retry.backoff_max = self.retry.backoff_max.unwrap_or(retry.backoff_max);
        Config {
            timeout,
            attempt_timeout,
            retry,
            methods: BTreeMap::new(),
            ..config.clone()
        }
    }
}

fn methods_fit(
    timeout: Duration,
) -> impl FnOnce(&BTreeMap<String, MethodConfig>, &()) -> garde::Result {
    move |methods, ()| {
        for (name, method) in methods {
            if let Some(attempt) = method.attempt_timeout
                && let Err(error) = below(method.timeout.unwrap_or(timeout))(&attempt, &())
            {
                return Err(garde::Error::new(format!(
                    "{name}.attempt_timeout: {error}"
                )));
            }
        }
        Ok(())
    }
}

/// When a failed call is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetryConfig {
    /// Attempts per call, the first included; 1 turns retries off.
    #[garde(range(min = 1, max = 10))]
    pub(crate) max_attempts: u32,
    /// Upper bound of the random pause before the second attempt; it doubles with each further.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(0)..=secs(10))))]
    pub(crate) backoff: Duration,
    /// Upper bound of any pause.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(0)..=secs(60))))]
    pub(crate) backoff_max: Duration,
    /// Retries per call, over ten seconds, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub(crate) budget_ratio: f64,
    /// Retries per second that a quiet service has in any case.
    #[garde(range(min = 0.0, max = 1000.0))]
    pub(crate) budget_min_per_second: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget_ratio: 0.2,
            budget_min_per_second: 1.0,
        }
    }
}

/// When the circuit breaker opens, and how it closes again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BreakerConfig {
    /// Whether the breaker decides, or an operator does.
    #[garde(skip)]
    pub(crate) mode: BreakerMode,
    /// Share of failures in the window that opens it, above 0 and up to 1.
    #[garde(custom(share))]
    pub(crate) failure_ratio: f64,
    /// Opens after this many failures in a row instead, whatever the ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 10_000)))]
    pub(crate) consecutive_failures: Option<u32>,
    /// Calls below which the ratio says nothing.
    #[garde(range(min = 1, max = 100_000))]
    pub(crate) min_calls: u32,
    /// How far back the ratio looks.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(600))))]
    pub(crate) window: Duration,
    /// How long it stays open the first time; it doubles while probes keep failing.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(3600))))]
    pub(crate) open_for: Duration,
    /// How long it stays open at most.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(3600))), custom(not_below_open_for(self.open_for)))]
    pub(crate) open_for_max: Duration,
    /// Calls let through at one time while it is half-open.
    #[garde(range(min = 1, max = 1000))]
    pub(crate) half_open_probes: u32,
    /// Successful probes that close it.
    #[garde(range(min = 1, max = 1000))]
    pub(crate) success_threshold: u32,
}

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BreakerMode {
    /// The breaker, by what it sees.
    #[default]
    Auto,
    /// An operator: no call is let through.
    Open,
    /// An operator: every call is let through.
    Closed,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            mode: BreakerMode::Auto,
            failure_ratio: 0.5,
            consecutive_failures: None,
            min_calls: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            open_for_max: Duration::from_secs(60),
            half_open_probes: 1,
            success_threshold: 1,
        }
    }
}

fn share(ratio: &f64, _: &()) -> garde::Result {
    match *ratio > 0.0 && *ratio <= 1.0 {
        true => Ok(()),
        false => Err(garde::Error::new(format!(
            "{ratio} is out of range: above 0, up to 1"
        ))),
    }
}

fn not_below_open_for(open_for: Duration) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |max, ()| match *max >= open_for {
        true => Ok(()),
        false => Err(garde::Error::new("must not be below `open_for`")),
    }
}

/// How an instance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strategy {
    /// The cheaper of two random instances, by latency, failures and calls in flight.
    P2c,
    /// Any instance.
    Random,
}

/// When an instance is ejected: gets no calls for a while (outlier detection; compare gRPC A50).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EjectionConfig {
    /// Failures in a row that eject an instance.
    #[garde(range(min = 1, max = 1000))]
    pub(crate) consecutive_failures: u32,
    /// How long the first ejection lasts; it doubles with each further one.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(3600))))]
    pub(crate) eject_for: Duration,
    /// How long an ejection lasts at most.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(3600))), custom(not_below_eject_for(self.eject_for)))]
    pub(crate) eject_for_max: Duration,
    /// Largest ratio of the instances that may be ejected at one time, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub(crate) max_ratio: f64,
    /// Panic threshold: below this ratio of instances in rotation, 0 to 1, ejections are ignored: most of a
    /// service failing says more about something else than about its instances.
    #[garde(range(min = 0.0, max = 1.0))]
    pub(crate) panic_ratio: f64,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            eject_for: Duration::from_secs(5),
            eject_for_max: Duration::from_secs(120),
            max_ratio: 0.5,
            panic_ratio: 0.5,
        }
    }
}

fn not_below_eject_for(eject_for: Duration) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |max, ()| {
        if *max >= eject_for {
            return Ok(());
        }
        Err(garde::Error::new("must not be below `eject_for`"))
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
