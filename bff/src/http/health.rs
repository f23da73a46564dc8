//! `/livez` and `/readyz`: whether to restart this process, and whether to send it traffic.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use tokio::time::Instant;

use crate::{
    config::{InForce, Live, NacosState, Problem},
    discovery::{Snapshot, Source},
    rate_limit::Limiter,
    resilience::breaker,
    upstream::Upstreams,
};

/// Whether this process should get traffic.
///
/// It is ready once every upstream had an instance, and from then on as long as any upstream has
/// one: a field whose upstream is gone answers with an error beside its siblings, which is better
/// than no page, and taking all replicas out because one upstream is down helps nobody. While it
/// drains it is never ready.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    upstreams: Upstreams,
    live: Live,
    limiter: Arc<ArcSwap<Limiter>>,
    draining: AtomicBool,
}

impl Readiness {
    /// The readiness of a process that calls `upstreams`. What is in force is told of, and is no
    /// reason not to be ready: the last good configuration always is.
    pub fn new(upstreams: Upstreams, live: Live, limiter: Arc<ArcSwap<Limiter>>) -> Self {
        Self(Arc::new(Inner {
            upstreams,
            live,
            limiter,
            draining: AtomicBool::new(false),
        }))
    }

    /// Takes the process out of traffic for good.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// The verdict with one line per check, as at `now`.
    pub fn check(&self, now: Instant) -> Report {
        let (mut all_seen, mut any_now) = (true, false);
        let mut lines = String::new();
        for upstream in self.0.upstreams.connected() {
            let snapshot = upstream.watch.borrow().clone();
            let has = !snapshot.members.list().is_empty();
            all_seen &= upstream.balance.has_seen_instances();
            any_now |= has;
            let mark = if has { '+' } else { '-' };
            // Writing to a String cannot fail.
            let _ = writeln!(
                lines,
                "[{mark}] upstream {}: {}",
                upstream.name,
                tell(&snapshot, now)
            );
            let status = upstream.layers.breaker.status();
            if status.state != breaker::State::Closed {
                let lasts = Duration::from_secs((now - status.since).as_secs());
                let _ = writeln!(
                    lines,
                    "[!] upstream {}: breaker {} for {}",
                    upstream.name,
                    status.state.as_str(),
                    humantime::format_duration(lasts)
                );
            }
            let ejected = upstream.balance.ejected();
            if !ejected.is_empty() {
                let ejected: Vec<_> = ejected.iter().map(|address| address.as_str()).collect();
                let _ = writeln!(
                    lines,
                    "[!] upstream {}: ejected at present: {}",
                    upstream.name,
                    ejected.join(", ")
                );
            }
        }
        lines += &tell_config(&self.0.live.now(), now);
        if let Some(store) = self.0.limiter.load().store_status() {
            lines += &match store.away {
                None => "[+] rate limits: shared in Redis\n".to_owned(),
                Some((since, problem)) => {
                    let away = Duration::from_secs((now - since).as_secs());
                    format!(
                        "[!] rate limits: each replica counts for itself, Redis is away for {}: {problem}\n",
                        humantime::format_duration(away)
                    )
                }
            };
        }
        let draining = self.0.draining.load(Ordering::Relaxed);
        if draining {
            lines.push_str("[-] shutdown: draining\n");
        }
        Report {
            ready: all_seen && any_now && !draining,
            lines,
        }
    }
}

/// What `/readyz` says.
#[derive(Debug)]
pub struct Report {
    /// The verdict.
    pub ready: bool,
    /// One line per check: `[+]` good, `[-]` bad, `[!]` good but worth knowing.
    pub lines: String,
}

fn tell(snapshot: &Snapshot, now: Instant) -> String {
    let instances = match snapshot.members.list().len() {
        0 => "no instance".to_owned(),
        1 => "1 instance".to_owned(),
        n => format!("{n} instances"),
    };
    let stale = Duration::from_secs(snapshot.source.staleness(now).as_secs());
    let stale = humantime::format_duration(stale);
    match &snapshot.source {
        Source::Live => instances,
        Source::HeldEmpty { .. } => {
            format!("{instances}, held: Consul calls the service empty, for {stale} now")
        }
        Source::Failing { problem, .. } => {
            format!("{instances}, last good list, stale for {stale}: {problem}")
        }
    }
}

fn tell_config(in_force: &InForce, now: Instant) -> String {
    let mut lines = String::new();
    if let Some(nacos) = &in_force.nacos {
        let mark = match nacos.state {
            NacosState::Found => '+',
            NacosState::NotAsked | NacosState::Missing | NacosState::Failing(_) => '!',
        };
        lines += &format!("[{mark}] configuration: {}\n", nacos.tell(now));
    }
    // Keys only: anybody may read this page, and values are for `/configz`.
    if let Some(problems) = &in_force.refused {
        let keys = keys(&problems.0);
        lines += &format!("[!] configuration: the last document is refused: {keys}\n");
    }
    if !in_force.awaiting_restart.is_empty() {
        let keys = keys(&in_force.awaiting_restart);
        lines += &format!("[!] configuration: a change needs a restart: {keys}\n");
    }
    lines
}

fn keys(problems: &[Problem]) -> String {
    let keys = problems.iter().map(|problem| match problem.key.as_str() {
        "" => "the document as a whole",
        key => key,
    });
    keys.collect::<Vec<_>>().join(", ")
}

pub(super) fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(
    State(readiness): State<Readiness>,
    Query(query): Query<HashMap<String, String>>,
) -> (StatusCode, String) {
    let report = readiness.check(Instant::now());
    let (status, verdict) = match report.ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    };
    match query.contains_key("verbose") {
        true => (status, report.lines + verdict),
        false => (status, verdict.to_owned()),
    }
}
