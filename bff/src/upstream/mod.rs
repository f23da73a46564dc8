//! The gRPC services behind the fields: typed clients over the resilience stack.
//!
//! **Invariant:** resolvers see typed clients, never channels.
//!
//! A new upstream is one file beside [`greeter`], one entry in [`KNOWN`], one field of
//! [`Upstreams`] and one line in [`Upstreams::connect`].

mod config;
mod error;
pub mod greeter;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};
use tokio::time::Instant;
use tonic::{IntoRequest, Request, Status};

pub use self::{
    config::{Config, ConfigMap},
    error::{Kind, UpstreamError},
    greeter::Greeter,
};
use crate::{
    balance::{Balance, Tried, channel::Http2},
    config::types::ServiceName,
    discovery::{Catalog, Relay, Watch, WatchOptions, fixed, relay, watch},
    resilience::{
        self, Layers, Method,
        deadline::{ClientDeadline, Deadline},
        span::CallSpan,
    },
    telemetry::{metrics::DURATIONS, trace::Span},
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
    find: Find,
}

/// Finds the instances of what is configured.
#[derive(Clone)]
struct Find(Arc<dyn Fn(&Config) -> Watch + Send + Sync>);

impl fmt::Debug for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Find")
    }
}

impl Find {
    fn new<C: Catalog + Clone>(catalog: &C, times: WatchOptions) -> Self {
        let catalog = catalog.clone();
        Self(Arc::new(move |config| {
            match (&config.endpoints, &config.service) {
                (Some(endpoints), _) => fixed::watch(endpoints),
                (None, Some(service)) => watch(catalog.clone(), service.clone(), times),
                // Validation asks for one of them.
                (None, None) => fixed::watch(&[]),
            }
        }))
    }
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
    /// Feeds `watch`.
    relay: Relay,
    /// What is in force.
    config: Arc<ArcSwap<Config>>,
}

impl Connected {
    fn new(known: &Known, config: Config, find: &Find, meter: &Meter) -> Self {
        let (relay, watch) = relay((find.0)(&config));
        Self {
            name: known.name,
            balance: Balance::following(config.balance(known.name), config.http2(), watch.clone()),
            watch,
            layers: Layers::new(known.name, &config.settings()).measured(meter),
            relay,
            config: Arc::new(ArcSwap::from_pointee(config)),
        }
    }

    /// Puts `config` in force from the next call on. Connections stay, unless it is they that are
    /// configured anew; another service or other addresses are used once there is an instance.
    fn reconfigure(&self, config: &Config, find: &Find) {
        let before = self.config.swap(Arc::new(config.clone()));
        if *before == *config {
            return;
        }
        self.layers.reconfigure(&config.settings());
        self.balance.reconfigure(config.balance(self.name));
        if before.http2() != config.http2() {
            self.balance.reconnect(config.http2());
        }
        if (&before.service, &before.endpoints) != (&config.service, &config.endpoints) {
            let source = match &config.service {
                Some(service) => format!("service {service}"),
                None => "endpoints".to_owned(),
            };
            self.relay.follow(source, (find.0)(config));
        }
    }
}

/// What a resolver knows that a call should.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// The span of the field the call is for; it ends with the call.
    pub span: Span,
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
        meter: &Meter,
    ) -> Self {
        let find = Find::new(catalog, times);
        let mut connected = Vec::new();
        let mut connect = |known: &Known| {
            let config = configs.get(known.name).cloned();
            let config = config.unwrap_or_else(|| known.config());
            let entry = Connected::new(known, config, &find, meter);
            let service = resilience::stack(entry.balance.clone(), &entry.layers);
            connected.push(entry);
            service
        };
        let durations = meter
            .f64_histogram("bff.call.duration")
            .with_unit("s")
            .with_description("How long calls took, all attempts together, by outcome; streams until their first message.")
            .with_boundaries(DURATIONS.to_vec())
            .build();
        let calls = |known: &Known| Calls {
            upstream: known.name,
            durations: durations.clone(),
        };
        let greeter = Greeter::new(connect(&greeter::KNOWN), calls(&greeter::KNOWN));
        Self {
            greeter,
            connected: connected.into(),
            find,
        }
    }

    /// Every upstream, for readiness and metrics.
    pub fn connected(&self) -> &[Connected] {
        &self.connected
    }

    /// Puts `configs` in force from the next call on; calls in flight end as they began.
    pub fn reconfigure(&self, configs: &ConfigMap) {
        for upstream in &*self.connected {
            if let Some(config) = configs.get(upstream.name) {
                upstream.reconfigure(config, &self.find);
            }
        }
    }
}

/// One call of a typed client: its request, and what is known of it.
struct Outgoing<T> {
    request: Request<T>,
    call: Call,
}

/// What the calls of one typed client have in common.
#[derive(Clone, Debug)]
struct Calls {
    upstream: &'static str,
    durations: Histogram<f64>,
}

/// A call on its way; its span ends with it.
struct Call {
    of: Calls,
    started: Instant,
    tried: Tried,
    span: Span,
    /// How long the answer took; of a stream, its first message.
    took: Option<Duration>,
    /// How it ended: `cancelled` until it did.
    outcome: &'static str,
}

impl Call {
    /// The call was answered; a stream, for the first time.
    fn answered(&mut self) {
        self.took.get_or_insert_with(|| self.started.elapsed());
        self.outcome = "answered";
    }

    /// The call ended with `status`.
    fn failed(&mut self, status: &Status) -> UpstreamError {
        let error = UpstreamError::new(self.of.upstream, status, &self.tried);
        self.outcome = error.kind.as_str();
        match error.kind {
            Kind::CircuitOpen => self.span.event("circuit open: not sent", Vec::new()),
            Kind::Overloaded => self.span.event("shed: not sent", Vec::new()),
            Kind::Unavailable | Kind::Timeout | Kind::Answered => {}
        }
        self.span
            .set("rpc.response.status_code", error.grpc_status());
        self.span.set("bff.attempts", i64::from(error.attempts));
        // The upstream's own words may repeat what a client asked; they stay in the log.
        self.span.fail(error.to_string());
        error
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.span.end();
        let labels = [
            KeyValue::new("upstream", self.of.upstream),
            KeyValue::new("outcome", self.outcome),
        ];
        let took = self.took.unwrap_or_else(|| self.started.elapsed());
        self.of.durations.record(took.as_secs_f64(), &labels);
    }
}

impl<T> Outgoing<T> {
    fn new(of: &Calls, message: T, method: Method, options: CallOptions) -> Self {
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
        if options.span.is_some() {
            request
                .extensions_mut()
                .insert(CallSpan(options.span.clone()));
        }
        let call = Call {
            of: of.clone(),
            started: Instant::now(),
            tried,
            span: options.span,
            took: None,
            outcome: "cancelled",
        };
        Self { request, call }
    }
}
