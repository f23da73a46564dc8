//! The greeter: a gRPC service that greets, says how it feels, and can be found in Consul.
//!
//! [`run`] is the whole program behind its socket and its stop signal, so that tests and `main`
//! share one door.

mod options;
mod registration;
mod service;
mod shutdown;
mod telemetry;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use proto::helloworld::greeter_server::GreeterServer;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{sleep, timeout},
};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::ServingStatus;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

pub use self::{options::Options, shutdown::signal};
use self::{
    registration::{Registrar, Registration},
    service::GreeterService,
    telemetry::Tracing,
};

/// Runs with the process's arguments until a signal: what the program's `main` does.
pub async fn main() -> ExitCode {
    start(Options::parse(), signal()).await
}

/// Logs, listens, says where on standard output, and [`run`]s; errors go to standard error.
pub async fn start(options: Options, stop: impl Future<Output = ()>) -> ExitCode {
    // consulrs and rustify write lines for every call; their errors reach the log through us.
    let quiet = "consulrs=off,rustify=off,opentelemetry=off";
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{filter},{quiet}")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "the log was started before");
    }
    let outcome = async {
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        // The one line on standard output, for callers that asked for port 0.
        println!("listening on {}", listener.local_addr()?);
        run(listener, options, stop).await
    };
    match outcome.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("greeter-srv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves on `listener` until `stop`, then drains: NOT_SERVING and out of Consul, while everything is served as
/// before for `options.drain_delay`; then no new calls, and the open ones finish. All of it takes at most
/// `options.drain_timeout`; a signal meanwhile ends it at once.
///
/// # Errors
/// When the options cannot be put to work or the listener fails.
pub async fn run(
    listener: TcpListener,
    options: Options,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let bound = listener
        .local_addr()
        .context("the listener has no address")?;
    let registration = Registration::new(&options, bound)?;
    let tracing = Tracing::new(options.otlp.as_deref()).context("--otlp")?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GreeterServer<GreeterService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the descriptors of the services cannot be read")?;

    let (drain, drained) = oneshot::channel::<()>();
    // An answer is several small frames: none of them should wait for the other side's
    // acknowledgement of the one before, which may take forty milliseconds.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .layer(tracing.layer())
        .add_service(health_service)
        .add_service(reflection)
        .add_service(GreeterServer::new(GreeterService::new(&options)))
        .serve_with_incoming_shutdown(incoming, async {
            // A sender that is gone means the same as a message.
            let _ = drained.await;
        });
    let mut server = tokio::spawn(server);
    info!(address = %bound, "serving");
    let registrar = registration.map(Registrar::start);

    tokio::select! {
        () = stop => {}
        ended = &mut server => {
            // Nothing stopped it: whatever it was, it is over.
            if let Some(registrar) = registrar {
                registrar.deregister().await;
            }
            return ended.context("the server panicked")?.context("the listener failed");
        }
    }
    info!("stopping: no longer healthy, serving what still comes");
    let phases = async {
        health
            .set_not_serving::<GreeterServer<GreeterService>>()
            .await;
        health
            .set_service_status("", ServingStatus::NotServing)
            .await;
        let deregistered = async {
            if let Some(registrar) = registrar {
                registrar.deregister().await;
            }
        };
        // Of a short time, half is for calls that are open.
        let delay = options.drain_delay.min(options.drain_timeout / 2);
        let (in_time, ()) =
            tokio::join!(timeout(delay.max(DEREGISTER), deregistered), pause(delay));
        if in_time.is_err() {
            warn!("Consul does not answer, it will remove the entry after its critical time");
        }
        info!("finishing open calls");
        let _ = drain.send(());
        (&mut server).await
    };
    let drained = tokio::select! {
        drained = timeout(options.drain_timeout, phases) => drained.ok(),
        () = signal() => None,
    };
    tracing.flush().await;
    match drained {
        Some(ended) => ended
            .context("the server panicked")?
            .context("the listener failed"),
        None => {
            warn!("not all is over, stopping anyway");
            Ok(())
        }
    }
}

/// How long Consul may take at least to take the entry out.
const DEREGISTER: std::time::Duration = std::time::Duration::from_secs(3);

/// A pause that a test may make as short as nothing.
async fn pause(duration: std::time::Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}
