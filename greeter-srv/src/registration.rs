//! This instance's entry in Consul: the only file that names the Consul client library.

use std::{net::SocketAddr, panic::AssertUnwindSafe, time::Duration};

use anyhow::{Context, bail};
use consulrs::{
    api::{
        self,
        check::common::AgentServiceCheckBuilder,
        service::{
            common::AgentWeights,
            requests::{ReadServiceRequest, RegisterServiceRequest},
        },
    },
    client::{ConsulClient, ConsulClientSettings},
    error::ClientError,
    service,
};
use futures_util::FutureExt;
use proto::helloworld::greeter_server;
use reqwest_011 as reqwest;
use rustify::clients::reqwest::Client as HttpClient;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::Options;

/// How long the agent may take to answer.
const AGENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a lasting failure is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What is registered, and where.
pub(crate) struct Registration {
    client: ConsulClient,
    /// Unique per instance: service, host and port. A restart at the same address replaces its
    /// predecessor instead of leaving it behind.
    id: String,
    options: Options,
    address: SocketAddr,
}

impl Registration {
    /// The entry of an instance that listens on `bound`; `None` if no Consul is named.
    ///
    /// # Errors
    /// When `bound` is a wildcard address and nothing says where this instance is reached, the
    /// service's name cannot stand in a URL, or the HTTP client cannot be built.
    pub(crate) fn new(options: &Options, bound: SocketAddr) -> anyhow::Result<Option<Self>> {
        let Some(consul) = options.consul.clone() else {
            return Ok(None);
        };
        let address = options.advertise.unwrap_or(bound);
        if address.ip().is_unspecified() {
            bail!(
                "--listen {bound} is every address and so none that others could reach: \
                 add --advertise"
            );
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if options.service.is_empty() || !options.service.bytes().all(allowed) {
            bail!(
                "--service {}: use the characters A-Z a-z 0-9 . _ -",
                options.service
            );
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(AGENT_TIMEOUT)
            .timeout(AGENT_TIMEOUT)
            .build()
            .context("the HTTP client for Consul cannot be built")?;
        let client = ConsulClient {
            http: HttpClient::new(&consul, http),
            settings: ConsulClientSettings {
                address: consul,
                ca_certs: vec![],
                client_cert: None,
                client_key: None,
                token: options.consul_token.clone(),
                verify: true,
                version: 1,
            },
        };
        let id = format!("{}-{address}", options.service).replace([':', '[', ']'], "-");
        Ok(Some(Self {
            client,
            id,
            options: options.clone(),
            address,
        }))
    }

    async fn register(&self) -> Result<(), String> {
        let check = AgentServiceCheckBuilder::default()
            .name(format!("{} health", self.options.service))
            .grpc(format!("{}/{}", self.address, greeter_server::SERVICE_NAME))
            .interval(go_duration(self.options.check_interval))
            .timeout(go_duration(self.options.check_interval.min(AGENT_TIMEOUT)))
            .deregister_critical_service_after(go_duration(self.options.deregister_critical_after))
            .build()
            .map_err(|error| error.to_string())?;
        let weights = AgentWeights {
            passing: Some(self.options.weight.into()),
            warning: Some(1),
        };
        let mut request = RegisterServiceRequest::builder();
        request
            .id(&*self.id)
            .address(self.address.ip().to_string())
            .port(self.address.port())
            .weights(weights)
            .check(check);
        let name = &self.options.service;
        guarded(service::register(&self.client, name, Some(&mut request)))
            .await
            .map_err(explain)
    }

    async fn is_registered(&self) -> Result<bool, String> {
        let endpoint = ReadServiceRequest {
            name: self.id.clone(),
            ..Default::default()
        };
        // Raw: the library cannot read what a real agent answers (its tagged addresses).
        match guarded(api::exec_with_raw(&self.client, endpoint)).await {
            Ok(()) => Ok(true),
            Err(Failure::Client(ClientError::APIError { code: 404, .. })) => Ok(false),
            Err(failure) => Err(explain(failure)),
        }
    }

    async fn ensure(&self, registered: bool) -> Result<(), String> {
        // The first time in any case: an entry with our id may be a predecessor's, with its check.
        if registered && self.is_registered().await? {
            return Ok(());
        }
        self.register().await?;
        info!(id = self.id, "registered");
        Ok(())
    }
}

/// A registration that is kept up until it is [ended](Registrar::deregister).
pub(crate) struct Registrar {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Registrar {
    /// Registers now, and again whenever the agent turns out to have forgotten it.
    pub(crate) fn start(registration: Registration) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            stop,
            task: tokio::spawn(keep(registration, stopped)),
        }
    }

    /// Removes the entry. Takes at most as long as three requests to the agent may.
    pub(crate) async fn deregister(self) {
        // A task that is gone has nothing registered that it could remove.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn keep(registration: Registration, mut stopped: oneshot::Receiver<()>) {
    let mut registered = false;
    let mut complained: Option<Instant> = None;
    loop {
        match registration.ensure(registered).await {
            Ok(()) => registered = true,
            Err(problem) if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) => {
                complained = Some(Instant::now());
                warn!(
                    id = registration.id,
                    problem, "the registration in Consul cannot be kept up, trying again"
                );
            }
            Err(_) => {}
        }
        tokio::select! {
            _ = &mut stopped => break,
            () = sleep(registration.options.heartbeat) => {}
        }
    }
    let id = &registration.id;
    match guarded(service::deregister(&registration.client, id, None)).await {
        Ok(()) => info!(id, "deregistered"),
        Err(failure) => warn!(
            id,
            problem = explain(failure),
            "could not be deregistered, Consul removes the entry after its critical time"
        ),
    }
}

enum Failure {
    Client(ClientError),
    Elapsed,
    /// The library panics on response headers that are no text.
    Panicked,
}

/// Runs a call of the client library within its time, panics caught.
async fn guarded<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<(), Failure> {
    match timeout(AGENT_TIMEOUT, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => Err(Failure::Client(error)),
        Ok(Err(_)) => Err(Failure::Panicked),
        Err(_) => Err(Failure::Elapsed),
    }
}

fn explain(failure: Failure) -> String {
    match failure {
        Failure::Client(ClientError::APIError { code, message }) => {
            format!(
                "Consul answered {code}: {}",
                message.unwrap_or_default().trim()
            )
        }
        Failure::Client(error) => format!(
            "the request to Consul failed: {}",
            anyhow::Error::new(error).root_cause()
        ),
        Failure::Elapsed => "Consul gave no answer in time".to_owned(),
        Failure::Panicked => "Consul's answer broke the client library".to_owned(),
    }
}

/// Consul reads durations as Go writes them.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
