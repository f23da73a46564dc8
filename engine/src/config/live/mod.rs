//! The effective configuration: what a document from outside changes, and what it cannot.
//!
//! A document is merged with what was sources at the start, checked as a whole, and swapped in as a
//! whole. One that is not good changes nothing. Of a good one, keys that need a restart keep the
//! value they have, and the rest becomes effective.

mod diff;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use self::diff::differing;
use super::{
    Config, Document, Origins, Problem, Problems, Rules, SourcesRead,
    nacos::{self, NacosState, NacosStatus, PollResult, log_change},
    print,
};
use crate::http;

/// How long a start waits for Nacos before it goes on without.
const BOOT_WAIT: Duration = Duration::from_secs(3);

/// The effective configuration and its changes. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    state: watch::Receiver<Arc<EffectiveConfig>>,
    /// Ends with the last clone.
    follow: Option<Arc<AbortOnDropHandle<()>>>,
}

/// The effective configuration at one moment.
#[derive(Clone, Debug)]
pub(crate) struct EffectiveConfig {
    /// The configuration.
    pub(crate) config: Config,
    /// Where its values came from, but for those that wait for a restart.
    pub(crate) origins: Origins,
    /// Where those came from that wait for a restart.
    origins_at_start: Origins,
    /// Counts the configurations that became effective, from 1.
    pub(crate) generation: u64,
    /// Changes that wait for a restart.
    pub(crate) awaiting_restart: Vec<Problem>,
    /// Why the last document was refused, until a good one comes.
    pub(crate) refused: Option<Problems>,
    /// How many documents were refused.
    pub(crate) refusals: u64,
    /// How many documents held changes that wait for a restart.
    pub(crate) restarts_asked: u64,
    /// Nacos' status, if it is configured.
    pub(crate) nacos: Option<NacosStatus>,
    /// The text that was looked at last, good or not.
    seen: Option<String>,
}

/// When a document comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing runs yet: every key may change.
    AtStart,
    /// Some keys are built into what runs.
    WhileRunning,
}

impl Live {
    /// What the sources say, without Nacos.
    ///
    /// # Errors
    /// [`Problems`] of what was sources.
    #[cfg(feature = "made-up")]
    pub(crate) fn alone(sources: &SourcesRead) -> Result<Self, Problems> {
        EffectiveConfig::at_start(sources, Instant::now()).map(Self::unchanging)
    }

    fn unchanging(now: EffectiveConfig) -> Self {
        Self {
            state: watch::channel(Arc::new(now)).1,
            follow: None,
        }
    }

    /// Checks `sources` and, if there is a Nacos among them, asks it: a start waits for its answer
    /// for three seconds, and goes on without it. From then on its documents are followed.
    ///
    /// Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Problems`] of what was sources. A document in Nacos that is not good is no reason not to
    /// start.
    pub(crate) async fn start(sources: SourcesRead) -> Result<Self, Problems> {
        let mut now = EffectiveConfig::at_start(&sources, Instant::now())?;
        let Some(nacos) = now.config.nacos.clone() else {
            return Ok(Self::unchanging(now));
        };
        let mut readings = nacos::watch(nacos);
        let boot = async {
            while let Some(reading) = readings.recv().await {
                let failed = matches!(reading, PollResult::Failed(_));
                now = now.read(&sources, reading, Change::AtStart, Instant::now());
                if !failed {
                    return;
                }
            }
        };
        if timeout(BOOT_WAIT, boot).await.is_err() {
            warn!(
                waited = %humantime::format_duration(BOOT_WAIT),
                "Nacos does not answer: starting with the file, its document will be used when it comes"
            );
        }
        let (sender, state) = watch::channel(Arc::new(now));
        let following = tokio::spawn(async move {
            while let Some(reading) = readings.recv().await {
                let next =
                    sender
                        .borrow()
                        .read(&sources, reading, Change::WhileRunning, Instant::now());
                sender.send_replace(Arc::new(next));
            }
        });
        Ok(Self {
            state,
            follow: Some(Arc::new(AbortOnDropHandle::new(following))),
        })
    }

    /// Documents for clients that are published in Nacos, if they are and it is followed.
    pub(crate) fn published_elsewhere(&self) -> Option<http::Published> {
        self.follow.as_ref()?;
        let now = self.now();
        let config = &now.config;
        let data_id = config.documents.as_ref()?.data_id.as_deref()?;
        Some(nacos::texts(config.nacos.as_ref()?, data_id))
    }

    /// The effective configuration.
    pub(crate) fn now(&self) -> Arc<EffectiveConfig> {
        Arc::clone(&self.state.borrow())
    }

