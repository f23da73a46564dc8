//! This instance's entry in Consul.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::json;

/// An entry that is there.
pub(crate) struct Entry {
    agent: String,
    id: String,
}

/// Registers an instance that listens on `bound`, with a check by gRPC's own health protocol.
pub(crate) async fn register(
    agent: &str,
    service: &str,
    bound: SocketAddr,
) -> anyhow::Result<Entry> {
    let id = format!("{service}-{bound}").replace(':', "-");
    let entry = json!({
        "ID": id,
        "Name": service,
        "Address": bound.ip(),
        "Port": bound.port(),
        "Check": {
            "GRPC": bound.to_string(),
            "Interval": "1s",
            "Status": "passing",
            "DeregisterCriticalServiceAfter": "1m",
        },
    });
    let agent = agent.trim_end_matches('/').to_owned();
    let url = format!("{agent}/v1/agent/service/register");
    let answer = reqwest::Client::new().put(&url).json(&entry).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.with_context(|| format!("cannot register at {url}"))?;
    Ok(Entry { agent, id })
}

impl Entry {
    /// Removes it.
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let Self { agent, id } = self;
        let url = format!("{agent}/v1/agent/service/deregister/{id}");
        let answer = reqwest::Client::new().put(&url).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.with_context(|| format!("cannot deregister at {url}"))?;
        Ok(())
    }
}
