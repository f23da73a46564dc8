//! From sources to a checked [`Config`], collecting every problem on the way.
//!
//! serde stops at the first mistake, an operator wants them all. So a value that does not fit
//! is recorded, taken out of the merged tree (its default stands in), and the rest is read
//! again until it fits; only then are ranges and contradictions looked at.

use std::{collections::HashMap, fs, path::PathBuf};

use ::config::{ConfigError, Environment, FileFormat, Format, Map, Source, Value, ValueKind};
use garde::Validate;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};
use toml_edit::{DocumentMut, TomlError};

use super::{Config, Problem, Problems, print};

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

/// A TOML document and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Such as a path, or the name of a document in Nacos.
    pub origin: String,
    /// TOML, hopefully.
    pub text: String,
}

/// The sources as they were when the program started: what a document from outside is put
/// between. A file that is edited later changes nothing before a restart.
#[derive(Clone, Debug)]
pub struct Given {
    file: Option<Document>,
    environment: HashMap<String, String>,
    flags: Vec<(String, String)>,
}

/// A checked configuration and where its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each value came from.
    pub origins: Origins,
}

impl Loaded {
    /// The configuration as TOML, each value with a comment that says where it came from, secrets
    /// redacted.
    ///
    /// # Errors
    /// Never for what was loaded; the TOML writer's type asks for it.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        print::annotated(&self.config, |path| {
            self.origins.at(path.iter().map(String::as_str))
        })
    }
}

/// Where values set on the command line say they come from.
const FLAGS_ORIGIN: &str = "command line";

/// Reads, merges and checks `sources`.
///
/// # Errors
/// As [`Sources::read`] and [`Given::with`].
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    Ok(sources.read()?.with(None)?.config)
}

impl Sources {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// One of [`Problems`] that names a file which cannot be read.
    pub fn read(&self) -> Result<Given, Problems> {
        let file = self.file.as_ref().map(|path| {
            let origin = path.display().to_string();
            match fs::read_to_string(path) {
                Ok(text) => Ok(Document { origin, text }),
                Err(error) => Err(Problems(vec![Problem {
                    key: String::new(),
                    origin: None,
                    message: format!("{origin} cannot be read: {error}"),
                }])),
            }
        });
        Ok(Given {
            file: file.transpose()?,
            environment: self.environment.clone(),
            flags: self.flags.clone(),
        })
    }
}

impl Given {
    /// Merges and checks what was given, with `document` between the file and the environment.
    ///
    /// # Errors
    /// [`Problems`] with one entry for every unknown key, wrong type or unit, value out of range
    /// and contradiction. A document that is no TOML is one problem on its own, because nothing
    /// can be said about its keys.
    pub fn with(&self, document: Option<&Document>) -> Result<Loaded, Problems> {
        let merged = self
            .merge(document)
            .map_err(|problem| Problems(vec![problem]))?;
        let mut tree = to_json(&merged);
        let origins = Origins(merged);
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
                origin: origins.at(keys_of(error.path())).map(str::to_owned),
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
                problems.push(Problem {
                    origin: origins.at(key.split('.')).map(str::to_owned),
                    message: error.to_string(),
                    key,
                });
            }
        }
        problems.extend(unreachable(&config));
        if problems.is_empty() {
            return Ok(Loaded { config, origins });
        }
        problems.sort_by(|a, b| a.key.cmp(&b.key));
        Err(Problems(problems))
    }

    fn merge(&self, document: Option<&Document>) -> Result<Value, Problem> {
        let unreadable = |error: ConfigError| Problem {
            key: String::new(),
            origin: None,
            message: crate::telemetry::chain(&error),
        };
        let mut builder = ::config::Config::builder();
        for document in self.file.iter().chain(document) {
            document.check()?;
            builder = builder.add_source(document.clone());
        }
        if let Some(document) = document
            && document.sections()?.contains_key("nacos")
        {
            return Err(Problem {
                key: "nacos".to_owned(),
                origin: Some(document.origin.clone()),
                message: "where Nacos is cannot be said in Nacos: set it in the file, the \
                          environment or by flags"
                    .to_owned(),
            });
        }
        builder = builder.add_source(
            Environment::with_prefix("BFF")
                .prefix_separator("__")
                .separator("__")
                .source(Some(self.environment.clone())),
        );
        for (key, value) in &self.flags {
            let value = Value::new(Some(&FLAGS_ORIGIN.to_owned()), value.clone());
            builder = builder.set_override(key, value).map_err(unreadable)?;
        }
        Ok(builder.build().map_err(unreadable)?.cache)
    }
}

