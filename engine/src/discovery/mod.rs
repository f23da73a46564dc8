//! Who is alive: lists of instances, kept current by a watch.
//!
//! A consumer holds a [`Watch`] and sees [`Snapshot`]s; it does not know whether Consul or a
//! fixed list feeds it. "Unknown" (no answer yet) and "empty" (an answer without instances) differ, and whatever happens to the source, the last good list stays.
//!
//! **Invariant:** only `consul.rs` names the Consul client library.

mod config;
pub(crate) mod consul;
mod entries;
pub(crate) mod fixed;
mod membership;
mod pace;
pub(crate) mod registration;
mod relay;
mod watch;

use std::{sync::Arc, time::Duration};

use http::uri::Authority;
use tokio::{sync::watch as channel, time::Instant};

#[cfg(any(test, feature = "internals"))]
pub(crate) use self::entries::parse_instances;
pub(crate) use self::{
    config::Config,
    relay::{Relay, relay},
    watch::{Answer, Catalog, CatalogError, WatchOptions, watch},
};

/// One running copy of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Host and port: what a connection belongs to, and so the identity of an instance here. A
    /// registration that changes its id but not its address keeps its connection.
    pub(crate) address: Authority,
    /// Share of the calls relative to the others (Consul's `Weights.Passing`), at least 1.
    pub(crate) weight: u32,
}

/// What is known of a service's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// There was no answer yet.
    Unknown,
    /// The last good list; it may be empty.
    Known(Arc<[Instance]>),
}

impl Members {
    /// The instances, none if unknown.
    pub(crate) fn list(&self) -> &[Instance] {
        match self {
            Self::Unknown => &[],
            Self::Known(list) => list,
        }
    }
}

/// A service's instances and how far they can be trusted.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The instances to use.
    pub(crate) members: Members,
    /// The status of the source.
    pub(crate) source: Source,
}

/// How the source of a list is doing.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The list is what the source says now.
    Live,
    /// The source leaves out more than half of what there was; the last good list is held for a while.
    Held {
        /// When the source first did.
        since: Instant,
        /// How many it lists.
        listed: usize,
    },
    /// The source fails; the last good list, if any, is used.
    Failing {
        /// When the source last answered; its start if it never did.
        since: Instant,
        /// What the last attempt to ask it met.
        problem: Arc<str>,
    },
}

impl Source {
    /// For how long the list in use has not been confirmed; zero while the source is live.
    pub(crate) fn staleness(&self, now: Instant) -> Duration {
        match self {
            Self::Live => Duration::ZERO,
            Self::Held { since, .. } | Self::Failing { since, .. } => {
                now.saturating_duration_since(*since)
            }
        }
    }
}

/// The latest [`Snapshot`], and a way to wait for the next.
pub(crate) type Watch = channel::Receiver<Snapshot>;
