//! A program with its configuration: what it is made of, and serving it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
#[cfg(feature = "made-up")]
use futures_util::StreamExt;
use tokio::{net::TcpListener, time::timeout};
use tracing::info;

use super::{Bff, reload::Reload};
#[cfg(feature = "made-up")]
use crate::http::{Incoming, RequestData};
use crate::{
    config::{self, Live},
    discovery::{
        WatchOptions,
        consul::Consul,
        registration::{Registrar, Registration},
    },
    graphql::{Beyond, Execution},
    http::{
        self, AdminParts, Counts, InFlight, Lifecycle, Origins, Parts, Persisted, Playground,
        Proxies, SocketCounts, Tls, health::Readiness,
    },
    rate_limit,
    shutdown::{self, Ending},
    telemetry::{self, metrics::Metrics, trace::Tracing},
    upstream::Upstreams,
};

/// How long the last spans may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);
/// How long open answers of the admin listener may take at the end.
const ADMIN_CLOSE: Duration = Duration::from_millis(500);

/// A backend-for-frontend with its configuration, ready to serve.
#[derive(Debug)]
pub struct Server {
    bff: Bff,
    live: Live,
}

impl Server {
    pub(super) fn new(bff: Bff, live: Live) -> Self {
        Self { bff, live }
    }

