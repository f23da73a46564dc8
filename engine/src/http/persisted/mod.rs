//! Documents that a request names instead of sending them: what clients have sent before
//! ([`automatic`]), and what the operator has published ([`manifest`]).

mod automatic;
mod manifest;

use std::{fmt::Write, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use garde::Validate;
use opentelemetry::metrics::{Counter, Meter};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

pub(super) use self::automatic::Extension;
use self::{automatic::Automatic, manifest::Manifest};
use crate::types::WatchedFiles;

/// `[documents]`: documents that are published beforehand.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A file with them: Apollo's manifest (`apollo-persisted-query-manifest`), or an object from names to
    /// documents, as Relay and graphql-codegen write it. Read again when it changes.
    #[garde(skip)]
    pub(crate) manifest: PathBuf,
    /// Whether no other document is executed.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) only: bool,
    /// Whether those that `only` would refuse are executed all the same, and counted.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) dry_run: bool,
}

/// Why no document comes of what a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Nobody has sent it yet: the client does so now.
    Unknown,
    /// It is of a version that we do not speak.
    Version,
    /// The document has another hash.
    OtherHash,
    /// It is none of those that are published.
    Untrusted,
    /// There is none, and nothing that names one.
    Missing,
}

/// What a request says of its document.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The document itself.
    pub(super) query: Option<String>,
    /// Its name in the manifest.
    pub(super) id: Option<String>,
    /// What Apollo's clients say.
    pub(super) extension: Option<Extension>,
}

/// The documents that requests may name. Clones share them.
#[derive(Clone)]
pub(crate) struct Persisted {
    automatic: Automatic,
    trusted: Option<Trusted>,
}

/// Published documents.
#[derive(Clone)]
struct Trusted {
    manifest: Arc<ArcSwap<Manifest>>,
    only: bool,
    dry_run: bool,
    untrusted: Counter<u64>,
    _watching: Arc<AbortOnDropHandle<()>>,
}

impl Persisted {
    /// Those that `config` names, and what clients send.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub(crate) fn new(config: Option<&Config>, meter: &Meter) -> anyhow::Result<Self> {
        let trusted = config.map(|config| Trusted::new(config, meter));
        Ok(Self {
            automatic: Automatic::default(),
            trusted: trusted.transpose()?,
        })
    }

    /// The document that is meant.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(super) fn document(&self, named: Named) -> Result<String, Unusable> {
        let hash = named.extension.as_ref().map(Extension::hash);
        if let Some(trusted) = &self.trusted {
            let manifest = trusted.manifest.load();
            let names = named.id.as_deref().into_iter().chain(hash);
            let published = names.filter_map(|name| manifest.by_name(name)).next();
            match (published, &named.query) {
                (Some(published), None) => return Ok(published.to_owned()),
                (Some(published), Some(sent)) if published == sent => {
                    return Ok(published.to_owned());
                }
                (_, Some(sent)) if manifest.has(sent) => {}
                // Its name is enough to know that it is none.
                (None, None) if !trusted.only || trusted.dry_run => {}
                (None, None) if named.id.is_none() && hash.is_none() => {
                    return Err(Unusable::Missing);
                }
                (None, None) => return Err(Unusable::Unknown),
                (_, _) => trusted.meet_a_stranger()?,
            }
        }
        match (named.query, named.extension) {
            (None, Some(extension)) => {
                let document = self.automatic.document(&extension, None)?;
                if let Some(trusted) = &self.trusted
                    && !trusted.manifest.load().has(&document)
                {
                    trusted.meet_a_stranger()?;
                }
                Ok(document)
            }
            (sent, Some(extension)) => self.automatic.document(&extension, sent),
            (Some(sent), None) => Ok(sent),
            (None, None) if named.id.is_some() => Err(Unusable::Unknown),
            (None, None) => Err(Unusable::Missing),
        }
    }
}

impl Trusted {
    fn new(config: &Config, meter: &Meter) -> anyhow::Result<Self> {
        let path = config.manifest.clone();
        let mut file = WatchedFiles::new([path.clone()]);
        let manifest = Manifest::read(&path)?;
        info!(documents = manifest.len(), "documents are published");
        let manifest = Arc::new(ArcSwap::from_pointee(manifest));
        let kept = Arc::clone(&manifest);
        let failures = meter
            .u64_counter("bff.graphql.documents.manifest_errors")
            .with_description(
                "Manifests of documents that could not be read; the one before stays.",
            )
            .build();
        let watching = tokio::spawn(async move {
            loop {
                file.changed().await;
                match Manifest::read(&path) {
                    Ok(manifest) => {
                        info!(documents = manifest.len(), "other documents are published");
                        kept.store(Arc::new(manifest));
                    }
                    Err(problem) => {
                        failures.add(1, &[]);
                        error!(%problem, "the documents published before stay");
                    }
                }
            }
        });
        Ok(Self {
            manifest,
            only: config.only,
            dry_run: config.dry_run,
            untrusted: meter
                .u64_counter("bff.graphql.documents.untrusted")
                .with_description("Requests with a document that is not published.")
                .build(),
            _watching: Arc::new(AbortOnDropHandle::new(watching)),
        })
    }

    /// A document came that is not published.
    fn meet_a_stranger(&self) -> Result<(), Unusable> {
        self.untrusted.add(1, &[]);
        match self.only && !self.dry_run {
            true => Err(Unusable::Untrusted),
            false => Ok(()),
        }
    }
}

fn hash(document: &str) -> String {
    Sha256::digest(document)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
