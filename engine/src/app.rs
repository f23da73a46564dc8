//! The program as a whole: what its owner brings, put together with everything else.

use std::{any::Any, collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use async_graphql::{ObjectType, SchemaBuilder, SubscriptionType};
use axum::Router;
#[cfg(feature = "made-up")]
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tower::{Layer, Service};
use tracing::info;

use crate::{
    call::{Call, Failed, Reply},
    config::{self, Known, Live, Problem, Problems, Rules, Sources, SourcesRead},
    discovery::{
        WatchOptions,
        consul::Consul,
        registration::{Registrar, Registration},
    },
    graphql::{Execution, SchemaSource},
    http::{
        self, Counts, InFlight, Incoming, Lifecycle, Origins, Parts, RequestData, Served,
        SocketCounts, health::Readiness,
    },
    rate_limit::{self, Limiter},
    resilience::{Stack, breaker::BreakerChange},
    shutdown::{self, Ending},
    telemetry::{self, metrics::Metrics, trace::Tracing},
    upstream::{Description, Hooks, Upstream, Upstreams},
};

/// How long the last spans may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);

/// A backend-for-frontend: a name, a schema, and the upstreams that its resolvers call.
pub struct Bff {
    name: &'static str,
    schema: SchemaSource,
    upstreams: Vec<Description>,
    hooks: Hooks,
    data: RequestData,
    routes: Router,
}

impl Bff {
    /// One called `name` on the command line that serves what `schema` begins to build. It is asked
    /// again whenever limits change.
    pub fn new<Q, M, S>(
        name: &'static str,
        schema: impl Fn() -> SchemaBuilder<Q, M, S> + Send + Sync + 'static,
    ) -> Self
    where
        Q: ObjectType + 'static,
        M: ObjectType + 'static,
        S: SubscriptionType + 'static,
    {
        Self {
            name,
            schema: SchemaSource::new(schema),
            upstreams: Vec::new(),
            hooks: Hooks::default(),
            data: RequestData::default(),
            routes: Router::new(),
        }
    }

    /// The same with an upstream for its resolvers to call. Its section of the configuration,
    /// `[upstreams.<name>]`, comes with it.
    pub fn upstream<U: Upstream>(mut self) -> Self {
        self.upstreams.push(Description::of::<U>());
        self
    }

    /// The same with data that resolvers find as `ctx.data::<D>()`: made of each request, and over a
    /// WebSocket of each connection.
    pub fn data<D: Any + Send + Sync>(
        mut self,
        make: impl Fn(&Incoming<'_>) -> D + Send + Sync + 'static,
    ) -> Self {
        self.data.add(make);
        self
    }

    /// The same with routes of the owner's beside its own. They are traced and measured like those.
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// The same with a tower layer around the calls to the upstream `U`: outermost, so that it sees a
    /// call once and not its attempts. Of two layers the later one is the outer one.
    pub fn layer<U: Upstream, L>(mut self, layer: L) -> Self
    where
        L: Layer<Stack> + Send + Sync + 'static,
        L::Service: Service<
                Call,
                Response = Reply,
                Error = Failed,
                Future: Future<Output = Result<Reply, Failed>> + Send + 'static,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        self.hooks.add_layer::<U, L>(layer);
        self
    }

    /// The same with a listener that is told of every change of a breaker's state, in order. It is
    /// called on the way of the call that made the change, so it must not wait.
    pub fn on_breaker_change(
        mut self,
        listener: impl Fn(&BreakerChange) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.add_listener(listener);
        self
    }

    /// The schema in the schema definition language.
    pub fn sdl(&self) -> &str {
        self.schema.sdl()
    }

    /// The upstreams that its resolvers call.
    #[cfg(feature = "made-up")]
    pub(crate) fn upstreams(&self) -> &[Description] {
        &self.upstreams
    }

    /// The name it has on the command line.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What a configuration of it may name.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::new(Known {
            upstreams: self.upstreams.clone(),
            coordinates: self.schema.coordinates(),
        })
    }

    /// Reads the configuration, Nacos included, and gets ready to serve: for tests, and for a `main` of
    /// one's own. [`main`](Self::main) does this, and reads the process's arguments, sets up the log and
    /// stops on signals.
    ///
    /// # Errors
    /// [`Problems`], all that the sources have.
    pub async fn build(self, sources: &Sources) -> Result<Server, Problems> {
        let live = Live::start(self.read(sources)?).await?;
        Ok(Server { bff: self, live })
    }

    /// The same without Nacos, whatever the sources say.
    #[cfg(feature = "made-up")]
    pub(crate) fn build_alone(self, sources: &Sources) -> Result<Server, Problems> {
        let live = Live::alone(&self.read(sources)?)?;
        Ok(Server { bff: self, live })
    }

    fn read(&self, sources: &Sources) -> Result<SourcesRead, Problems> {
        let layer = self.hooks.around_none_of(&self.upstreams).map(|name| {
            format!(
                "there is a layer around the upstream {name}, and no such upstream: add it by .upstream()"
            )
        });
        if let Some(message) = self.schema.problem().map(str::to_owned).or(layer) {
            return Err(Problems(vec![Problem {
                key: String::new(),
                origin: None,
                message,
            }]));
        }
        sources.read(self.known())
    }
}