    /// The effective configuration as it follows Nacos.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Binds the listeners that the configuration names: the public one and, unless it is `none`, the admin
    /// one.
    ///
    /// # Errors
    /// When an address cannot be bound; the error names its key.
    pub async fn bind(self) -> anyhow::Result<Bound> {
        let effective = self.live.now();
        let config = &effective.config;
        let origin = |section: &str| effective.origins.at([section, "listen"]);
        let listener = bind("http.listen", config.http.listen, origin("http")).await?;
        let admin = match config.admin.listen.0 {
            Some(addr) => Some(bind("admin.listen", addr, origin("admin")).await?),
            None => None,
        };
        Ok(Bound {
            server: self,
            listener,
            admin,
        })
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
            beyond: Beyond::new(&meter),
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
        let persisted = Persisted::new(
            config.documents.as_ref(),
            live.published_elsewhere(),
            &meter,
        )?;
        let readiness = Readiness::new(
            reload.upstreams.clone(),
            Arc::new(live.clone()),
            Arc::clone(&reload.limiter),
            persisted.clone(),
        );
        let lifecycle = Lifecycle::default();
        let tls = config.http.tls.as_ref().map(|tls| Tls::new(tls, &meter));
        let tls = tls.transpose()?;
        let connections = Counts::new(&meter);
        let sockets = SocketCounts::new(config.http.max_streams, &meter);
        let router = http::router(Parts {
            served: Arc::clone(&reload.served),
            execution: execution.clone(),
            data: bff.data.clone(),
            routes: bff.routes,
            request_timeout: config.http.request_timeout,
            header_timeout: config.http.header_timeout,
            proxies: Proxies::new(&config.http.trusted_proxies),
            origins: Origins::new(config.http.cors.as_ref()),
            persisted,
            in_flight: InFlight::new(config.http.max_in_flight, &meter),
            max_batch: config.http.max_batch,
            lifecycle: lifecycle.clone(),
            sockets,
            playground: config.graphql.playground.then(|| Playground {
                files: config.graphql.playground_files.clone(),
                operations: reload.operations(),
            }),
            readiness: readiness.clone(),
            meter,
            tracing,
        });
        Ok(Assembled {
            router,
            tls,
            reload,
            admin: AdminParts {
                config: Arc::new(live.clone()),
                readiness,
                metrics,
            },
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

/// A listener and its address.
#[derive(Debug)]
struct Listening {
    listener: TcpListener,
    addr: SocketAddr,
}

async fn bind(key: &str, addr: SocketAddr, origin: Option<&str>) -> anyhow::Result<Listening> {
    let wrong = || {
        let origin = origin.unwrap_or("default");
        format!("{key} ({origin}): cannot listen on {addr}")
    };
    let listener = TcpListener::bind(addr).await.with_context(wrong)?;
    let addr = listener.local_addr().with_context(wrong)?;
    Ok(Listening { listener, addr })
}

/// A server that has its ports and accepts nothing yet.
#[derive(Debug)]
pub struct Bound {
    server: Server,
    listener: Listening,
    admin: Option<Listening>,
}

impl Bound {
    /// Where the frontend reaches it.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr
    }

    /// Where operators do.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.addr)
    }

    /// Serves until `stop`, then drains.
    ///
    /// Consul, and with it every upstream, may be away when this starts: it serves what it can and
    /// picks the rest up later. What can change while it runs follows the configuration.
    ///
    /// # Errors
    /// When the configuration cannot be put to work: a token file that cannot be read, a wildcard
    /// listener without `consul.advertise`.
    pub async fn serve(
        self,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let Self {
            server,
            listener: Listening { listener, addr },
            admin,
        } = self;
        let live = server.live.clone();
        let effective = live.now();
        let config = &effective.config;
        let consul = Consul::new(&config.consul)?;
        let registration = match config.consul.register {
            true => {
                let registration =
                    Registration::new(&config.consul, addr, config.http.tls.is_some());
                Some(registration.map_err(anyhow::Error::msg)?)
            }
            false => None,
        };
        let Assembled {
            router,
            tls,
            reload,
            admin: admin_parts,
            lifecycle,
            connections,
            ..
        } = server.assemble(&consul)?;
        // Last, so that a start that fails leaves no entry behind.
        let registrar = registration.map(|registration| {
            Registrar::start(consul.clone(), registration, config.consul.heartbeat)
        });
        info!(address = %addr, consul = %consul.address(), "serving");
        let ending = Ending {
            readiness: admin_parts.readiness.clone(),
            registrar,
            lifecycle,
        };
        let serving = shutdown::serve_until(
            listener,
            (router, tls),
            &config.http,
            connections,
            stop,
            ending,
        );
        // It answers until the last request of the others is over.
        let admin_lifecycle = Lifecycle::default();
        let administering = async {
            if let Some(Listening { listener, addr }) = admin {
                info!(address = %addr, "operators are answered");
                let router = http::admin::router(admin_parts, addr);
                let (limits, counts) = (http::admin::LIMITS, Counts::unseen());
                http::serve(listener, None, router, limits, counts, &admin_lifecycle).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = serving => {}
            // Never end.
            () = administering => {}
            () = live.each_change(effective.generation, |rules| reload.apply(rules)) => {}
        }
        // A page that is being read may be read to its end.
        let _ = timeout(ADMIN_CLOSE, admin_lifecycle.close()).await;
        reload.tracing.flush(FLUSH_TIMEOUT).await;
        Ok(())
    }
}

/// What answers requests, without a listener.
pub(crate) struct Assembled {
    pub(crate) router: Router,
    tls: Option<Tls>,
    reload: Reload,
    admin: AdminParts,
    pub(crate) lifecycle: Lifecycle,
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
    ) -> futures_util::stream::BoxStream<'static, crate::graphql::Written> {
        let served = self.reload.served.load_full();
        let incoming = Incoming {
            headers,
            peer,
            trusted: true,
            connection_init: Some(&serde_json::Value::Null),
        };
        // It names no header, so none can be spoilt.
        let session = http::session(&served, &self.data, &incoming).unwrap_or_default();
        let (execution, timeout) = (self.execution.clone(), self.request_timeout);
        let started = async move {
            let span = crate::telemetry::trace::Span::default();
            let answers = crate::graphql::execute_stream(
                &served.executable,
                &execution,
                request,
                crate::graphql::Takes::All,
                Arc::new(session),
                timeout,
                &span,
            );
            match answers.await {
                Ok(answers) => answers.boxed(),
                Err(refused) => {
                    let answer = crate::graphql::Written::errors(&refused.0);
                    futures_util::stream::iter([answer]).boxed()
                }
            }
        };
        futures_util::stream::once(started).flatten().boxed()
    }
}
