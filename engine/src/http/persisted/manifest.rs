//! Documents that the operator publishes, by their names.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use anyhow::Context;
use serde::Deserialize;

use super::hash;

/// Published documents.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    by_name: HashMap<String, String>,
    /// Hashes of all of them, for clients that send the document itself.
    hashes: HashSet<String>,
}

/// What a file looks like.
#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Apollo(Apollo),
    Names(HashMap<String, String>),
}

/// <https://www.apollographql.com/docs/graphos/platform/security/persisted-queries#manifest-format>
#[derive(Deserialize)]
struct Apollo {
    format: String,
    version: u32,
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    id: String,
    body: String,
}

impl Manifest {
    /// Those of the file at `path`.
    ///
    /// # Errors
    /// When there is no such file, or it is no manifest; the error names both.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let wrong = || format!("documents.manifest: {}", path.display());
        let text = fs::read_to_string(path).with_context(wrong)?;
        Self::parse(&text).with_context(wrong)
    }

    /// Those of `text`.
    ///
    /// # Errors
    /// When it is no manifest.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        // By itself first, so that what is no JSON is told with its place.
        let json: serde_json::Value = serde_json::from_str(text)?;
        let file = serde_json::from_value(json).map_err(|_| {
            anyhow::anyhow!(
                "neither Apollo's manifest ({{\"format\": …, \"operations\": [{{\"id\": …, \"body\": …}}]}}) \
                 nor an object from names to documents"
            )
        })?;
        let by_name: HashMap<_, _> = match file {
            File::Names(names) => names,
            File::Apollo(apollo) => {
                anyhow::ensure!(
                    apollo.format == "apollo-persisted-query-manifest" && apollo.version == 1,
                    "a manifest of the format {}, version {}, which is not known",
                    apollo.format,
                    apollo.version
                );
                let operations = apollo.operations.into_iter();
                operations.map(|one| (one.id, one.body)).collect()
            }
        };
        let hashes = by_name.values().map(|document| hash(document)).collect();
        Ok(Self { by_name, hashes })
    }

    /// The document with this name: its own, or `sha256:` and its hash.
    pub(super) fn by_name(&self, name: &str) -> Option<&str> {
        let bare = || self.by_name.get(name.strip_prefix("sha256:")?);
        self.by_name.get(name).or_else(bare).map(String::as_str)
    }

    /// Whether `document` is one of them.
    pub(super) fn has(&self, document: &str) -> bool {
        self.hashes.contains(&hash(document))
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_a_document_is_found_by_its_name_and_by_itself() {
        let apollo = r#"{"format":"apollo-persisted-query-manifest","version":1,
            "operations":[{"id":"abc","name":"Q","type":"query","body":"query Q { a }"}]}"#;
        let names = r#"{"abc":"query Q { a }"}"#;
        for text in [apollo, names] {
            let manifest = Manifest::parse(text).unwrap();
            assert_eq!(manifest.len(), 1);
            assert_eq!(manifest.by_name("abc"), Some("query Q { a }"));
            assert_eq!(manifest.by_name("sha256:abc"), Some("query Q { a }"));
            assert_eq!(manifest.by_name("abd"), None);
            assert!(manifest.has("query Q { a }") && !manifest.has("query Q {a}"));
        }
        assert_eq!(Manifest::parse("{}").unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_manifest_is_told_why() {
        for (text, why) in [
            ("{", "EOF"),
            ("[]", "neither Apollo's manifest"),
            ("{\"a\": 1}", "nor an object from names"),
            (
                r#"{"format":"apollo-persisted-query-manifest","version":2,"operations":[]}"#,
                "version 2",
            ),
        ] {
            let problem = Manifest::parse(text).unwrap_err().to_string();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }
}
