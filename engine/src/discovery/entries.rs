//! What Consul's `/v1/health/service/…` lists, as instances: pure.

use std::collections::HashSet;

use serde::Deserialize;
use tracing::warn;

use super::{Instance, consul::ConsulError};

/// Consul's answer as instances, each address once.
pub(super) fn instances(entries: Vec<ServiceEntry>) -> Result<Vec<Instance>, ConsulError> {
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
/// [`ConsulError::Failed`] when it is no such body, or lists only what cannot be called.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn parse_instances(body: &[u8]) -> Result<Vec<Instance>, ConsulError> {
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

/// One entry, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceEntry {
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