impl std::fmt::Debug for Bff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bff").field("name", &self.name).finish()
    }
}

/// A backend-for-frontend with its configuration, ready to serve.
#[derive(Debug)]
pub struct Server {
    bff: Bff,
    live: Live,
}

impl Server {
    /// The address that the configuration wants it to listen on.
    pub fn listen(&self) -> SocketAddr {
        self.live.now().config.http.listen
    }

    /// The effective configuration as it follows Nacos.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Serves on `listener` until `stop`, then drains.
    ///
    /// Consul, and with it every upstream, may be away when this starts: it serves what it can and
    /// picks the rest up later. What can change while it runs follows the configuration.
    ///
    /// # Errors
    /// When the configuration cannot be put to work: a token file that cannot be read, a wildcard
    /// listener without `consul.advertise`.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let bound = listener
            .local_addr()
            .context("the listener has no address")?;
        let live = self.live.clone();
        let effective = live.now();
        let config = &effective.config;
        let consul = Consul::new(&config.consul)?;
        let registration = match config.consul.register {
            true => {
                let registration = Registration::new(&config.consul, bound);
                Some(registration.map_err(anyhow::Error::msg)?)
            }
            false => None,
        };
        let Assembled {
            router,
            reload,
            readiness,
            lifecycle,
            connections,
            ..
        } = self.assemble(&consul)?;
        // Last, so that a start that fails leaves no entry behind.
        let registrar = registration.map(|registration| {
            Registrar::start(consul.clone(), registration, config.consul.heartbeat)
        });
        info!(address = %bound, consul = %consul.address(), "serving");
        let ending = Ending {
            readiness,
            registrar,
            lifecycle,
        };
        let serving =
            shutdown::serve_until(listener, router, &config.http, connections, stop, ending);
        tokio::select! {
            () = serving => {}
            // Never ends.
            () = live.each_change(effective.generation, |rules| reload.apply(rules)) => {}
        }
        reload.tracing.flush(FLUSH_TIMEOUT).await;
        Ok(())
    }

    /// Puts everything together that answers requests; upstreams are watched from now on.
    pub(crate) fn assemble(self, consul: &Consul) -> anyhow::Result<Assembled> {
        let Self { bff, live } = self;
        let effective = live.now();
        let config = &effective.config;
        let times = WatchOptions {
            wait: config.consul.wait,
            empty_hold: config.consul.empty_hold,
        };
        let service = config.consul.service.as_str();
        let metrics = Metrics::new(service)?;
        let meter = metrics.meter();
        let tracing = Tracing::new(&config.telemetry, service, &meter)?;
        let upstreams = Upstreams::connect(
            &bff.upstreams,
            &config.upstreams,
            consul,
            times,
            &meter,
            &bff.hooks,
        );
        bff.schema.register(&meter);
        let execution = Execution {
            slow: config.log.slow_operation,
            errors: meter
                .u64_counter("bff.graphql.errors")
                .with_description(
                    "Errors in answers by code; OTHER for those of the owner's resolvers.",
                )
                .build(),
        };
        config::register(&meter, &live);
        telemetry::register(&meter);
        let reload = Reload::new(bff.schema, &config.rules(), upstreams, tracing.clone());
        rate_limit::register(&meter, &reload.limiter);
        let readiness = Readiness::new(
            reload.upstreams.clone(),
            Arc::new(live.clone()),
            Arc::clone(&reload.limiter),
        );
        let lifecycle = Lifecycle::default();
        let connections = Counts::new(&meter);
        let sockets = SocketCounts::new(&meter);
        let router = http::router(Parts {
            served: Arc::clone(&reload.served),
            execution: execution.clone(),
            data: bff.data.clone(),
            routes: bff.routes,
            config: Arc::new(live.clone()),
            request_timeout: config.http.request_timeout,
            header_timeout: config.http.header_timeout,
            origins: Origins::new(config.http.cors.as_ref()),
            in_flight: InFlight::new(config.http.max_in_flight, &meter),
            lifecycle: lifecycle.clone(),
            sockets,
            playground: config.graphql.playground,
            readiness: readiness.clone(),
            metrics,
            tracing,
        });
        Ok(Assembled {
            router,
            reload,
            readiness,
            lifecycle,
            connections,
            #[cfg(feature = "made-up")]
            data: bff.data,
            #[cfg(feature = "made-up")]
            execution,
            #[cfg(feature = "made-up")]
            request_timeout: config.http.request_timeout,
        })
    }
}