    /// Calls `apply` with the rules of each configuration that becomes effective after the one of
    /// `generation`, which the caller has applied. It never returns, also when nothing can change any more.
    pub(crate) async fn each_change(&self, mut generation: u64, mut apply: impl FnMut(&Rules)) {
        let mut state = self.state.clone();
        loop {
            let now = Arc::clone(&state.borrow_and_update());
            if now.generation != generation {
                generation = now.generation;
                apply(&now.config.rules());
            }
            if state.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl EffectiveConfig {
    fn at_start(sources: &SourcesRead, now: Instant) -> Result<Self, Problems> {
        let loaded = sources.with(None)?;
        let nacos = loaded.config.nacos.as_ref().map(|nacos| NacosStatus {
            document: nacos.document(),
            answered: now,
            state: NacosState::NotAsked,
        });
        Ok(Self {
            config: loaded.config,
            origins: loaded.origins.clone(),
            origins_at_start: loaded.origins,
            generation: 1,
            awaiting_restart: Vec::new(),
            refused: None,
            refusals: 0,
            restarts_asked: 0,
            nacos,
            seen: None,
        })
    }

    /// What `reading` makes of it.
    fn read(
        &self,
        sources: &SourcesRead,
        reading: PollResult,
        change: Change,
        now: Instant,
    ) -> Self {
        let mut next = self.clone();
        let state = match &reading {
            PollResult::Found(_) => NacosState::Found,
            PollResult::Missing => NacosState::Missing,
            PollResult::Failed(problem) => NacosState::Failing(problem.clone()),
        };
        if let Some(nacos) = &mut next.nacos {
            log_change(nacos, &state);
            if !matches!(state, NacosState::Failing(_)) {
                nacos.answered = now;
            }
            nacos.state = state;
        }
        match reading {
            PollResult::Found(text) if next.seen.as_ref() != Some(&text) => {
                next.seen = Some(text);
                next.consider(sources, change);
            }
            PollResult::Found(_) | PollResult::Missing | PollResult::Failed(_) => {}
        }
        next
    }

    /// Makes the document that was read last effective, as far as that can be done.
    fn consider(&mut self, sources: &SourcesRead, change: Change) {
        let Some(document) = self.document() else {
            return;
        };
        let loaded = match document.text.trim() {
            "" => Err(Problems(vec![Problem {
                key: String::new(),
                origin: None,
                message: format!(
                    "{}: the document is empty; to go back to the file, publish one with only a comment",
                    document.origin
                ),
            }])),
            _ => sources.with(Some(&document)),
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => {
                for problem in &problems.0 {
                    error!(
                        document = document.origin,
                        %problem,
                        "the document is refused, the effective configuration stays"
                    );
                }
                self.refused = Some(problems);
                self.refusals += 1;
                return;
            }
        };
        let config = match change {
            Change::AtStart => loaded.config.clone(),
            Change::WhileRunning => self.config.with_rules(loaded.config.rules()),
        };
        let awaiting = differing(&config, &loaded.config, &loaded.origins);
        for change in &awaiting {
            warn!(key = change.key, "{}", change.message);
        }
        if !awaiting.is_empty() && awaiting != self.awaiting_restart {
            self.restarts_asked += 1;
        }
        self.config = config;
        if change == Change::AtStart {
            self.origins_at_start = loaded.origins.clone();
        }
        self.origins = loaded.origins;
        self.awaiting_restart = awaiting;
        self.refused = None;
        if change == Change::WhileRunning {
            self.generation += 1;
        }
        info!(
            generation = self.generation,
            document = document.origin,
            "a new configuration is effective"
        );
    }

    fn document(&self) -> Option<Document> {
        Some(Document {
            origin: self.nacos.as_ref()?.document.clone(),
            text: self.seen.clone()?,
        })
    }

    /// The effective configuration as TOML: where each value came from, and above it what an operator should
    /// know. Secrets are redacted.
    ///
    /// # Errors
    /// Never for an effective configuration; the TOML writer's type asks for it.
    pub(crate) fn to_toml(&self, now: Instant) -> anyhow::Result<String> {
        let mut text = format!("# generation {}\n", self.generation);
        if let Some(nacos) = &self.nacos {
            text += &format!("# {}\n", nacos.describe(now));
        }
        if let Some(problems) = &self.refused {
            let said = problems.to_string().replace('\n', "\n#   ");
            text += &format!("# the last document is refused: {said}\n");
        }
        for change in &self.awaiting_restart {
            text += &format!("# {}: {}\n", change.key, change.message);
        }
        text.push('\n');
        let waits = |key: &str| self.awaiting_restart.iter().any(|change| change.key == key);
        text += &print::annotated(&self.config, |path| {
            let origins = match waits(&path.join(".")) {
                true => &self.origins_at_start,
                false => &self.origins,
            };
            origins.at(path.iter().map(String::as_str))
        })?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
