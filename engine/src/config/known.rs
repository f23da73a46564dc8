//! What only the program knows that reads a configuration: its upstreams and its schema.

use super::{Config, Origins, Problem};
use crate::upstream::Description;

/// The names that a configuration may use.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The upstreams that the program calls.
    pub(crate) upstreams: Vec<Description>,
    /// The fields of its schema, as `Type.field`.
    pub(crate) coordinates: Vec<String>,
}

impl Known {
    /// Fills in defaults, and returns a problem for what would have no effect: a section for an upstream that
    /// is not called, or a rule for a field that is not there, would silently do nothing.
    pub(super) fn complete(&self, config: &mut Config, origins: &Origins) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |path: &[&str], message: String| {
            problems.push(Problem {
                key: path.join("."),
                origin: origins.at(path.iter().copied()).map(str::to_owned),
                message,
            });
        };
        let configured = std::mem::take(&mut config.upstreams);
        for name in configured.keys() {
            if !self.upstreams.iter().any(|known| known.name == name) {
                let known: Vec<_> = self.upstreams.iter().map(|known| known.name).collect();
                let known = known.join(", ");
                let message = format!(
                    "unknown upstream, the known ones are: {known}. An upstream comes with the \
                     program: `.upstream::<T>()` where it is put together"
                );
                problem(&["upstreams", name], message);
            }
        }
        for known in &self.upstreams {
            let methods = configured.get(known.name).map(|upstream| &upstream.methods);
            for name in methods.into_iter().flat_map(|methods| methods.keys()) {
                if let Some(nearest) = known.unknown_method(name) {
                    let path = ["upstreams", known.name, "methods", name];
                    let message =
                        format!("the upstream has no such method, did you mean `{nearest}`?");
                    problem(&path, message);
                }
            }
        }
        config.upstreams = self
            .upstreams
            .iter()
            .map(|known| {
                let configured = configured.get(known.name).cloned();
                (
                    known.name.to_owned(),
                    known.complete(configured.unwrap_or_default()),
                )
            })
            .collect();
        for coordinate in config.rate_limit.fields.0.keys() {
            let name = coordinate.as_str();
            if self.coordinates.iter().any(|known| known == name) {
                continue;
            }
            let nearest = self
                .coordinates
                .iter()
                .min_by_key(|known| strsim::osa_distance(known, name));
            let message = match nearest {
                Some(nearest) => {
                    format!("the schema has no such field, did you mean `{nearest}`?")
                }
                None => "the schema has no such field".to_owned(),
            };
            problem(&["rate_limit", "fields", name], message);
        }
        problems
    }
}
