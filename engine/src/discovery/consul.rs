//! Consul's HTTP API, as far as it is used: the only file that names the client library.
//!
//! consulrs has no health endpoint, no time limits, panics on addresses without a scheme and on
//! response headers that are no text. So: own endpoints and minimal structs, an own HTTP client,
//! a validated address ([`BaseUrl`]), and a panic caught at the border.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use consulrs::{
    api::{
        self, ApiResponse, Features,
        features::{Blocking, ConsistencyMode, FeaturedEndpoint},
    },
    client::{ConsulClient, ConsulClientSettings},
    error::ClientError,
};
use futures_util::FutureExt;
use reqwest_011 as reqwest;
use rustify::clients::reqwest::Client as HttpClient;
use rustify_derive::Endpoint;
use serde::Serialize;

use super::{
    Answer, Catalog, CatalogError, Config,
    entries::{ServiceEntry, instances},
    registration::Registration,
};
use crate::types::{BaseUrl, ServiceName};

/// How long a TCP connection to the agent may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the agent may take to answer a request that does not block.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

/// One Consul agent. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Consul {
    client: Arc<ConsulClient>,
    address: BaseUrl,
    datacenter: Option<ServiceName>,
    stale: bool,
}

/// Why the agent could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsulError {
    /// The token file cannot be read or holds something else.
    #[error("consul.token_file {path}: {problem}")]
    TokenFile {
        /// The configured path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client could not be built.
    #[error("the HTTP client for Consul cannot be built")]
    Client(#[source] reqwest::Error),
    /// The agent answered with an error.
    #[error("Consul answered {code}: {message}")]
    Answered {
        /// HTTP status.
        code: u16,
        /// The beginning of the body.
        message: String,
    },
    /// The agent did not answer in time.
    #[error("Consul gave no answer within {}", humantime::format_duration(*.0))]
    Elapsed(Duration),
    /// The request failed on its way, or its answer was not what Consul's API promises.
    #[error("{0}")]
    Failed(String),
}

impl Consul {
    /// A client for the configured agent. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ConsulError::TokenFile`] and [`ConsulError::Client`].
    pub(crate) fn new(config: &Config) -> Result<Self, ConsulError> {
        let http = reqwest::Client::builder()
            // The agent is local; a proxy from the environment is meant for other things.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(ConsulError::Client)?;
        let address = config.address.as_str().to_owned();
        let settings = ConsulClientSettings {
            address: address.clone(),
            ca_certs: vec![],
            client_cert: None,
            client_key: None,
            token: token(config)?,
            verify: true,
            version: 1,
        };
        Ok(Self {
            client: Arc::new(ConsulClient {
                http: HttpClient::new(&address, http),
                settings,
            }),
            address: config.address.clone(),
            datacenter: config.datacenter.clone(),
            stale: config.stale,
        })
    }

    /// The agent's address.
    pub(crate) fn address(&self) -> &BaseUrl {
        &self.address
    }

    /// Registers a service instance with the agent, or replaces the one with the same id.
    ///
    /// # Errors
    /// [`ConsulError`] as the agent or the way to it had it.
    pub(crate) async fn register(&self, registration: &Registration) -> Result<(), ConsulError> {
        let endpoint = RegisterService {
            id: registration.id.clone(),
            name: registration.service.clone(),
            address: registration.host.clone(),
            port: registration.port,
            check: ServiceCheck {
                name: format!("{} readiness", registration.service),
                http: registration.check_url.clone(),
                interval: go_duration(registration.check_interval),
                timeout: go_duration(registration.check_timeout()),
                // The agent asks for it by its address, and its certificate is for a name.
                tls_skip_verify: registration.check_url.starts_with("https:"),
                deregister_critical_service_after: go_duration(registration.critical_after),
            },
        };
        limited(AGENT_TIMEOUT, api::exec_with_empty(&*self.client, endpoint))
            .await
            .map(drop)
    }

    /// Whether the agent knows a service instance with this id.
    ///
    /// # Errors
    /// [`ConsulError`] as the agent or the way to it had it.
    pub(crate) async fn is_registered(&self, id: &str) -> Result<bool, ConsulError> {
        let endpoint = ReadService { id: id.to_owned() };
        match limited(AGENT_TIMEOUT, api::exec_with_raw(&*self.client, endpoint)).await {
            Ok(_) => Ok(true),
            Err(ConsulError::Answered { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a service instance from the agent; one it does not know is no error.
    ///
    /// # Errors
    /// [`ConsulError`] as the agent or the way to it had it.
    pub(crate) async fn deregister(&self, id: &str) -> Result<(), ConsulError> {
        let endpoint = DeregisterService { id: id.to_owned() };
        match limited(AGENT_TIMEOUT, api::exec_with_empty(&*self.client, endpoint)).await {
            Ok(_) | Err(ConsulError::Answered { code: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Catalog for Consul {
    async fn passing(
        &self,
        service: &ServiceName,
        index: u64,
        wait: Duration,
    ) -> Result<Answer, CatalogError> {
        let endpoint = ServiceHealth {
            features: Features {
                blocking: Some(Blocking {
                    index,
                    wait: Some(go_duration(wait)),
                }),
                cached: None,
                filter: None,
                mode: self.stale.then_some(ConsistencyMode::STALE),
            },
            service: service.as_str().to_owned(),
            passing: true,
            dc: self.datacenter.as_ref().map(|dc| dc.as_str().to_owned()),
        };
        // The watch has its own limit around this; the client's only closes forgotten sockets.
        let answer = limited(
            wait * 2 + AGENT_TIMEOUT,
            api::exec_with_result(&*self.client, endpoint),
        )
        .await?;
        let index = answer.index.as_deref().and_then(|index| index.parse().ok());
        Ok(Answer {
            instances: instances(answer.response)?,
            index,
        })
    }
}

fn token(config: &Config) -> Result<Option<String>, ConsulError> {
    if let Some(token) = &config.token {
        return Ok(Some(token.reveal().to_owned()));
    }
    let Some(path) = &config.token_file else {
        return Ok(None);
    };
    let wrong = |problem: String| ConsulError::TokenFile {
        path: path.display().to_string(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong(
            "holds no token (one line of visible ASCII characters)".to_owned(),
        ));
    }
    Ok(Some(token.to_owned()))
}

/// Consul reads durations as Go writes them.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// Runs a call of the client library within `limit`, its panics and errors made ours.
async fn limited<T>(
    limit: Duration,
    call: impl Future<Output = Result<ApiResponse<T>, ClientError>>,
) -> Result<ApiResponse<T>, ConsulError> {
    let guarded = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(limit, guarded).await {
        Err(_) => Err(ConsulError::Elapsed(limit)),
        Ok(Err(_panic)) => Err(ConsulError::Failed(
            "Consul's answer broke the client library (a header that is no text?)".to_owned(),
        )),
        Ok(Ok(Err(ClientError::APIError { code, message }))) => {
            let message = message
                .unwrap_or_default()
                .trim()
                .chars()
                .take(200)
                .collect();
            Err(ConsulError::Answered { code, message })
        }
        Ok(Ok(Err(error))) => Err(ConsulError::Failed(format!(
            "the request to Consul failed: {}",
            root_cause(&error)
        ))),
        Ok(Ok(Ok(answer))) => Ok(answer),
    }
}

/// The library wraps an error up to five times without saying more than the innermost does.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// `GET /v1/health/service/{service}`, see Consul's "Health HTTP Endpoint".
#[derive(Debug, Endpoint)]
#[endpoint(path = "health/service/{self.service}", response = "Vec<ServiceEntry>")]
struct ServiceHealth {
    #[endpoint(skip)]
    features: Features,
    #[endpoint(skip)]
    service: String,
    #[endpoint(query)]
    passing: bool,
    #[endpoint(query)]
    dc: Option<String>,
}

impl FeaturedEndpoint for ServiceHealth {
    fn features(&self) -> Option<Features> {
        Some(self.features.clone())
    }
}

/// `PUT /v1/agent/service/register`.
#[derive(Debug, Endpoint, Serialize)]
#[endpoint(path = "agent/service/register", method = "PUT")]
#[serde(rename_all = "PascalCase")]
struct RegisterService {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    address: String,
    port: u16,
    check: ServiceCheck,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceCheck {
    name: String,
    #[serde(rename = "HTTP")]
    http: String,
    interval: String,
    timeout: String,
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "std::ops::Not::not")]
    tls_skip_verify: bool,
    deregister_critical_service_after: String,
}

/// `GET /v1/agent/service/{id}`: only its status matters.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/{self.id}")]
struct ReadService {
    #[endpoint(skip)]
    id: String,
}

/// `PUT /v1/agent/service/deregister/{id}`.
#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/deregister/{self.id}", method = "PUT")]
struct DeregisterService {
    #[endpoint(skip)]
    id: String,
}

/// The agent's endpoints take no blocking, caching or consistency options.
macro_rules! featureless {
    ($($endpoint:ty),*) => {
        $(impl FeaturedEndpoint for $endpoint {
            fn features(&self) -> Option<Features> {
                None
            }
        })*
    };
}
featureless!(RegisterService, ReadService, DeregisterService);
