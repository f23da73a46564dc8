//! From sources to a checked [`Config`], collecting every problem on the way.
//!
//! serde stops at the first mistake, an operator wants them all. So a value that does not fit
//! is recorded, taken out of the merged tree (its default stands in), and the rest is read
//! again until it fits; only then are ranges and contradictions looked at.

use std::{collections::HashMap, path::PathBuf};

use ::config::{Environment, File, FileFormat, Value, ValueKind};
use garde::Validate;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};

use super::{Config, Problem, Problems};

/// Where a configuration comes from; each source overrides the ones before it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file. It has to exist when it is named.
    pub file: Option<PathBuf>,
    /// Variables such as `BFF__HTTP__LISTEN`; those without the prefix are ignored.
    pub environment: HashMap<String, String>,
    /// `key = value` pairs from the command line, such as `http.listen`.
    pub flags: Vec<(String, String)>,
}

/// Where values set on the command line say they come from.
const FLAGS_ORIGIN: &str = "command line";

/// Reads, merges and checks `sources`.
///
/// # Errors
/// [`Problems`] with one entry for every unknown key, wrong type or unit, value out of range and
/// contradiction. A file that cannot be read or is no TOML is one problem on its own, because
/// nothing can be said about its keys.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    let merged = merge(sources).map_err(|problem| Problems(vec![problem]))?;
    let origins = Origins {
        merged: &merged,
        file: sources.file.as_deref(),
    };
    let mut tree = to_json(&merged);
    let mut problems = Vec::new();
    let mut coerced = Vec::new();
    let config = loop {
        let error = match serde_path_to_error::deserialize::<_, Config>(&tree) {
            Ok(config) => break config,
            Err(error) => error,
        };
        let key = error.path().to_string();
        // The environment only has strings: read one as a literal before calling it wrong.
        if !coerced.contains(&key) && coerce_string(&mut tree, error.path()) {
            coerced.push(key);
            continue;
        }
        let removed = remove(&mut tree, error.path());
        problems.push(Problem {
            origin: origins.of(error.path()),
            message: explain(error.inner()),
            key,
        });
        if !removed {
            // Nothing left that could be taken out; what was found so far is the answer.
            break Config::default();
        }
    };
    if let Err(report) = config.validate() {
        for (path, error) in report.iter() {
            let key = path.to_string();
            let origin = origins.of_key(&key);
            problems.push(Problem {
                key,
                origin,
                message: error.to_string(),
            });
        }
    }
    if config.consul.register
        && config.consul.advertise.is_none()
        && config.http.listen.ip().is_unspecified()
    {
        problems.push(Problem {
            key: "consul.advertise".to_owned(),
            origin: None,
            message: format!(
                "http.listen is {}, which is every address and so none that Consul could reach: \
                 set this to host:port, or consul.register to false",
                config.http.listen
            ),
        });
    }
    if problems.is_empty() {
        return Ok(config);
    }
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    Err(Problems(problems))
}

fn merge(sources: &Sources) -> Result<Value, Problem> {
    let mut builder = ::config::Config::builder();
    if let Some(path) = &sources.file {
        builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    builder = builder.add_source(
        Environment::with_prefix("BFF")
            .prefix_separator("__")
            .separator("__")
            .source(Some(sources.environment.clone())),
    );
    let unreadable = |error: ::config::ConfigError| Problem {
        key: String::new(),
        origin: None,
        message: crate::telemetry::chain(&error),
    };
    for (key, value) in &sources.flags {
        let value = Value::new(Some(&FLAGS_ORIGIN.to_owned()), value.clone());
        builder = builder.set_override(key, value).map_err(unreadable)?;
    }
    Ok(builder.build().map_err(unreadable)?.cache)
}

fn to_json(value: &Value) -> Json {
    match &value.kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(b) => Json::from(*b),
        ValueKind::I64(n) => Json::from(*n),
        ValueKind::U64(n) => Json::from(*n),
        ValueKind::I128(n) => Json::from(n.to_string()),
        ValueKind::U128(n) => Json::from(n.to_string()),
        ValueKind::Float(n) => Json::from(*n),
        ValueKind::String(s) => Json::from(s.clone()),
        ValueKind::Array(items) => items.iter().map(to_json).collect(),
        ValueKind::Table(table) => {
            Json::Object(table.iter().map(|(k, v)| (k.clone(), to_json(v))).collect())
        }
    }
}

/// The value at `path`, or the deepest one on the way to it.
fn parent_of<'a>(tree: &'a mut Json, path: &Path) -> Option<(&'a mut Json, String)> {
    let keys: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            // A list is one value to its author: a bad item condemns the list.
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    let (last, parents) = keys.split_last()?;
    let mut node = tree;
    for key in parents {
        node = node.get_mut(key)?;
    }
    node.get(last)?;
    Some((node, last.clone()))
}

fn remove(tree: &mut Json, path: &Path) -> bool {
    parent_of(tree, path)
        .and_then(|(parent, key)| parent.as_object_mut()?.remove(&key))
        .is_some()
}

fn coerce_string(tree: &mut Json, path: &Path) -> bool {
    let Some((parent, key)) = parent_of(tree, path) else {
        return false;
    };
    let Some(slot) = parent.get_mut(&key) else {
        return false;
    };
    let Some(literal) = slot
        .as_str()
        .and_then(|text| serde_json::from_str::<Json>(text).ok())
    else {
        return false;
    };
    if literal.is_string() || literal.is_object() || literal.is_null() {
        return false;
    }
    *slot = literal;
    true
}

/// Where values come from.
struct Origins<'a> {
    merged: &'a Value,
    file: Option<&'a std::path::Path>,
}

impl Origins<'_> {
    fn of(&self, path: &Path) -> Option<String> {
        self.at(path.iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.as_str()),
            _ => None,
        }))
    }

    fn of_key(&self, key: &str) -> Option<String> {
        self.at(key.split('.'))
    }

    fn at<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Option<String> {
        let mut node = self.merged;
        for key in keys {
            node = match &node.kind {
                ValueKind::Table(table) => table.get(key)?,
                _ => break,
            };
        }
        match node.origin()? {
            origin @ ("the environment" | FLAGS_ORIGIN) => Some(origin.to_owned()),
            // The path as it was given, not as the library shortened it.
            _ => self.file.map(|path| path.display().to_string()),
        }
    }
}

/// serde's own words, with the nearest known key where a key is unknown.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut quoted = text.split('`').skip(1).step_by(2);
    if !text.starts_with("unknown field") {
        return text;
    }
    let Some(unknown) = quoted.next() else {
        return text;
    };
    let nearest = quoted
        .map(|known| (strsim::osa_distance(unknown, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    match nearest {
        Some((_, known)) => format!("unknown key, did you mean `{known}`?"),
        None => text.replacen("unknown field", "unknown key", 1),
    }
}

#[cfg(test)]
mod tests;
