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
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    fn from_file(text: &str) -> Result<Config, Problems> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bff.toml");
        fs::write(&file, text).unwrap();
        load(&Sources {
            file: Some(file),
            ..Sources::default()
        })
    }

    fn from_environment(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
        let environment = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        load(&Sources {
            environment,
            ..Sources::default()
        })
    }

    fn keys(problems: Problems) -> Vec<String> {
        problems.0.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn nothing_configured_is_a_valid_configuration() {
        let config = load(&Sources::default()).unwrap();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(config.upstreams["greeter"].timeout, Duration::from_secs(2));
    }

    #[test]
    fn three_mistakes_in_a_file_are_all_named_with_their_keys() {
        let problems = from_file(
            r#"
            [http]
            listne = "127.0.0.1:8000"
            [upstreams.greeter]
            timeout = "2 parsecs"
            [graphql]
            max_depth = 0
            "#,
        )
        .unwrap_err();
        let text = problems.to_string();
        assert_eq!(
            keys(problems),
            [
                "graphql.max_depth",
                "http.listne",
                "upstreams.greeter.timeout"
            ],
            "{text}"
        );
        assert!(text.contains("did you mean `listen`?"), "{text}");
        assert!(text.contains("bff.toml"), "{text}");
    }

    #[test]
    fn the_environment_overrides_the_file_and_flags_override_both() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bff.toml");
        fs::write(
            &file,
            "[graphql]\nmax_depth = 3\nmax_complexity = 30\nplayground = false",
        )
        .unwrap();
        let config = load(&Sources {
            file: Some(file),
            environment: [
                ("BFF__GRAPHQL__MAX_DEPTH".to_owned(), "4".to_owned()),
                ("BFF__GRAPHQL__MAX_COMPLEXITY".to_owned(), "40".to_owned()),
                ("UNRELATED".to_owned(), "x".to_owned()),
            ]
            .into(),
            flags: vec![("graphql.max_complexity".to_owned(), "50".to_owned())],
        })
        .unwrap();
        assert_eq!(config.graphql.max_depth, 4);
        assert_eq!(config.graphql.max_complexity, 50);
        assert!(!config.graphql.playground);
    }

    #[test]
    fn a_misspelt_environment_variable_is_refused() {
        let problems = from_environment(&[("BFF__HTTP__LISSEN", "127.0.0.1:1")]).unwrap_err();
        assert_eq!(keys(problems), ["http.lissen"]);
    }

    #[test]
    fn a_token_of_digits_from_the_environment_stays_a_string_and_is_never_printed() {
        let config = from_environment(&[("BFF__CONSUL__TOKEN", "0012345")]).unwrap();
        let token = config.consul.token.as_ref().unwrap();
        assert_eq!(token.reveal(), "0012345");
        let printed = config.to_toml().unwrap();
        assert!(!printed.contains("0012345"), "{printed}");
        assert!(printed.contains("[redacted]"), "{printed}");
        assert!(!format!("{config:?}").contains("0012345"));
    }

    #[test]
    fn a_file_that_is_not_toml_is_one_problem_that_names_the_file_and_the_line() {
        let problems = from_file("[http\nlisten = 1").unwrap_err().to_string();
        assert!(
            problems.contains("bff.toml") && problems.contains("line 1"),
            "{problems}"
        );
    }

    #[test]
    fn an_attempt_timeout_that_nobody_wrote_follows_the_timeout() {
        let attempt = |text: &str| {
            from_file(text).map(|config| config.upstreams["greeter"].attempt_timeout())
        };
        let ms = Duration::from_millis;
        assert_eq!(attempt("").unwrap(), ms(500));
        assert_eq!(
            attempt("[upstreams.greeter]\ntimeout = '5s'").unwrap(),
            ms(500)
        );
        assert_eq!(
            attempt("[upstreams.greeter]\ntimeout = '200ms'").unwrap(),
            ms(100)
        );
    }

    #[test]
    fn a_wildcard_listener_that_registers_has_to_say_where_it_is_reached() {
        let problems = from_file("[http]\nlisten = '0.0.0.0:80'").unwrap_err();
        assert_eq!(keys(problems), ["consul.advertise"]);
        let good = "[http]\nlisten = '0.0.0.0:80'\n[consul]\nadvertise = 'bff.internal:80'";
        assert!(from_file(good).is_ok());
    }

    #[test]
    fn a_limit_on_a_field_that_the_schema_does_not_have_names_the_nearest() {
        let text = "[rate_limit.fields.'Query.helo']\ncalls = 1\nperiod = '1m'";
        let problems = from_file(text).unwrap_err();
        assert!(problems.to_string().contains("`Query.hello`"), "{problems}");
        assert_eq!(keys(problems), ["rate_limit.fields.Query.helo"]);
        let text = "[rate_limit.fields.'Query.hello']\ncalls = 0\nperiod = '1 fortnight'";
        let problems = from_file(text).unwrap_err();
        assert!(problems.to_string().contains("period"), "{problems}");
    }

    #[test]
    fn contradictions_within_an_upstream_are_refused() {
        for (text, key) in [
            ("timeout = '1s'\nattempt_timeout = '1s'", "attempt_timeout"),
            ("retry.max_attempts = 0", "retry.max_attempts"),
            ("retry.budget_ratio = 1.5", "retry.budget_ratio"),
            ("breaker.failure_ratio = 1.01", "breaker.failure_ratio"),
            ("breaker.failure_ratio = 0", "breaker.failure_ratio"),
            ("breaker.open_for = '2m'", "breaker.open_for_max"),
            ("ejection.base = '10m'", "ejection.max"),
            ("max_in_flight = 0", "max_in_flight"),
            ("service = 'a'\nendpoints = ['http://h:1']", "service"),
            ("endpoints = []", "endpoints"),
        ] {
            let problems = from_file(&format!("[upstreams.greeter]\n{text}")).unwrap_err();
            assert_eq!(
                keys(problems),
                [format!("upstreams.greeter.{key}")],
                "{text}"
            );
        }
    }

    #[test]
    fn an_upstream_nobody_calls_is_refused_and_the_known_ones_are_named() {
        let problems = from_file("[upstreams.greter]\nservice = \"x\"").unwrap_err();
        assert!(problems.to_string().contains("greeter"), "{problems}");
        assert_eq!(keys(problems), ["upstreams.greter"]);
    }

    #[test]
    fn what_print_config_prints_is_a_configuration() {
        let printed = load(&Sources::default()).unwrap().to_toml().unwrap();
        let again = from_file(&printed).unwrap();
        assert_eq!(again.to_toml().unwrap(), printed);
    }

    #[test]
    fn the_documented_file_holds_exactly_the_defaults() {
        let documented = from_file(include_str!("../../bff.toml")).unwrap();
        let defaults = load(&Sources::default()).unwrap();
        assert_eq!(documented.to_toml().unwrap(), defaults.to_toml().unwrap());
    }
}
