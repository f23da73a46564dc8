//! Consul's HTTP API, as far as it is used: the only file that names the client library.
//!
//! consulrs has no health endpoint, no time limits, panics on addresses without a scheme and on
//! response headers that are no text. So: own endpoints and minimal structs, an own HTTP client,
//! a validated address ([`BaseUrl`]), and a panic caught at the border.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use consulrs::{
    api::{
        self, ApiResponse, Features,
        features::{Blocking, ConsistencyMode, FeaturedEndpoint},
    },
    client::{ConsulClient, ConsulClientSettings},
    error::ClientError,
};
use futures_util::FutureExt;
use reqwest_consul as reqwest;
use rustify::clients::reqwest::Client as HttpClient;
use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Answer, Catalog, CatalogError, Config, Instance, registration::Registration};
use crate::config::types::{BaseUrl, ServiceName};

/// How long a TCP connection to the agent may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the agent may take to answer a request that does not block.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

/// One Consul agent. Clones share the connections.
#[derive(Clone)]
pub struct Consul {
    client: Arc<ConsulClient>,
    address: BaseUrl,
    datacenter: Option<ServiceName>,
    stale: bool,
}

/// Why the agent could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
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
    pub fn new(config: &Config) -> Result<Self, ConsulError> {
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
    pub fn address(&self) -> &BaseUrl {
        &self.address
    }

    /// Registers a service instance with the agent, or replaces the one with the same id.
    ///
    /// # Errors
    /// [`ConsulError`] as the agent or the way to it had it.
    pub async fn register(&self, registration: &Registration) -> Result<(), ConsulError> {
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
    pub async fn is_registered(&self, id: &str) -> Result<bool, ConsulError> {
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
    pub async fn deregister(&self, id: &str) -> Result<(), ConsulError> {
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

/// Consul's answer as instances, each address once.
fn instances(entries: Vec<ServiceEntry>) -> Result<Vec<Instance>, ConsulError> {
    let mut seen = HashSet::with_capacity(entries.len());
    let mut list = Vec::with_capacity(entries.len());
    let mut bad = None;
    for entry in entries {
        // An empty service address means the node's.
        let host = match entry.service.address.as_str() {
            "" => &entry.node.address,
            host => host,
        };
        let text = match host.contains(':') {
            true => format!("[{host}]:{}", entry.service.port),
            false => format!("{host}:{}", entry.service.port),
        };
        // One bad registration must not hide the others, or keep their changes from being seen.
        let Some(address) = address_of(&text, entry.service.port) else {
            warn!(
                address = text,
                "Consul lists an instance that cannot be called; it is skipped"
            );
            bad = Some(text);
            continue;
        };
        if seen.insert(address.clone()) {
            let weight = entry.service.weights.passing.clamp(1, 65_535);
            list.push(Instance {
                address,
                weight: weight as u32,
            });
        }
    }
    if let (true, Some(text)) = (list.is_empty(), bad) {
        return Err(ConsulError::Failed(format!(
            "Consul lists no instance that can be called, only such as `{text}`"
        )));
    }
    // Consul does not promise an order: without one, an equal list would look like a change.
    list.sort_unstable_by(|a, b| a.address.as_str().cmp(b.address.as_str()));
    Ok(list)
}

/// The instances in a body of `/v1/health/service/…`, each address once.
///
/// # Errors
/// [`ConsulError::Failed`] when it is no such body or lists something that is no address.
pub fn parse_instances(body: &[u8]) -> Result<Vec<Instance>, ConsulError> {
    let entries =
        serde_json::from_slice(body).map_err(|error| ConsulError::Failed(error.to_string()))?;
    instances(entries)
}

fn address_of(text: &str, port: i64) -> Option<http::uri::Authority> {
    (1..=65_535)
        .contains(&port)
        .then(|| text.parse().ok())
        .flatten()
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceEntry {
    node: Node,
    service: Service,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    weights: Weights,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1 }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Vec<Instance>, ConsulError> {
        parse_instances(json.as_bytes())
    }

    #[test]
    fn an_instance_without_an_address_is_at_its_node() {
        let list =
            parse(r#"[{"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "", "Port": 7}}]"#)
                .unwrap();
        assert_eq!(list[0].address, "10.0.0.1:7");
        assert_eq!(list[0].weight, 1);
    }

    #[test]
    fn an_ipv6_address_gets_its_brackets_and_weights_are_honoured() {
        let list = parse(
            r#"[{"Node": {}, "Service": {"Address": "::1", "Port": 7, "Weights": {"Passing": 5}}}]"#,
        )
        .unwrap();
        assert_eq!((list[0].address.as_str(), list[0].weight), ("[::1]:7", 5));
    }

    #[test]
    fn two_registrations_of_one_address_are_one_instance_and_order_does_not_matter() {
        let a = r#"{"Node": {}, "Service": {"Address": "h", "Port": 1}}"#;
        let b = r#"{"Node": {}, "Service": {"Address": "h", "Port": 2}}"#;
        assert_eq!(
            parse(&format!("[{b},{a},{b}]")).unwrap(),
            parse(&format!("[{a},{b}]")).unwrap()
        );
    }

    #[test]
    fn an_instance_that_cannot_be_called_is_skipped_and_if_all_are_so_that_is_an_error() {
        for bad in [
            r#"{"Node": {}, "Service": {"Address": "a b", "Port": 1}}"#,
            r#"{"Node": {}, "Service": {"Address": "h", "Port": 0}}"#,
            r#"{"Node": {}, "Service": {"Address": "h", "Port": 70000}}"#,
        ] {
            let good = r#"{"Node": {}, "Service": {"Address": "h", "Port": 1}}"#;
            assert_eq!(parse(&format!("[{bad},{good}]")).unwrap().len(), 1, "{bad}");
            assert!(parse(&format!("[{bad}]")).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_an_error_that_shows_it() {
        let error =
            parse(r#"[{"Node": {}, "Service": {"Address": "a b", "Port": 1}}]"#).unwrap_err();
        assert!(error.to_string().contains("a b:1"), "{error}");
    }
}
