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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

pub use self::config::Config;
use super::{ActiveRule, ClientKey, Scope};

/// How long a connection may take to come up; nobody waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between attempts to find Redis again: the first, and the longest.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// Answers in a row that have to be late before Redis counts as away: one may be the network's
/// hiccup, or our own.
const LATE_MAX: u32 = 5;

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
    lost: Notify,
    /// Answers that were late, in a row.
    late: AtomicU32,
    fallbacks: AtomicU64,
}

/// That there is no connection.
struct Away {
    since: Instant,
    problem: String,
    /// Whether the log says so: the first moments after a start are no news.
    told: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inner")
    }
}

/// How the shared buckets are doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// Since when Redis is away, and why; `None` while it answers.
    pub away: Option<(Instant, String)>,
    /// Calls that the local buckets decided because it was.
    pub fallbacks: u64,
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
                told: false,
            })),
            lost: Notify::new(),
            late: AtomicU32::new(0),
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
        let problem = match timeout(self.inner.timeout, call.invoke_async(&mut this)).await {
            Ok(Ok(waits)) => {
                self.inner.late.store(0, Ordering::Relaxed);
                let waits: Vec<u64> = waits;
                return Some(waits.into_iter().map(Duration::from_micros).collect());
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => {
                let late = self.inner.late.fetch_add(1, Ordering::Relaxed) + 1;
                (late >= LATE_MAX).then(|| self.inner.no_answer())
            }
        };
        if let Some(problem) = problem {
            self.inner.lose(&connection, problem);
        }
        self.inner.fallbacks.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// Connects, and again whenever the connection is lost.
async fn keep(inner: Arc<Inner>) {
    let mut pause = RETRY;
    loop {
        match inner.connect().await {
            Ok(connection) => {
                inner.found(connection);
                inner.lost.notified().await;
                pause = RETRY;
            }
            Err(problem) => {
                inner.tell_away(problem);
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
        sleep(pause).await;
    }
}

impl Inner {
    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
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
        let times = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let connecting = client.get_multiplexed_async_connection_with_config(&times);
        let mut connection = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| "no connection within a second".to_owned())?
            .map_err(|error| error.to_string())?;
        let mut call = self.script.key(&self.probe);
        call.arg("gcra").arg(1).arg(1).arg(1).arg(0);
        // The first time the script has to be loaded: nobody waits for this.
        let answered = timeout(
            CONNECT_TIMEOUT,
            call.invoke_async::<Vec<u64>>(&mut connection),
        );
        match answered.await {
            Ok(Ok(_)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn found(&self, connection: MultiplexedConnection) {
        self.late.store(0, Ordering::Relaxed);
        self.connection.store(Some(Arc::new(connection)));
        match self.away().take() {
            Some(away) if away.told => {
                let lasted = Duration::from_millis(away.since.elapsed().as_millis() as u64);
                let lasted = humantime::format_duration(lasted);
                info!(%lasted, "Redis answers again: replicas count together");
            }
            _ => info!("Redis answers: replicas count together"),
        }
    }

    /// Gives `connection` up, unless somebody did already.
    fn lose(&self, connection: &Arc<MultiplexedConnection>, problem: String) {
        let given_up = self
            .connection
            .compare_and_swap(&Some(Arc::clone(connection)), None);
        if given_up
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, connection))
        {
            self.tell_away(problem);
            self.lost.notify_one();
        }
    }

    fn tell_away(&self, problem: String) {
        let mut slot = self.away();
        let away = slot.get_or_insert_with(|| Away {
            since: Instant::now(),
            problem: String::new(),
            told: false,
        });
        if !std::mem::replace(&mut away.told, true) {
            warn!(
                problem,
                "Redis is away: each replica counts for itself until it is back"
            );
        }
        away.problem = problem;
    }
}
