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

pub use self::config::Config;
use self::{
    discovery::{
        WatchOptions,
        consul::Consul,
        registration::{Registrar, Registration},
    },
    http::{Parts, health::Readiness},
    rate_limit::Limiter,
    telemetry::metrics::Metrics,
    upstream::Upstreams,
};

/// Serves on `listener` until `stop`, then drains.
///
/// Consul, and with it every upstream, may be away when this starts: it serves what it can and
/// picks the rest up later.
///
/// # Errors
/// When the configuration cannot be put to work (a token file that cannot be read, a wildcard
/// listener without `consul.advertise`) or the listener fails.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let bound = listener
        .local_addr()
        .context("the listener has no address")?;
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
    let readiness = Readiness::new(upstreams.clone());
    let router = http::router(Parts {
        schema: graphql::schema(&config.graphql, upstreams, limiter),
        clients: config.rate_limit.client.clone(),
        request_timeout: config.http.request_timeout,
        playground: config.graphql.playground,
        readiness: readiness.clone(),
        metrics,
    });
    info!(address = %bound, consul = %consul.address(), "serving");
    shutdown::serve_until(
        listener,
        router,
        stop,
        readiness,
        registrar,
        config.http.drain_timeout,
    )
    .await
    .context("the listener failed")
}
