//! The status of the configuration centre.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// The status of the configuration centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NacosStatus {
    /// The document, as messages name it.
    pub(crate) document: String,
    /// When it was last asked successfully; the start if never.
    pub(crate) answered: Instant,
    /// What it answered, or why it did not.
    pub(crate) state: NacosState,
}

/// What the configuration centre answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NacosState {
    /// There was no time for an answer yet.
    NotAsked,
    /// The document is there.
    Found,
    /// There is no such document.
    Missing,
    /// It cannot be asked, for this reason.
    Failing(String),
}

impl NacosState {
    /// Every state's name.
    pub(crate) const NAMES: [&'static str; 4] = ["not_asked", "found", "missing", "failing"];

    /// The state in metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::Found => "found",
            Self::Missing => "missing",
            Self::Failing(_) => "failing",
        }
    }
}

impl NacosStatus {
    /// Time since its last answer; zero while it answers.
    pub(crate) fn staleness(&self, now: Instant) -> Duration {
        match self.state {
            NacosState::Failing(_) | NacosState::NotAsked => {
                now.saturating_duration_since(self.answered)
            }
            NacosState::Found | NacosState::Missing => Duration::ZERO,
        }
    }

    /// The status as a sentence.
    pub(crate) fn describe(&self, now: Instant) -> String {
        let document = &self.document;
        match &self.state {
            NacosState::NotAsked => format!("{document} is being asked for"),
            NacosState::Found => format!("{document} is followed"),
            NacosState::Missing => format!("{document} does not exist (yet)"),
            NacosState::Failing(problem) => {
                let stale = Duration::from_secs(self.staleness(now).as_secs());
                let stale = humantime::format_duration(stale);
                format!("{document} cannot be read, for {stale}: {problem}")
            }
        }
    }
}

/// Logs a change of the status, once.
pub(crate) fn log_change(before: &NacosStatus, state: &NacosState) {
    let document = &before.document;
    match (&before.state, state) {
        (NacosState::Failing(before), NacosState::Failing(problem)) if before == problem => {}
        (_, NacosState::Failing(problem)) => {
            warn!(
                document,
                problem, "Nacos is unreachable, the effective configuration stays"
            );
        }
        (NacosState::Failing(_), NacosState::Found) => info!(document, "Nacos answers"),
        (NacosState::Missing, NacosState::Missing) => {}
        (NacosState::Found, NacosState::Missing) => {
            warn!(
                document,
                "the document is gone from Nacos, the effective configuration stays"
            );
        }
        (_, NacosState::Missing) => {
            info!(document, "there is no such document in Nacos yet");
        }
        (_, NacosState::Found | NacosState::NotAsked) => {}
    }
}
