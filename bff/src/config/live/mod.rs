//! The configuration in force: what a document from outside changes, and what it cannot.
//!
//! A document is merged with what was given at the start, checked as a whole, and swapped in as a
//! whole. One that is not good changes nothing. Of a good one, keys that need a restart keep the
//! value they have, and the rest is put in force.

mod center;
mod diff;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

pub use self::center::{Nacos, NacosState};
use self::{center::tell, diff::differing};
use super::{
    Config, Document, Given, Origins, Problem, Problems, Sources,
    nacos::{self, Reading},
    print,
};

/// How long a start waits for Nacos before it goes on without.
const BOOT_WAIT: Duration = Duration::from_secs(3);

/// The configuration in force, and word of every change. Clones share it.
#[derive(Clone, Debug)]
pub struct Live {
    state: watch::Receiver<Arc<InForce>>,
    /// Ends with the last clone.
    _follow: Option<Arc<AbortOnDropHandle<()>>>,
}

/// What is in force at one moment.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Config,
    /// Where its values came from, but for those that wait for a restart.
    pub origins: Origins,
    /// Where those came from that wait for a restart.
    origins_at_start: Origins,
    /// Counts the configurations that were put in force, from 1.
    pub generation: u64,
    /// Changes that wait for a restart.
    pub awaiting_restart: Vec<Problem>,
    /// Why the last document was refused, until a good one comes.
    pub refused: Option<Problems>,
    /// How many documents were refused.
    pub refusals: u64,
    /// How many documents held changes that wait for a restart.
    pub restarts_asked: u64,
    /// How Nacos is doing, if there is one.
    pub nacos: Option<Nacos>,
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
    /// Reads `sources` and, if there is a Nacos among them, asks it: a start waits for its answer
    /// for three seconds, and goes on without it. From then on its documents are followed.
    ///
    /// Has to be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Problems`] of what was given. A document in Nacos that is not good is no reason not to
    /// start.
    pub async fn start(sources: &Sources) -> Result<Self, Problems> {
        let given = sources.read()?;
        let mut now = InForce::at_start(&given, Instant::now())?;
        let Some(nacos) = now.config.nacos.clone() else {
            return Ok(Self {
                state: watch::channel(Arc::new(now)).1,
                _follow: None,
            });
        };
        let mut readings = nacos::watch(nacos);
        let boot = async {
            while let Some(reading) = readings.recv().await {
                let failed = matches!(reading, Reading::Failed(_));
                now = now.read(&given, reading, Change::AtStart, Instant::now());
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
        let follow = tokio::spawn(async move {
            while let Some(reading) = readings.recv().await {
                let next =
                    sender
                        .borrow()
                        .read(&given, reading, Change::WhileRunning, Instant::now());
                sender.send_replace(Arc::new(next));
            }
        });
        Ok(Self {
            state,
            _follow: Some(Arc::new(AbortOnDropHandle::new(follow))),
        })
    }

    /// What is in force now.
    pub fn now(&self) -> Arc<InForce> {
        Arc::clone(&self.state.borrow())
    }

    /// Hears of every change, also of those that only concern how Nacos is doing.
    pub fn subscribe(&self) -> watch::Receiver<Arc<InForce>> {
        self.state.clone()
    }

    /// Calls `apply` with each configuration that is put in force after the one of `generation`,
    /// which the caller has applied. It never returns, also when nothing can change any more.
    pub async fn each_change(&self, mut generation: u64, mut apply: impl FnMut(&Config)) {
        let mut state = self.state.clone();
        loop {
            let now = Arc::clone(&state.borrow_and_update());
            if now.generation != generation {
                generation = now.generation;
                apply(&now.config);
            }
            if state.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl InForce {
    fn at_start(given: &Given, now: Instant) -> Result<Self, Problems> {
        let loaded = given.with(None)?;
        let nacos = loaded.config.nacos.as_ref().map(|nacos| Nacos {
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
    fn read(&self, given: &Given, reading: Reading, change: Change, now: Instant) -> Self {
        let mut next = self.clone();
        let state = match &reading {
            Reading::Found(_) => NacosState::Found,
            Reading::Missing => NacosState::Missing,
            Reading::Failed(problem) => NacosState::Failing(problem.clone()),
        };
        if let Some(nacos) = &mut next.nacos {
            tell(nacos, &state);
            if !matches!(state, NacosState::Failing(_)) {
                nacos.answered = now;
            }
            nacos.state = state;
        }
        match reading {
            Reading::Found(text) if next.seen.as_ref() != Some(&text) => {
                next.seen = Some(text);
                next.consider(given, change);
            }
            Reading::Found(_) | Reading::Missing | Reading::Failed(_) => {}
        }
        next
    }

    /// Puts the document that was seen last in force, as far as that can be done.
    fn consider(&mut self, given: &Given, change: Change) {
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
            _ => given.with(Some(&document)),
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => {
                for problem in &problems.0 {
                    error!(
                        document = document.origin,
                        %problem,
                        "the document is refused, the last good configuration stays in force"
                    );
                }
                self.refused = Some(problems);
                self.refusals += 1;
                return;
            }
        };
        let config = match change {
            Change::AtStart => loaded.config.clone(),
            Change::WhileRunning => self.config.with_live_parts_of(&loaded.config),
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
            "a new configuration is in force"
        );
    }

    fn document(&self) -> Option<Document> {
        Some(Document {
            origin: self.nacos.as_ref()?.document.clone(),
            text: self.seen.clone()?,
        })
    }

    /// What is in force as TOML: where each value came from, and above it what an operator should
    /// know. Secrets are redacted.
    ///
    /// # Errors
    /// Never for a configuration that is in force; the TOML writer's type asks for it.
    pub fn to_toml(&self, now: Instant) -> anyhow::Result<String> {
        let mut text = format!("# generation {}\n", self.generation);
        if let Some(nacos) = &self.nacos {
            text += &format!("# {}\n", nacos.tell(now));
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
