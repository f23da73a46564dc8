//! Buckets that replicas share, in Redis or Valkey: all rules of a field in one round trip, on
//! the server's clock.
//!
//! A request never waits for a connection, and for an answer only `timeout`. While Redis is away
//! the local buckets decide, in each replica for itself; a task of its own finds out when it is
//! back.
//!
//! **Invariant:** only this folder names the Redis client.

mod config;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, Script, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

pub(crate) use self::config::Config;
use super::{ActiveRule, Scope};
use crate::types::{Backoff, ClientKey, OutageLog};

/// Connect timeout; no request waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between attempts to find Redis again. Replicas need not be spread: they share one server
/// with few connections.
const RECONNECT: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(3),
    jitter: 0.8..=1.0,
};
/// Answers in a row that have to be late before Redis counts as away: one may be the network's
/// hiccup, or our own. Those that were waited for together are one.
const LATE_MAX: u32 = 5;
/// A connection that lasted for so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The shared buckets.
#[derive(Debug)]
pub(super) struct Shared {
    config: Config,
    inner: Arc<Inner>,
    _keep: AbortOnDropHandle<()>,
}

struct Inner {
    client: Result<Client, String>,
    script: Script,
    timeout: Duration,
    /// A probe's key.
    probe: String,
    connection: ArcSwapOption<MultiplexedConnection>,
    away: Mutex<Option<Away>>,
    outage: Mutex<OutageLog>,
    lost: Notify,
    late: Mutex<Late>,
    /// Whether the server answers, but with errors.
    refusing: AtomicBool,
    fallbacks: AtomicU64,
}

/// Late answers in a row.
#[derive(Debug, Default)]
struct Late {
    count: u32,
    /// When the last of them was given up.
    last: Option<Instant>,
}

impl Late {
    /// Counts a question that was asked at `began` and is given up `now`; returns how many there
    /// were in a row.
    fn count(&mut self, began: Instant, now: Instant) -> u32 {
        if self.last.is_none_or(|last| began >= last) {
            self.count += 1;
            self.last = Some(now);
        }
        self.count
    }
}

/// That there is no connection.
struct Away {
    since: Instant,
    problem: String,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inner")
    }
}

/// How the shared buckets are doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreStatus {
    /// Since when Redis is away, and why; `None` while it answers.
    pub(crate) away: Option<(Instant, String)>,
    /// Calls that the local buckets decided because it was.
    pub(crate) fallbacks: u64,
}

impl Shared {
    /// The buckets of `config`'s server, which is looked for in the background.
    ///
    /// Has to be called within a tokio runtime.
    pub(super) fn new(config: &Config) -> Self {
        let client = config
            .connection()
            .and_then(|info| Client::open(info).map_err(|error| error.to_string()));
        let inner = Arc::new(Inner {
            client,
            script: Script::new(include_str!("take.lua")),
            timeout: config.timeout,
            probe: format!("{}probe", config.prefix),
            connection: ArcSwapOption::empty(),
            away: Mutex::new(Some(Away {
                since: Instant::now(),
                problem: "it has not answered yet".to_owned(),
            })),
            outage: Mutex::default(),
            lost: Notify::new(),
            late: Mutex::default(),
            refusing: AtomicBool::new(false),
            fallbacks: AtomicU64::new(0),
        });
        Self {
            config: config.clone(),
            _keep: AbortOnDropHandle::new(tokio::spawn(keep(Arc::clone(&inner)))),
            inner,
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            away: self
                .inner
                .away()
                .as_ref()
                .map(|away| (away.since, away.problem.clone())),
            fallbacks: self.inner.fallbacks.load(Ordering::Relaxed),
        }
    }

