//! What a document would have changed, and cannot while the program runs.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::super::{Config, Origins, Problem};

/// The keys whose values in `wanted` are not those `effective`.
pub(super) fn differing(effective: &Config, wanted: &Config, origins: &Origins) -> Vec<Problem> {
    let json = |config| serde_json::to_value(config).unwrap_or_default();
    let mut keys = Vec::new();
    // Secrets are printed alike, so they are compared by themselves.
    if effective.consul.token != wanted.consul.token
        && effective.consul.token.is_some() == wanted.consul.token.is_some()
    {
        let path = ["consul", "token"].map(str::to_owned).to_vec();
        keys.push((path, Json::from("[redacted]")));
    }
    diff(&json(effective), &json(wanted), &mut Vec::new(), &mut keys);
    keys.into_iter()
        .map(|(path, value)| Problem {
            origin: origins
                .at(path.iter().map(String::as_str))
                .map(str::to_owned),
            message: match value {
                Json::Null => "a change needs a restart; unset is effective".to_owned(),
                value => format!("a change needs a restart; {value} is effective"),
            },
            key: path.join("."),
        })
        .collect()
}

/// The leaves in which two trees differ, each with what it is in the first.
fn diff(a: &Json, b: &Json, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, Json)>) {
    match (a, b) {
        (Json::Object(left), Json::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                path.push(key.clone());
                let side = |table: &serde_json::Map<_, _>| table.get(key).cloned();
                diff(
                    &side(left).unwrap_or_default(),
                    &side(right).unwrap_or_default(),
                    path,
                    found,
                );
                path.pop();
            }
        }
        _ if a == b => {}
        _ => found.push((path.clone(), a.clone())),
    }
}
