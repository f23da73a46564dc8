//! From sources to a checked [`Config`], collecting every problem on the way.
//!
//! serde stops at the first mistake, an operator wants them all. So a value that does not fit
//! is recorded, taken out of the merged tree (its default stands in), and the rest is read
//! again until it fits; only then are ranges and contradictions looked at.

mod merge;

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

use garde::Validate;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};
use toml_edit::{DocumentMut, TomlError};
use tracing::warn;

use self::merge::Merged;
pub(crate) use self::merge::Origins;
use super::{Config, Known, Problem, Problems, print};

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
pub(crate) struct Document {
    /// Such as a path, or the name of a document in Nacos.
    pub(crate) origin: String,
    /// TOML, hopefully.
    pub(crate) text: String,
}

/// The sources as they were when the program started: what a document from outside is put
/// between. A file that is edited later changes nothing before a restart.
#[derive(Clone, Debug)]
pub(crate) struct SourcesRead {
    known: Arc<Known>,
    file: Option<Document>,
    environment: HashMap<String, String>,
    flags: Vec<(String, String)>,
}

/// A checked configuration and where its values came from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Config,
    /// Where each value came from.
    pub(crate) origins: Origins,
}

impl Loaded {
    /// The configuration as TOML, each value with a comment that says where it came from, secrets
    /// redacted.
    ///
    /// # Errors
    /// Never for what was loaded; the TOML writer's type asks for it.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        print::annotated(&self.config, |path| {
            self.origins.at(path.iter().map(String::as_str))
        })
    }
}

/// Where values of variables and of the command line say they come from.
const ENVIRONMENT: &str = "the environment";
const FLAGS: &str = "command line";
/// Keys that have another name now, and that name. They are read for one more version.
const RENAMED: [(&[&str], &str); 4] = [
    (&["upstreams", "*", "ejection", "base"], "eject_for"),
    (&["upstreams", "*", "ejection", "max"], "eject_for_max"),
    (&["upstreams", "*", "ejection", "max_share"], "max_ratio"),
    (
        &["upstreams", "*", "ejection", "panic_threshold"],
        "panic_ratio",
    ),
];
/// The section `[upstreams.defaults]`: what holds for every upstream that does not say otherwise.
const DEFAULTS: &str = "defaults";
/// What the name of a variable begins with that is a key.
const PREFIX: &str = "BFF__";

impl Sources {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// One of [`Problems`] that names a file which cannot be read.
    pub(crate) fn read(&self, known: Arc<Known>) -> Result<SourcesRead, Problems> {
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
        Ok(SourcesRead {
            known,
            file: file.transpose()?,
            environment: self.environment.clone(),
            flags: self.flags.clone(),
        })
    }
}

