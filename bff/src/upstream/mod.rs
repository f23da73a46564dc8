//! The gRPC services behind the fields: typed clients over the resilience stack.
//!
//! **Invariant:** resolvers see typed clients, never channels.
//!
//! A new upstream is one file beside [`greeter`], one entry in [`KNOWN`], one field of
//! [`Upstreams`] and one line in [`Upstreams::connect`].

mod config;
mod error;
pub mod greeter;

use std::sync::Arc;

use tonic::{IntoRequest, Request};

pub use self::{
    config::{Config, ConfigMap},
    error::{Kind, UpstreamError},
    greeter::Greeter,
};
use crate::{
    balance::{Balance, Options, Tried, channel::Http2},
    config::types::ServiceName,
    discovery::{Catalog, Watch, WatchOptions, fixed, watch},
    resilience::{
        self, Layers, Method, UpstreamService,
        breaker::Breaker,
        bulkhead::Bulkhead,
        deadline::{ClientDeadline, Deadline},
        retry::RetryLayer,
    },
};

/// An upstream this program has a client for.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name in the configuration, in errors and in metrics.
    pub name: &'static str,
    /// Its service name in Consul, unless configured otherwise.
    pub service: &'static str,
}

impl Known {
    /// What is configured for it if the operator says nothing.
    pub fn config(&self) -> Config {
        let service = ServiceName::try_from(self.service.to_owned()).ok();
        let mut config = Config {
            service,
            ..Config::default()
        };
        config.attempt_timeout = Some(config.attempt_timeout());
        config
    }
}

/// Every upstream this program has a client for.
pub const KNOWN: &[Known] = &[greeter::KNOWN];

/// The typed clients, and what is known of the services behind them.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// Greets people.
    pub greeter: Greeter,
    connected: Arc<[Connected]>,
}

/// One upstream's place in the discovery and in the balance.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its instances.
    pub watch: Watch,
    /// Chooses among them.
    pub balance: Balance<Http2>,
    /// What stands before it.
    pub layers: Layers,
}

/// What a resolver knows that a call should.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// When the answer is of no use any more; the upstream's own timeout applies too.
    pub deadline: Option<Deadline>,
    /// Whether the client chose it: then an upstream that misses it is not at fault.
    pub client_deadline: bool,
}

impl Upstreams {
    /// Starts to watch every upstream's instances and builds the clients. Nothing is sent yet,
    /// and nothing is waited for.
    ///
    /// Has to be called within a tokio runtime.
    pub fn connect<C: Catalog + Clone>(
        configs: &ConfigMap,
        catalog: &C,
        times: WatchOptions,
    ) -> Self {
        let mut connected = Vec::new();
        let mut connect = |known: &Known| {
            let (entry, service) = connect(known, configs, catalog, times);
            connected.push(entry);
            service
        };
        let greeter = Greeter::new(connect(&greeter::KNOWN));
        Self {
            greeter,
            connected: connected.into(),
        }
    }

    /// Every upstream, for readiness and metrics.
    pub fn connected(&self) -> &[Connected] {
        &self.connected
    }
}

fn connect<C: Catalog + Clone>(
    known: &Known,
    configs: &ConfigMap,
    catalog: &C,
    times: WatchOptions,
) -> (Connected, UpstreamService) {
    let config = configs
        .get(known.name)
        .cloned()
        .unwrap_or_else(|| known.config());
    let watch = match (&config.endpoints, &config.service) {
        (Some(endpoints), _) => fixed::watch(endpoints),
        (None, Some(service)) => watch(catalog.clone(), service.clone(), times),
        // Validation asks for one of them.
        (None, None) => fixed::watch(&[]),
    };
    let options = Options {
        name: known.name.into(),
        strategy: config.balancer,
        ejection: config.ejection.clone(),
    };
    let http2 = Http2 {
        connect_timeout: config.connect_timeout,
        keepalive: config.keepalive,
    };
    let balance = Balance::following(options, http2, watch.clone());
    let layers = Layers {
        timeout: config.timeout,
        attempt_timeout: config.attempt_timeout(),
        bulkhead: Bulkhead::new(config.max_in_flight),
        retry: RetryLayer::new(&config.retry),
        breaker: Breaker::new(known.name, &config.breaker, config.timeout),
    };
    let service = resilience::stack(balance.clone(), &layers);
    (
        Connected {
            name: known.name,
            watch,
            balance,
            layers,
        },
        service,
    )
}

/// One call of a typed client: its request, and the instances it is tried on.
struct Outgoing<T> {
    request: Request<T>,
    tried: Tried,
}

impl<T> Outgoing<T> {
    fn new(message: T, method: Method, options: CallOptions) -> Self {
        let tried = Tried::default();
        let mut request = message.into_request();
        request.extensions_mut().insert(method);
        request.extensions_mut().insert(tried.clone());
        if let Some(deadline) = options.deadline {
            request.extensions_mut().insert(deadline);
        }
        if options.client_deadline {
            request.extensions_mut().insert(ClientDeadline);
        }
        Self { request, tried }
    }
}
