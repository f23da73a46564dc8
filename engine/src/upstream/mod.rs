//! The gRPC services behind the fields: how each is described, found, called, and how it is doing.
//!
//! **Invariant:** resolvers see typed methods and [`UpstreamError`], never channels.

mod connected;
mod error;
mod hooks;
mod metrics;
mod status;

use std::{any::TypeId, collections::BTreeMap, fmt, sync::Arc};

use opentelemetry::metrics::Meter;
use tokio::time::Instant;

pub use self::error::UpstreamError;
pub(crate) use self::{connected::Connected, hooks::Hooks, status::UpstreamStatus};
use crate::{
    balance::Balance,
    call::{Config, transport::Http2},
    discovery::{Catalog, Relay, Watch, WatchOptions, fixed, relay, watch},
    types::ServiceName,
};

/// A gRPC service that fields call: what it is called here and in Consul. One type for each, to
/// which its methods belong.
///
/// ```
/// use bff_engine::Upstream;
///
/// pub struct Catalog;
///
/// impl Upstream for Catalog {
///     const NAME: &'static str = "catalog";
///     const SERVICE: &'static str = "catalog-srv";
/// }
/// ```
pub trait Upstream: 'static {
    /// Its name in the configuration (`[upstreams.<name>]`), in errors and in metrics.
    const NAME: &'static str;
    /// Its service name in Consul, unless configured otherwise.
    const SERVICE: &'static str;
    /// Its methods, as `package.Service/Method`: what a configuration may name. Empty: not known.
    const METHODS: &'static [&'static str] = &[];
    /// The proto files that it comes from, as an encoded `FileDescriptorSet`: what a made-up service
    /// stands on. Empty: not known.
    const DESCRIPTORS: &'static [u8] = &[];
}

/// An upstream with a client of its own, which a build script makes of its proto files.
pub trait Typed: Upstream + Sized {
    /// Its methods, as a resolver calls them.
    type Client<'c>: From<crate::Client<'c, Self>>;
}

/// An [`Upstream`] as a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    pub(crate) name: &'static str,
    service: &'static str,
    methods: &'static [&'static str],
    /// The proto files it comes from.
    #[cfg(feature = "made-up")]
    pub(crate) descriptors: &'static [u8],
    id: TypeId,
}

impl Description {
    /// The description of `U`.
    pub(crate) fn of<U: Upstream>() -> Self {
        Self {
            name: U::NAME,
            service: U::SERVICE,
            methods: U::METHODS,
            #[cfg(feature = "made-up")]
            descriptors: U::DESCRIPTORS,
            id: TypeId::of::<U>(),
        }
    }

    /// The type it is the description of.
    pub(crate) fn id(&self) -> TypeId {
        self.id
    }

    /// The method nearest to `name`, if it has none of that name.
    pub(crate) fn unknown_method(&self, name: &str) -> Option<&'static str> {
        let short = |method: &'static str| method.rsplit('/').next().unwrap_or(method);
        let mut methods = self.methods.iter();
        if methods.any(|method| *method == name || short(method) == name) {
            return None;
        }
        let names = self.methods.iter().map(|method| short(method));
        names.min_by_key(|known| strsim::osa_distance(known, name))
    }

    /// `config` with what an operator need not say about this upstream.
    pub(crate) fn complete(&self, mut config: Config) -> Config {
        if config.service.is_none() && config.endpoints.is_none() {
            config.service = ServiceName::try_from(self.service.to_owned()).ok();
        }
        config.attempt_timeout = Some(config.attempt_timeout());
        config
    }
}

/// Every upstream's configuration by its name.
pub(crate) type Configs = BTreeMap<String, Config>;

/// Every upstream of this program, connected. Clones share them.
#[derive(Clone)]
pub(crate) struct Upstreams(Arc<Shared>);

struct Shared {
    entries: Vec<Entry>,
    /// Finds the instances of what is configured.
    find: Box<dyn Fn(&Config) -> Watch + Send + Sync>,
}

/// One upstream with the source of its instances.
struct Entry {
    id: TypeId,
    connected: Connected<Http2>,
    watch: Watch,
    /// Feeds `watch`.
    relay: Relay,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstreams")
    }
}

impl Upstreams {
    /// Starts to watch the instances of everything in `descriptions`. Nothing is sent yet, and
    /// nothing is waited for.
    ///
    /// Has to be called within a tokio runtime.
    pub(crate) fn connect<C: Catalog + Clone>(
        descriptions: &[Description],
        configs: &Configs,
        catalog: &C,
        times: WatchOptions,
        meter: &Meter,
        hooks: &Hooks,
    ) -> Self {
        let catalog = catalog.clone();
        let find = move |config: &Config| match (&config.endpoints, &config.service) {
            (Some(endpoints), _) => fixed::watch(endpoints),
            (None, Some(service)) => watch(catalog.clone(), service.clone(), times),
            // Validation asks for one of them.
            (None, None) => fixed::watch(&[]),
        };
        let entry = |description: &Description| {
            let config = configs.get(description.name).cloned();
            let config = description.complete(config.unwrap_or_default());
            let (relay, watch) = relay(find(&config));
            let balance = Balance::following(
                description.name,
                &config,
                Http2::new(&config),
                watch.clone(),
            );
            let connected =
                Connected::new(description.name, config, balance, meter, hooks.listeners());
            let around = |stack| hooks.around(description.id, stack);
            Entry {
                id: description.id,
                connected: connected.within(around),
                watch,
                relay,
            }
        };
        let upstreams = Self(Arc::new(Shared {
            entries: descriptions.iter().map(entry).collect(),
            find: Box::new(find),
        }));
        metrics::register(meter, &upstreams);
        upstreams
    }

    /// The upstream `U`; `None` if the program was built without it.
    pub(crate) fn get<U: Upstream>(&self) -> Option<&Connected<Http2>> {
        let id = TypeId::of::<U>();
        let mut entries = self.0.entries.iter();
        entries
            .find(|entry| entry.id == id)
            .map(|entry| &entry.connected)
    }

    /// How every upstream is doing at `now`: what readiness and metrics look at.
    pub(crate) fn status(&self, now: Instant) -> Vec<UpstreamStatus> {
        let entries = self.0.entries.iter();
        entries
            .map(|entry| UpstreamStatus::new(&entry.connected, &entry.watch.borrow(), now))
            .collect()
    }

    /// Makes `configs` effective from the next call on; calls in flight end as they began.
    /// Connections stay, unless it is they that are configured anew; another service or other
    /// addresses are used once there is an instance.
    pub(crate) fn apply(&self, configs: &Configs) {
        for entry in &self.0.entries {
            let Some(config) = configs.get(entry.connected.name()) else {
                continue;
            };
            let before = entry.connected.config();
            if *before == *config {
                continue;
            }
            entry.connected.apply(config);
            let http2 = Http2::new(config);
            if Http2::new(&before) != http2 {
                entry.connected.balance().reconnect(http2);
            }
            if (&before.service, &before.endpoints) != (&config.service, &config.endpoints) {
                let source = match &config.service {
                    Some(service) => format!("service {service}"),
                    None => "endpoints".to_owned(),
                };
                entry.relay.follow(source, (self.0.find)(config));
            }
        }
    }
}
