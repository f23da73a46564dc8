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

use super::{ConfigView, Persisted};
use crate::{
    discovery::Source,
    rate_limit::Limiter,
    resilience::breaker,
    upstream::{UpstreamStatus, Upstreams},
};

/// Whether this process should get traffic.
///
/// It is ready once every upstream that is required had an instance and, where only published documents are
/// executed, those were read; and from then on as long as any
/// upstream has one: a field whose upstream is gone answers with an error beside its siblings, which is better
/// than no page, and taking all replicas out because one upstream is down helps no client. While it
/// drains it is never ready.
#[derive(Clone)]
pub(crate) struct Readiness(Arc<Inner>);

struct Inner {
    upstreams: Upstreams,
    config: Arc<dyn ConfigView>,
    limiter: Arc<ArcSwap<Limiter>>,
    documents: Persisted,
    draining: AtomicBool,
}

impl Readiness {
    /// The readiness of a process that calls `upstreams`. The configuration's state is reported but
    /// does not affect readiness, because the last valid configuration stays effective.
    pub(crate) fn new(
        upstreams: Upstreams,
        config: Arc<dyn ConfigView>,
        limiter: Arc<ArcSwap<Limiter>>,
        documents: Persisted,
    ) -> Self {
        Self(Arc::new(Inner {
            upstreams,
            config,
            limiter,
            documents,
            draining: AtomicBool::new(false),
        }))
    }

    /// Takes the process out of traffic for good.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// The verdict with one line per check, as at `now`.
    pub(crate) fn check(&self, now: Instant) -> Report {
        let (mut all_seen, mut any_now) = (true, false);
        let mut lines = String::new();
        for upstream in self.0.upstreams.status(now) {
            let has = upstream.instances > 0;
            all_seen &= upstream.has_seen_instances || !upstream.required;
            any_now |= has;
            lines += &describe_upstream(&upstream, now);
        }
        lines += &self.0.config.checks(now);
        if let Some(store) = self.0.limiter.load().store_status() {
            lines += &match store.away {
                None => "[+] rate limits: shared in Redis\n".to_owned(),
                Some((since, problem)) => {
                    let away = whole_seconds(now - since);
                    format!(
                        "[!] rate limits: each replica counts for itself, Redis is away for {away}: {problem}\n"
                    )
                }
            };
        }
        let lacking = self.0.documents.lacking();
        if let Some(problem) = &lacking {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "[-] documents: none are published: {problem}");
        }
        let draining = self.0.draining.load(Ordering::Relaxed);
        if draining {
            lines.push_str("[-] shutdown: draining\n");
        }
        Report {
            ready: all_seen && any_now && lacking.is_none() && !draining,
            lines,
        }
    }
}

/// What `/readyz` says.
#[derive(Debug)]
pub(crate) struct Report {
    /// The verdict.
    pub(crate) ready: bool,
    /// One line per check: `[+]` good, `[-]` bad, `[!]` good but worth knowing.
    pub(crate) lines: String,
}

fn describe_upstream(upstream: &UpstreamStatus, now: Instant) -> String {
    let name = upstream.name;
    let mark = match (upstream.instances, upstream.required) {
        (1.., _) => '+',
        (0, true) => '-',
        (0, false) => '!',
    };
    let not_required = if upstream.required {
        ""
    } else {
        ", not required"
    };
    let list = describe_list(upstream, now);
    let mut lines = format!("[{mark}] upstream {name}: {list}{not_required}\n");
    let status = upstream.breaker;
    if status.state != breaker::State::Closed {
        // Writing to a String cannot fail.
        let _ = writeln!(
            lines,
            "[!] upstream {name}: breaker {} for {}",
            status.state.as_str(),
            whole_seconds(now - status.since)
        );
    }
    if upstream.connected < upstream.instances {
        let _ = writeln!(
            lines,
            "[!] upstream {name}: {} of {} connected; the log says why the others are not",
            upstream.connected, upstream.instances
        );
    }
    if !upstream.ejected.is_empty() {
        let ejected: Vec<_> = upstream.ejected.iter().map(|one| one.as_str()).collect();
        let ejected = ejected.join(", ");
        let _ = writeln!(lines, "[!] upstream {name}: ejected at present: {ejected}");
    }
    lines
}

fn describe_list(upstream: &UpstreamStatus, now: Instant) -> String {
    let instances = match upstream.instances {
        0 => "no instance".to_owned(),
        1 => "1 instance".to_owned(),
        n => format!("{n} instances"),
    };
    let stale = whole_seconds(upstream.source.staleness(now));
    match &upstream.source {
        Source::Live => instances,
        Source::Held { listed: 0, .. } => {
            format!("{instances}, held: Consul calls the service empty, for {stale} now")
        }
        Source::Held { listed, .. } => {
            format!("{instances}, held: Consul lists {listed}, for {stale} now")
        }
        Source::Failing { problem, .. } => {
            format!("{instances}, last good list, stale for {stale}: {problem}")
        }
    }
}

fn whole_seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

/// For machines that ask the public listener: one word each.
pub(super) fn routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

/// For the admin listener, which has the reasons too.
pub(super) fn admin_routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz_with_reasons))
        .with_state(readiness)
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    verdict(&readiness.check(Instant::now()))
}

async fn readyz_with_reasons(
    State(readiness): State<Readiness>,
    Query(query): Query<HashMap<String, String>>,
) -> (StatusCode, String) {
    let report = readiness.check(Instant::now());
    let (status, verdict) = verdict(&report);
    match query.contains_key("verbose") {
        true => (status, report.lines + verdict),
        false => (status, verdict.to_owned()),
    }
}

fn verdict(report: &Report) -> (StatusCode, &'static str) {
    match report.ready {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}