    /// Asks `rules`, in their order, for one call of `client`: how long each of those that were
    /// asked has to be waited for, zero if it lets the call through. `None` if Redis is away.
    pub(super) async fn take(
        &self,
        rules: &[ActiveRule],
        client: ClientKey,
    ) -> Option<Vec<Duration>> {
        let Some(connection) = self.inner.connection.load_full() else {
            self.inner.fallbacks.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let mut call = self.inner.script.prepare_invoke();
        for rule in rules {
            let prefix = &self.config.prefix;
            match rule.rule.per {
                Scope::Client => call.key(format!("{prefix}{}:{:032x}", rule.shared_key, client.0)),
                Scope::Global => call.key(format!("{prefix}{}", rule.shared_key)),
            };
            call.arg(rule.rule.algorithm.as_str())
                .arg(rule.rule.calls)
                .arg(u64::try_from(rule.rule.period.as_micros()).unwrap_or(u64::MAX))
                .arg(rule.rule.cost)
                .arg(u8::from(rule.rule.dry_run));
        }
        let mut this = MultiplexedConnection::clone(&connection);
        let began = Instant::now();
        match timeout(self.inner.timeout, call.invoke_async(&mut this)).await {
            Ok(Ok(waits)) => {
                self.inner.answered();
                let waits: Vec<u64> = waits;
                return Some(waits.into_iter().map(Duration::from_micros).collect());
            }
            Ok(Err(error)) if is_gone(&error) => self.inner.lose(&connection, error.to_string()),
            // The server is there, and says no: another connection would hear the same.
            Ok(Err(error)) => {
                self.inner.refusing.store(true, Ordering::Relaxed);
                self.inner.log_away(error.to_string());
            }
            Err(_) if self.inner.late().count(began, Instant::now()) >= LATE_MAX => {
                self.inner.lose(&connection, self.inner.no_answer());
            }
            Err(_) => {}
        }
        self.inner.fallbacks.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Whether an error says that the server is not there any more, or not the one to write to.
fn is_gone(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Connects, and again whenever the connection is lost.
async fn keep(inner: Arc<Inner>) {
    let mut failures = 0;
    loop {
        match inner.connect().await {
            Ok(connection) => {
                let since = Instant::now();
                inner.found(connection);
                inner.lost.notified().await;
                failures = match since.elapsed() > STABLE_AFTER {
                    true => 0,
                    // Good enough for a probe, not for the work.
                    false => failures + 1,
                };
            }
            Err(problem) => {
                inner.log_away(problem);
                failures += 1;
            }
        }
        let pause = RECONNECT.pause(failures, &mut rand::rng());
        sleep(pause).await;
    }
}

impl Inner {
    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock()
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock()
    }

    /// A question was answered.
    fn answered(&self) {
        let mut late = self.late();
        if late.count > 0 {
            *late = Late::default();
        }
        drop(late);
        if self.refusing.load(Ordering::Relaxed) && self.refusing.swap(false, Ordering::Relaxed) {
            self.log_back();
        }
    }

    fn no_answer(&self) -> String {
        format!(
            "no answer within {}",
            humantime::format_duration(self.timeout)
        )
    }

    /// A connection over which the script was answered in time.
    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        // Ours is the time that counts for answers.
        let times = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT.max(self.timeout * 2)));
        let connecting = client.get_multiplexed_async_connection_with_config(&times);
        let mut connection = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| "no connection within a second".to_owned())?
            .map_err(|error| error.to_string())?;
        // The first time the script may have to be loaded; the second has to be as fast as for a
        // request.
        for limit in [CONNECT_TIMEOUT, self.timeout] {
            let mut call = self.script.key(&self.probe);
            call.arg("gcra").arg(1).arg(1).arg(1).arg(0);
            let answered = call.invoke_async::<Vec<u64>>(&mut connection);
            timeout(limit, answered)
                .await
                .map_err(|_| self.no_answer())?
                .map_err(|error| error.to_string())?;
        }
        Ok(connection)
    }

    fn found(&self, connection: MultiplexedConnection) {
        *self.late() = Late::default();
        self.refusing.store(false, Ordering::Relaxed);
        self.log_back();
        self.connection.store(Some(Arc::new(connection)));
    }

    fn log_back(&self) {
        if let Some(away) = self.away().take() {
            let lasted = Duration::from_millis(away.since.elapsed().as_millis() as u64);
            let lasted = humantime::format_duration(lasted);
            info!(%lasted, "Redis answers: replicas count together");
        }
        self.outage.lock().recovered(|| ());
    }

    /// Gives `connection` up, unless another call did already.
    fn lose(&self, connection: &Arc<MultiplexedConnection>, problem: String) {
        let given_up = self
            .connection
            .compare_and_swap(&Some(Arc::clone(connection)), None);
        if given_up
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, connection))
        {
            self.log_away(problem);
            self.lost.notify_one();
        }
    }

    fn log_away(&self, problem: String) {
        let mut slot = self.away();
        let away = slot.get_or_insert_with(|| Away {
            since: Instant::now(),
            problem: String::new(),
        });
        self.outage.lock().failed(Instant::now(), || {
            warn!(
                problem,
                "Redis is away: each replica counts for itself until it is back"
            );
        });
        away.problem = problem;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_late_together_count_as_one() {
        let mut late = Late::default();
        let began = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(late.count(began, began + second), 1);
        assert_eq!(late.count(began, began + second), 1);
        assert_eq!(late.count(began + second / 2, began + second * 2), 1);
        assert_eq!(late.count(began + second, began + second * 2), 2);
    }
}
