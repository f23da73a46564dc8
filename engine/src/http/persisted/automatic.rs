//! Automatic persisted queries: a client sends the hash of a document, and the document itself only when
//! nobody knows it (Apollo's protocol, version 1).

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use serde::Deserialize;

use super::{Unusable, hash};

/// Bytes of documents that are remembered, those asked for most often.
const REMEMBERED: u64 = 8 << 20;
/// A longer document is executed and not remembered.
const LONGEST: usize = 64 << 10;
/// Documents that fit, of the usual size.
const USUAL: usize = 8192;

/// The documents that clients have sent with their hash. Clones share them.
#[derive(Clone)]
pub(super) struct Automatic(Arc<Cache<Box<str>, Arc<str>, Weight>>);

#[derive(Clone)]
struct Weight;

impl Weighter<Box<str>, Arc<str>> for Weight {
    fn weight(&self, hash: &Box<str>, document: &Arc<str>) -> u64 {
        (hash.len() + document.len()) as u64
    }
}

/// `extensions.persistedQuery` of a request.
#[derive(Clone, Debug, Deserialize)]
pub(in super::super) struct Extension {
    version: u32,
    #[serde(rename = "sha256Hash")]
    hash: String,
}

impl Extension {
    /// The document's hash.
    pub(in super::super) fn hash(&self) -> &str {
        &self.hash
    }
}

impl Default for Automatic {
    fn default() -> Self {
        Self(Arc::new(Cache::with_weighter(USUAL, REMEMBERED, Weight)))
    }
}

impl Automatic {
    /// The document that is meant by `extension`, which came with `sent` or without a document.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn document(
        &self,
        extension: &Extension,
        sent: Option<String>,
    ) -> Result<String, Unusable> {
        if extension.version != 1 {
            return Err(Unusable::Version);
        }
        let Some(sent) = sent else {
            let known = self.0.get(extension.hash.as_str());
            return known.map(|text| text.to_string()).ok_or(Unusable::Unknown);
        };
        if hash(&sent) != extension.hash.to_ascii_lowercase() {
            return Err(Unusable::OtherHash);
        }
        if sent.len() <= LONGEST {
            self.0
                .insert(extension.hash.as_str().into(), Arc::from(sent.as_str()));
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(hash: &str) -> Extension {
        let hash = hash.to_owned();
        Extension { version: 1, hash }
    }

    #[test]
    fn a_document_is_sent_once_and_then_its_hash_does() {
        let persisted = Automatic::default();
        let document = "{ __typename }".to_owned();
        let known = extension("7f56e67dd21ab3f30d1ff8b7bed08893f0a0db86449836189b361dd1e56ddb4b");
        assert_eq!(persisted.document(&known, None), Err(Unusable::Unknown));
        assert_eq!(
            persisted.document(&known, Some(document.clone())),
            Ok(document.clone())
        );
        assert_eq!(persisted.document(&known, None), Ok(document));
    }

    #[test]
    fn a_hash_of_something_else_stores_nothing() {
        let persisted = Automatic::default();
        let document = Some("{ __typename }".to_owned());
        let other = extension(&hash("{ other }"));
        assert_eq!(
            persisted.document(&other, document.clone()),
            Err(Unusable::OtherHash)
        );
        assert_eq!(persisted.document(&other, None), Err(Unusable::Unknown));
        let future = Extension {
            version: 2,
            ..other
        };
        assert_eq!(
            persisted.document(&future, document),
            Err(Unusable::Version)
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let persisted = Automatic::default();
        for n in 0..2000 {
            let document = format!("{{ a{n}: __typename }} # {}", "x".repeat(10_000));
            let known = extension(&hash(&document));
            assert!(persisted.document(&known, Some(document)).is_ok());
        }
        assert!(
            persisted.0.weight() <= REMEMBERED,
            "{}",
            persisted.0.weight()
        );
        let long = format!("{{ __typename }} # {}", "x".repeat(LONGEST));
        let known = extension(&hash(&long));
        assert!(persisted.document(&known, Some(long)).is_ok());
        assert_eq!(persisted.document(&known, None), Err(Unusable::Unknown));
    }
}
