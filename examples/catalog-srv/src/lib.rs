//! The catalog behind the shop of the examples: fifty products of ten sellers, in memory. It can be
//! found in Consul and by gRPC reflection.

mod consul;
mod service;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod protos {
    tonic::include_proto!("protos");

    pub(crate) const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport::{Server, server::TcpIncoming};

use self::{protos::shop::catalog::v1::catalog_server::CatalogServer, service::CatalogService};

/// The catalog of the shop example.
#[derive(Clone, Debug, clap::Parser)]
pub struct Options {
    /// Where it listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The Consul agent it registers itself at.
    #[arg(long, value_name = "URL")]
    pub consul: Option<String>,
    /// The name it registers under.
    #[arg(long, default_value = "catalog-srv")]
    pub service: String,
}

/// Listens, says where on standard output, and serves until `stop`; errors go to standard error.
pub async fn start(options: Options, stop: impl Future<Output = ()>) -> ExitCode {
    match serve(options, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("catalog-srv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let bound = listener.local_addr()?;
    println!("listening on {bound}");
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CatalogServer<CatalogService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(protos::DESCRIPTORS)
        .build_v1()?;
    let (drain, drained) = oneshot::channel::<()>();
    let server = Server::builder()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(CatalogServer::new(CatalogService::default()))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            async {
                // A sender that is gone means the same as a message.
                let _ = drained.await;
            },
        );
    let mut server = tokio::spawn(server);
    let entry = match &options.consul {
        Some(consul) => Some(consul::register(consul, &options.service, bound).await?),
        None => None,
    };
    tokio::select! {
        () = stop => {}
        ended = &mut server => return ended?.context("the listener failed"),
    }
    if let Some(entry) = entry {
        entry.remove().await?;
    }
    let _ = drain.send(());
    // A price that is watched never ends by itself.
    server.abort();
    Ok(())
}