impl SourcesRead {
    /// Merges and checks what was given, with `document` between the file and the environment.
    ///
    /// # Errors
    /// [`Problems`] with one entry for every unknown key, wrong type or unit, value out of range
    /// and contradiction. A document that is no TOML is one problem on its own, because nothing
    /// can be said about its keys.
    pub(crate) fn with(&self, document: Option<&Document>) -> Result<Loaded, Problems> {
        let mut merged = self
            .merge(document)
            .map_err(|problem| Problems(vec![problem]))?;
        // Before defaults are laid under them.
        let own = merged.values.clone();
        let names: Vec<_> = self
            .known
            .upstreams
            .iter()
            .map(|known| known.name)
            .collect();
        let defaults = merged.spread("upstreams", DEFAULTS, &names);
        let Merged {
            values: mut tree,
            origins,
        } = merged;
        let mut problems = Vec::new();
        for key in ["service", "endpoints"] {
            let defaults = defaults.as_ref();
            if defaults.is_some_and(|defaults| defaults.get(key).is_some()) {
                problems.push(Problem {
                    key: format!("upstreams.{DEFAULTS}.{key}"),
                    origin: None,
                    message: "where an upstream is has to be said of each by itself".to_owned(),
                });
            }
        }
        let mut coerced = Vec::new();
        let mut config = loop {
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
        problems.extend(two_on_one_port(&config));
        problems.extend(self.known.complete(&mut config, &origins));
        if problems.is_empty() {
            return Ok(Loaded { config, origins });
        }
        if let Some(defaults) = defaults {
            for problem in &mut problems {
                if let Some(key) = of_defaults(&problem.key, &defaults, &own) {
                    problem.key = key;
                }
            }
        }
        problems.sort_by(|a, b| a.key.cmp(&b.key));
        // What is wrong with the defaults is wrong with each upstream.
        problems.dedup();
        Err(Problems(problems))
    }

    fn merge(&self, document: Option<&Document>) -> Result<Merged, Problem> {
        let mut merged = Merged::default();
        let mut add = |values: Json, origin: &str| {
            let values = renamed(values);
            merged.make_way("upstreams", ["service", "endpoints"], &values);
            merged.add(values, origin);
        };
        if let Some(file) = &self.file {
            add(file.values()?, &file.origin);
        }
        if let Some(document) = document {
            let values = document.values()?;
            if values.get("nacos").is_some() {
                return Err(Problem {
                    key: "nacos".to_owned(),
                    origin: Some(document.origin.clone()),
                    message: "where Nacos is cannot be said in Nacos: set it in the file, the \
                              environment or by flags"
                        .to_owned(),
                });
            }
            add(values, &document.origin);
        }
        let mut environment = Merged::default();
        for (name, value) in &self.environment {
            if let Some(key) = name.to_ascii_uppercase().strip_prefix(PREFIX) {
                let key = key.to_ascii_lowercase();
                environment.set(&key.split("__").collect::<Vec<_>>(), value, ENVIRONMENT);
            }
        }
        add(environment.values, ENVIRONMENT);
        let mut flags = Merged::default();
        for (key, value) in &self.flags {
            flags.set(&key.split('.').collect::<Vec<_>>(), value, FLAGS);
        }
        add(flags.values, FLAGS);
        Ok(merged)
    }
}

/// The key within the defaults at which the value of `key` stands, if it is an upstream's that does not
/// say it by itself.
fn of_defaults(key: &str, defaults: &Json, own: &Json) -> Option<String> {
    let rest = key.strip_prefix("upstreams.")?;
    let (name, rest) = rest.split_once('.')?;
    let find = |table: &Json| {
        let mut keys = rest.split(['.', '[']);
        let found = keys.try_fold(table, |table, key| match table {
            Json::Object(table) => table.get(key),
            // An item of a list, which is one value.
            value => Some(value),
        });
        found.is_some()
    };
    let says = own
        .get("upstreams")
        .and_then(|upstreams| upstreams.get(name));
    (find(defaults) && !says.is_some_and(find)).then(|| format!("upstreams.{DEFAULTS}.{rest}"))
}

/// The values of one source under their names of today. It is done before the sources are laid over one
/// another: an old name in a later one wins over the new one in an earlier one.
fn renamed(mut values: Json) -> Json {
    for (path, name) in RENAMED {
        merge::rename(&mut values, path, name, &mut |key| {
            warn!(
                key,
                "this key is called `{name}` now, and is read under its old name for one more version"
            );
        });
    }
    values
}

impl Document {
    /// The values of the document. Its error messages quote nothing of it: a line may hold
    /// a secret.
    fn values(&self) -> Result<Json, Problem> {
        let problem = |message: String| Problem {
            key: String::new(),
            origin: None,
            message: format!("{}: no TOML, {message}", self.origin),
        };
        let document: DocumentMut = self.text.parse().map_err(|error: TomlError| {
            let before = error.span().and_then(|span| self.text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            problem(format!("line {line}: {}", error.message()))
        })?;
        toml_edit::de::from_document(document).map_err(|error| problem(error.message().to_owned()))
    }
}

/// A listener address that would be registered in Consul, but that cannot be reached.
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

/// Both listeners on one port.
fn two_on_one_port(config: &Config) -> Option<Problem> {
    let (public, admin) = (config.http.listen, config.admin.listen.0?);
    let everywhere = public.ip().is_unspecified() || admin.ip().is_unspecified();
    let same = public.port() == admin.port() && (public.ip() == admin.ip() || everywhere);
    (same && public.port() != 0).then(|| Problem {
        key: "admin.listen".to_owned(),
        origin: None,
        message: format!(
            "http.listen is {public}, on the same port: give this one of its own, or `none`"
        ),
    })
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