impl Document {
    /// The document as TOML. What is wrong with it is told without a word of it: a line may hold
    /// a secret.
    fn sections(&self) -> Result<DocumentMut, Problem> {
        self.text.parse().map_err(|error: TomlError| {
            let before = error.span().and_then(|span| self.text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            Problem {
                key: String::new(),
                origin: None,
                message: format!("{}: no TOML, line {line}: {}", self.origin, error.message()),
            }
        })
    }

    /// Whether it is TOML whose sections have plain names: the library that merges takes others
    /// for paths.
    fn check(&self) -> Result<(), Problem> {
        let plain = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        let sections = self.sections()?;
        match sections.iter().find(|(name, _)| !plain(name)) {
            None => Ok(()),
            Some((name, _)) => Err(Problem {
                key: name.to_owned(),
                origin: Some(self.origin.clone()),
                message: "unknown key".to_owned(),
            }),
        }
    }
}

impl Source for Document {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Format::parse(&FileFormat::Toml, Some(&self.origin), &self.text).map_err(|cause| {
            ConfigError::FileParse {
                uri: Some(self.origin.clone()),
                cause,
            }
        })
    }
}

/// A listener that Consul is told of, but that it could not reach.
fn unreachable(config: &Config) -> Option<Problem> {
    let registers = config.consul.register && config.consul.advertise.is_none();
    (registers && config.http.listen.ip().is_unspecified()).then(|| Problem {
        key: "consul.advertise".to_owned(),
        origin: None,
        message: format!(
            "http.listen is {}, which is every address and so none that Consul could reach: \
             set this to host:port, or consul.register to false",
            config.http.listen
        ),
    })
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

/// The names on the way to `path`. A list is one value to its author: a bad item condemns the
/// list.
fn keys_of(path: &Path) -> impl Iterator<Item = &str> {
    path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.as_str()),
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    })
}

/// The table that holds the value at `path`, and the value's name in it.
fn parent_of<'a>(tree: &'a mut Json, path: &Path) -> Option<(&'a mut Json, String)> {
    let keys: Vec<&str> = keys_of(path).collect();
    let (last, parents) = keys.split_last()?;
    let mut node = tree;
    for key in parents {
        node = node.get_mut(key)?;
    }
    node.get(last)?;
    Some((node, (*last).to_owned()))
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

/// Where each value came from.
#[derive(Clone, Debug)]
pub struct Origins(Value);

impl Origins {
    /// Where the value at `keys`, or the list or text it is in, came from: a file's name, a
    /// document's, `the environment` or `command line`. `None` for a default.
    pub fn at<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Option<&str> {
        let mut node = &self.0;
        for key in keys {
            node = match &node.kind {
                ValueKind::Table(table) => table.get(key)?,
                _ => break,
            };
        }
        node.origin()
    }
}

/// serde's own words, with the nearest known key where a key is unknown.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The text of a wrong type may be a secret that is in the wrong place.
    if let Some(rest) = text.strip_prefix("invalid type: string \"")
        && let Some((_, expected)) = rest.rsplit_once("\", expected ")
    {
        return format!("invalid type: a string, expected {expected}");
    }
    if text.ends_with("expected a duration") {
        return text + " such as 500ms or 2s";
    }
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
