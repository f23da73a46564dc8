//! Documents that a request names instead of sending them: what clients have sent before
//! ([`automatic`]), and what the operator has published ([`manifest`]).

mod automatic;
mod manifest;

use std::{fmt::Write, path::PathBuf, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream::BoxStream};
use garde::Validate;
use opentelemetry::metrics::{Counter, Meter};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

pub(super) use self::automatic::Extension;
use self::{automatic::Automatic, manifest::Manifest};
use crate::types::{OutageLog, WatchedFiles};

/// `[documents]`: documents that are published beforehand.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// A file with them: Apollo's manifest (`apollo-persisted-query-manifest`), or an object from names to
    /// documents, as Relay and graphql-codegen write it. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(one_of_both(&self.data_id)))]
    pub(crate) manifest: Option<PathBuf>,
    /// A document in Nacos with the same, of the server, namespace and group of `[nacos]`. Followed; a file
    /// beside it holds until it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(min = 1, max = 256)))]
    pub(crate) data_id: Option<String>,
    /// Whether no other document is executed.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) only: bool,
    /// Whether those that `only` would refuse are executed all the same, and counted.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) dry_run: bool,
}

#[expect(clippy::ref_option, reason = "what the macro gives")]
fn one_of_both<T>(data_id: &Option<String>) -> impl FnOnce(&Option<T>, &()) -> garde::Result + '_ {
    move |manifest, ()| match (manifest, data_id) {
        (None, None) => Err(garde::Error::new("set `manifest` or `data_id`")),
        _ => Ok(()),
    }
}

/// What is published elsewhere: each text, or why there is none.
pub(crate) type Published = BoxStream<'static, Result<String, String>>;

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
    /// Why there are none yet.
    lacking: Arc<Mutex<Option<String>>>,
    _watching: Arc<AbortOnDropHandle<()>>,
}

impl Persisted {
    /// Those that `config` names, which are `elsewhere` if they are in no file, and what clients send.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub(crate) fn new(
        config: Option<&Config>,
        elsewhere: Option<Published>,
        meter: &Meter,
    ) -> anyhow::Result<Self> {
        let trusted = config.map(|config| Trusted::new(config, elsewhere, meter));
        Ok(Self {
            automatic: Automatic::default(),
            trusted: trusted.transpose()?,
        })
    }

    /// Why nothing can be executed: only what is published is, and that has not been read yet.
    pub(super) fn lacking(&self) -> Option<String> {
        let trusted = self.trusted.as_ref()?;
        let lacking = trusted.lacking.lock().clone();
        lacking.filter(|_| trusted.only && !trusted.dry_run)
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
    fn new(config: &Config, elsewhere: Option<Published>, meter: &Meter) -> anyhow::Result<Self> {
        let file = config.manifest.clone();
        let watched = file.clone().map(|path| WatchedFiles::new([path]));
        let manifest = file.as_deref().map(Manifest::read).transpose()?;
        let lacking = match &manifest {
            Some(manifest) => {
                info!(documents = manifest.len(), "documents are published");
                None
            }
            None => Some("not read yet".to_owned()),
        };
        let following = Following {
            manifest: Arc::new(ArcSwap::from_pointee(manifest.unwrap_or_default())),
            lacking: Arc::new(Mutex::new(lacking)),
            failures: meter
                .u64_counter("bff.graphql.documents.manifest_errors")
                .with_description(
                    "Manifests of documents that could not be read; the one before stays.",
                )
                .build(),
        };
        let (manifest, lacking) = (
            Arc::clone(&following.manifest),
            Arc::clone(&following.lacking),
        );
        let watching = match (elsewhere, watched, file) {
            (Some(elsewhere), _, _) => tokio::spawn(following.elsewhere(elsewhere)),
            (None, Some(watched), Some(path)) => tokio::spawn(following.file(watched, path)),
            (None, _, _) => tokio::spawn(std::future::ready(())),
        };
        Ok(Self {
            manifest,
            only: config.only,
            dry_run: config.dry_run,
            untrusted: meter
                .u64_counter("bff.graphql.documents.untrusted")
                .with_description("Requests with a document that is not published.")
                .build(),
            lacking,
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

/// Keeps published documents as they are published.
struct Following {
    manifest: Arc<ArcSwap<Manifest>>,
    lacking: Arc<Mutex<Option<String>>>,
    failures: Counter<u64>,
}

impl Following {
    async fn file(self, mut file: WatchedFiles, path: PathBuf) {
        loop {
            file.changed().await;
            self.take(Manifest::read(&path));
        }
    }

    async fn elsewhere(self, mut published: Published) {
        let (mut before, mut outage) = (None, OutageLog::default());
        while let Some(text) = published.next().await {
            match text {
                Ok(text) => {
                    outage.recovered(|| info!("published documents can be read again"));
                    if before.as_ref() != Some(&text) {
                        self.take(Manifest::parse(&text).context("documents.data_id"));
                        before = Some(text);
                    }
                }
                Err(problem) => {
                    outage.failed(Instant::now(), || {
                        error!(
                            problem,
                            "published documents cannot be read: those before stay"
                        );
                    });
                    self.lack(problem);
                }
            }
        }
    }

    fn take(&self, read: anyhow::Result<Manifest>) {
        match read {
            Ok(manifest) => {
                info!(documents = manifest.len(), "other documents are published");
                self.manifest.store(Arc::new(manifest));
                *self.lacking.lock() = None;
            }
            Err(problem) => {
                self.failures.add(1, &[]);
                let problem = format!("{problem:#}");
                error!(problem, "the documents published before stay");
                self.lack(problem);
            }
        }
    }

    /// Only as long as there are none.
    fn lack(&self, problem: String) {
        if let Some(lacking) = &mut *self.lacking.lock() {
            *lacking = problem;
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