/// What answers requests, without a listener.
pub(crate) struct Assembled {
    pub(crate) router: Router,
    reload: Reload,
    readiness: Readiness,
    lifecycle: Lifecycle,
    connections: Counts,
    #[cfg(feature = "made-up")]
    data: RequestData,
    #[cfg(feature = "made-up")]
    execution: Execution,
    #[cfg(feature = "made-up")]
    request_timeout: Duration,
}

#[cfg(feature = "made-up")]
impl Assembled {
    /// The answers to `request`, as over a WebSocket that began with `headers`.
    pub(crate) fn subscribe(
        &self,
        request: async_graphql::Request,
        headers: &axum::http::HeaderMap,
        peer: SocketAddr,
    ) -> futures_util::stream::BoxStream<'static, async_graphql::Response> {
        let served = self.reload.served.load_full();
        let incoming = Incoming {
            headers,
            peer,
            connection_init: Some(&serde_json::Value::Null),
        };
        // It names no header, so none can be spoilt.
        let session = http::session(&served, &self.data, &incoming).unwrap_or_default();
        let answers = crate::graphql::execute_stream(
            &served.executable,
            &self.execution,
            request,
            crate::graphql::Takes::All,
            Arc::new(session),
            self.request_timeout,
            &crate::telemetry::trace::Span::default(),
        );
        match answers {
            Ok(answers) => answers.boxed(),
            Err(refused) => {
                let answer = async_graphql::Response::from_errors(refused.0);
                futures_util::stream::iter([answer]).boxed()
            }
        }
    }
}

/// What follows the configuration while the program runs.
struct Reload {
    schema: SchemaSource,
    upstreams: Upstreams,
    limiter: Arc<ArcSwap<Limiter>>,
    served: Arc<ArcSwap<Served>>,
    tracing: Tracing,
}

impl Reload {
    fn new(schema: SchemaSource, rules: &Rules, upstreams: Upstreams, tracing: Tracing) -> Self {
        let limiter = Arc::new(Limiter::new(&rules.rate_limit));
        let served = serve(&schema, rules, &upstreams, &limiter);
        Self {
            schema,
            upstreams,
            limiter: Arc::new(ArcSwap::new(limiter)),
            served: Arc::new(ArcSwap::from_pointee(served)),
            tracing,
        }
    }

    /// Makes `rules` effective from the next call and the next request on.
    fn apply(&self, rules: &Rules) {
        self.upstreams.apply(&rules.upstreams);
        self.tracing.set_ratio(rules.sample_ratio);
        let limiter = Arc::new(self.limiter.load().reconfigured(&rules.rate_limit));
        let served = serve(&self.schema, rules, &self.upstreams, &limiter);
        self.limiter.store(limiter);
        self.served.store(Arc::new(served));
    }
}

/// What requests are executed with under `rules`.
fn serve(
    schema: &SchemaSource,
    rules: &Rules,
    upstreams: &Upstreams,
    limiter: &Arc<Limiter>,
) -> Served {
    let configs = rules.upstreams.values();
    let forward: HashSet<_> = configs.flat_map(|upstream| &upstream.forward).collect();
    Served {
        executable: schema.build(&rules.graphql, upstreams.clone(), Arc::clone(limiter)),
        clients: rules.rate_limit.client.clone(),
        forward: forward.into_iter().cloned().collect(),
    }
}
