//! A GraphQL backend-for-frontend over gRPC services found in Consul.
//!
//! The rooms in reading order: a request comes in through [`http`], is executed by [`graphql`],
//! whose resolvers call the typed clients of [`upstream`], each over the stack of [`resilience`]
//! and the instances that [`balance`] chooses from what [`discovery`] found. [`serve`] is the
//! whole chain; the program and the tests enter through the same door.

pub mod balance;
pub mod cli;
pub mod config;
pub mod discovery;
pub mod graphql;
pub mod http;
pub mod rate_limit;
pub mod resilience;
pub mod shutdown;
#[cfg(test)]
mod simulation;
pub mod telemetry;
pub mod upstream;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tracing::info;

pub use self::config::{Config, Live};
use self::{
    discovery::{
        WatchOptions,
        consul::Consul,
        registration::{Registrar, Registration},
    },
    graphql::Execution,
    http::{Parts, Served, health::Readiness},
    rate_limit::Limiter,
    telemetry::{metrics::Metrics, trace::Tracing},
    upstream::Upstreams,
};

/// Serves on `listener` until `stop`, then drains.
///
/// Consul, and with it every upstream, may be away when this starts: it serves what it can and
/// picks the rest up later. What can change while it runs follows `live`.
///
/// # Errors
/// When the configuration cannot be put to work (a token file that cannot be read, a wildcard
/// listener without `consul.advertise`) or the listener fails.
pub async fn serve(
    listener: TcpListener,
    live: Live,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let bound = listener
        .local_addr()
        .context("the listener has no address")?;
    let in_force = live.now();
    let config = &in_force.config;
    let consul = Consul::new(&config.consul)?;
    let registrar = match config.consul.register {
        true => {
            let registration =
                Registration::new(&config.consul, bound).map_err(anyhow::Error::msg)?;
            Some(Registrar::start(
                consul.clone(),
                registration,
                config.consul.heartbeat,
            ))
        }
        false => None,
    };
    let times = WatchOptions {
        wait: config.consul.wait,
        empty_hold: config.consul.empty_hold,
    };
    let metrics = Metrics::new()?;
    let tracing = Tracing::new(&config.telemetry)?;
    let upstreams = Upstreams::connect(&config.upstreams, &consul, times, &metrics.meter());
    let limiter = Arc::new(ArcSwap::from_pointee(Limiter::new(&config.rate_limit)));
    metrics.observe(&upstreams);
    metrics.observe_limits(&limiter);
    metrics.observe_config(&live);
    let readiness = Readiness::new(upstreams.clone(), live.clone(), Arc::clone(&limiter));
    let execution = Execution {
        documents: Arc::default(),
        slow: config.log.slow_operation,
        errors: metrics
            .meter()
            .u64_counter("bff.graphql.errors")
            .with_description("Errors in answers by code; REQUEST for those of the request itself.")
            .build(),
    };
    metrics.observe_documents(&execution.documents);
    metrics.observe_spans(&tracing);
    let changing = Changing::new(config, upstreams, limiter, execution, tracing.clone());
    let router = http::router(Parts {
        served: Arc::clone(&changing.served),
        live: live.clone(),
        request_timeout: config.http.request_timeout,
        playground: config.graphql.playground,
        readiness: readiness.clone(),
        metrics,
        tracing: tracing.clone(),
    });
    info!(address = %bound, consul = %consul.address(), "serving");
    let serving = shutdown::serve_until(
        listener,
        router,
        stop,
        readiness,
        registrar,
        config.http.drain_timeout,
    );
    let outcome = tokio::select! {
        served = serving => served.context("the listener failed"),
        // Never ends.
        () = live.each_change(in_force.generation, |config| changing.apply(config)) => Ok(()),
    };
    tracing.flush(FLUSH_TIMEOUT).await;
    outcome
}

/// How long the last spans may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);

/// What follows the configuration while the program runs.
struct Changing {
    upstreams: Upstreams,
    limiter: Arc<ArcSwap<Limiter>>,
    served: Arc<ArcSwap<Served>>,
    execution: Execution,
    tracing: Tracing,
}

impl Changing {
    fn new(
        config: &Config,
        upstreams: Upstreams,
        limiter: Arc<ArcSwap<Limiter>>,
        execution: Execution,
        tracing: Tracing,
    ) -> Self {
        let served = Self::serve(config, &upstreams, &limiter, &execution);
        Self {
            served: Arc::new(ArcSwap::from_pointee(served)),
            upstreams,
            limiter,
            execution,
            tracing,
        }
    }

    /// Puts `config` in force from the next call and the next request on.
    fn apply(&self, config: &Config) {
        self.upstreams.reconfigure(&config.upstreams);
        let limiter = self.limiter.load().reconfigured(&config.rate_limit);
        self.limiter.store(Arc::new(limiter));
        self.tracing.set_ratio(config.telemetry.sample_ratio);
        let served = Self::serve(config, &self.upstreams, &self.limiter, &self.execution);
        self.served.store(Arc::new(served));
    }

    fn serve(
        config: &Config,
        upstreams: &Upstreams,
        limiter: &Arc<ArcSwap<Limiter>>,
        execution: &Execution,
    ) -> Served {
        Served {
            execution: execution.clone(),
            schema: graphql::schema(&config.graphql, upstreams.clone(), Arc::clone(limiter)),
            clients: config.rate_limit.client.clone(),
        }
    }
}
