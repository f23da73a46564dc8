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

use std::sync::Arc;

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
    http::{Parts, Served, health::Readiness},
    rate_limit::Limiter,
    telemetry::metrics::Metrics,
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
    let upstreams = Upstreams::connect(&config.upstreams, &consul, times);
    let limiter = Arc::new(ArcSwap::from_pointee(Limiter::new(&config.rate_limit)));
    let metrics = Metrics::new()?;
    metrics.observe(&upstreams);
    metrics.observe_limits(&limiter);
    metrics.observe_config(&live);
    let readiness = Readiness::new(upstreams.clone(), live.clone(), Arc::clone(&limiter));
    let changing = Changing::new(config, upstreams, limiter);
    let router = http::router(Parts {
        served: Arc::clone(&changing.served),
        live: live.clone(),
        request_timeout: config.http.request_timeout,
        playground: config.graphql.playground,
        readiness: readiness.clone(),
        metrics,
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
    tokio::select! {
        served = serving => served.context("the listener failed"),
        // Never ends.
        () = live.each_change(|config| changing.apply(config)) => Ok(()),
    }
}

/// What follows the configuration while the program runs.
struct Changing {
    upstreams: Upstreams,
    limiter: Arc<ArcSwap<Limiter>>,
    served: Arc<ArcSwap<Served>>,
}

impl Changing {
    fn new(config: &Config, upstreams: Upstreams, limiter: Arc<ArcSwap<Limiter>>) -> Self {
        let served = Self::serve(config, &upstreams, &limiter);
        Self {
            served: Arc::new(ArcSwap::from_pointee(served)),
            upstreams,
            limiter,
        }
    }

    /// Puts `config` in force from the next call and the next request on.
    fn apply(&self, config: &Config) {
        self.upstreams.reconfigure(&config.upstreams);
        let limiter = self.limiter.load().reconfigured(&config.rate_limit);
        self.limiter.store(Arc::new(limiter));
        let served = Self::serve(config, &self.upstreams, &self.limiter);
        self.served.store(Arc::new(served));
    }

    fn serve(config: &Config, upstreams: &Upstreams, limiter: &Arc<ArcSwap<Limiter>>) -> Served {
        Served {
            schema: graphql::schema(&config.graphql, upstreams.clone(), Arc::clone(limiter)),
            clients: config.rate_limit.client.clone(),
        }
    }
}
