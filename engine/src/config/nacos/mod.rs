//! Nacos as the configuration centre: readings of one document.
//!
//! Two clients of nacos-sdk share the work, because one alone does not notice an outage: a client
//! that listens answers from its own memory from then on, and never says that the server is gone
//! or the document deleted. So one listens and only says when to look; the other looks, and has
//! no memory. What the listening one misses (the first publication of a document that was not
//! there; a change while the server restarted) is seen by looking every `reconcile`.
//!
//! **Invariant:** nothing else names nacos-sdk.

mod config;
mod status;

use std::{sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use nacos_sdk::api::{
    config::{ConfigChangeListener, ConfigResponse, ConfigService, ConfigServiceBuilder},
    error::Error,
    props::ClientProps,
};
use rand::Rng;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::types::Backoff;

pub(crate) use self::{
    config::Config,
    status::{NacosState, NacosStatus, log_change},
};

/// How long the server may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon it is asked again for a document that is not there: the first publication of one is not
/// pushed.
const MISSING_RETRY: Duration = Duration::from_secs(5);
/// How soon it is asked again when it did not answer. The jitter keeps replicas that started together
/// from asking together.
const RETRY: Backoff = Backoff {
    base: Duration::from_millis(500),
    max: Duration::from_secs(5),
    jitter: 0.9..=1.0,
};
/// How long a client may not be answered before another is built.
const RECONNECT_AFTER: Duration = Duration::from_secs(120);
/// Points the SDK's on-disk snapshot cache at an unwritable path. Documents may contain secrets, and a
/// snapshot from an earlier run must not be used.
const DISABLED_CACHE_DIR: &str = "/dev/null/nacos";

/// What was learnt of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PollResult {
    /// Its text.
    Found(String),
    /// There is none.
    Missing,
    /// Why it could not be read.
    Failed(String),
}

/// Reads the document until the receiver is dropped: at once, when it changes, and every
/// `reconcile`. Returns at once, whether Nacos is there or not.
///
/// Has to be called within a tokio runtime.
pub(super) fn watch(config: Config) -> mpsc::Receiver<PollResult> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = follow(config, sender) => {}
        }
    });
    receiver
}

/// The texts of another document of the same server, and why there is none, from now on.
pub(crate) fn texts(config: &Config, data_id: &str) -> BoxStream<'static, Result<String, String>> {
    let config = Config {
        data_id: data_id.to_owned(),
        ..config.clone()
    };
    let document = config.document();
    let readings = stream::unfold(watch(config), |mut readings| async move {
        let reading = readings.recv().await?;
        Some((reading, readings))
    });
    let texts = readings.map(move |reading| match reading {
        PollResult::Found(text) => Ok(text),
        PollResult::Missing => Err(format!("{document}: there is no such document")),
        PollResult::Failed(problem) => Err(format!("{document}: {problem}")),
    });
    texts.boxed()
}

async fn follow(config: Config, sender: mpsc::Sender<PollResult>) {
    let config = Arc::new(config);
    let (notify, mut changed) = watch::channel(());
    let _listener = AbortOnDropHandle::new(tokio::spawn(listen(Arc::clone(&config), notify)));
    let mut reader = Reader::new(Arc::clone(&config));
    // Once the listener is gone there is only the clock.
    let mut listens = true;
    let mut failures = 0;
    loop {
        let reading = reader.read().await;
        let failed = matches!(reading, PollResult::Failed(_));
        let pause = match &reading {
            PollResult::Found(_) => config.reconcile,
            PollResult::Missing => config.reconcile.min(MISSING_RETRY),
            PollResult::Failed(_) => RETRY.pause(failures, &mut rand::rng()),
        };
        failures = if failed { failures + 1 } else { 0 };
        if sender.send(reading).await.is_err() {
            return;
        }
        // Replicas that started together should not ask together for ever.
        let pause = pause.mul_f64(rand::rng().random_range(0.9..=1.0));
        tokio::select! {
            () = sleep(pause) => {}
            changed = changed.changed(), if listens => listens = changed.is_ok(),
        }
    }
}

/// Listens for ever and notifys at each change.
async fn listen(config: Arc<Config>, notify: watch::Sender<()>) {
    // Without this, building gives up when the server is away. What it would load is not there.
    let props = props(&config).config_load_cache_at_start(true);
    let service = match build(&config, props).await {
        Ok(service) => service,
        Err(error) => {
            debug!(%error, "no listener in Nacos, its document is read by the clock only");
            return;
        }
    };
    let listener = Arc::new(ChangeNotifier(notify.clone()));
    let listening = service
        .add_listener(config.data_id.clone(), config.group.clone(), listener)
        .await;
    if let Err(error) = listening {
        debug!(%error, "no listener in Nacos, its document is read by the clock only");
        return;
    }
    // What changed between the first look and the listener is only seen by looking again, and the
    // client does not say when the server has heard of the listener.
    for pause in [Duration::ZERO, Duration::from_secs(1)] {
        sleep(pause).await;
        notify.send_replace(());
    }
    std::future::pending::<()>().await;
}

/// Says that there is something to look at, and nothing else: it runs on the client's only thread.
struct ChangeNotifier(watch::Sender<()>);

impl ConfigChangeListener for ChangeNotifier {
    fn notify(&self, _: ConfigResponse) {
        self.0.send_replace(());
    }
}

/// Reads the document from the server, each time.
struct Reader {
    config: Arc<Config>,
    service: Option<ConfigService>,
    /// Since when it has not been answered.
    failing: Option<Instant>,
    /// For how long it may not be before another client is built. A client never quite ends: it
    /// leaves a task and a connection, so that this is done less and less often.
    patience: Duration,
}

impl Reader {
    fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            service: None,
            failing: None,
            patience: RECONNECT_AFTER,
        }
    }

    async fn read(&mut self) -> PollResult {
        let reading = self.ask().await;
        if !matches!(reading, PollResult::Failed(_)) {
            self.failing = None;
            self.patience = RECONNECT_AFTER;
            return reading;
        }
        // A client that lost its server may take minutes to look for it again, and one whose token
        // the server has forgotten waits for it to run out.
        let since = *self.failing.get_or_insert_with(Instant::now);
        if self.service.is_some() && since.elapsed() > self.patience {
            self.service = None;
            self.failing = None;
            self.patience *= 4;
        }
        reading
    }

    async fn ask(&mut self) -> PollResult {
        let config = Arc::clone(&self.config);
        let service = match &self.service {
            Some(service) => service.clone(),
            None => {
                let built = guarded(async move { build(&config, props(&config)).await });
                match built.await {
                    // Kept whatever comes next.
                    Ok(service) => self.service.insert(service).clone(),
                    Err(reading) => return reading,
                }
            }
        };
        let (data_id, group) = (self.config.data_id.clone(), self.config.group.clone());
        let asked = guarded(async move { service.get_config(data_id, group).await });
        match asked.await {
            Ok(document) => PollResult::Found(document.content().clone()),
            Err(reading) => reading,
        }
    }
}

/// What the client answers, in time and without a panic of its: it does not expect every answer.
async fn guarded<T: Send + 'static>(
    ask: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, PollResult> {
    let task = AbortOnDropHandle::new(tokio::spawn(ask));
    Err(PollResult::Failed(
        match timeout(ANSWER_TIMEOUT, task).await {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            Ok(Ok(Err(Error::ConfigNotFound(_)))) => return Err(PollResult::Missing),
            Ok(Ok(Err(error))) => crate::types::error_chain(&error),
            Ok(Err(_)) => "the client cannot read the answer".to_owned(),
            Err(_) => format!(
                "no answer within {}",
                humantime::format_duration(ANSWER_TIMEOUT)
            ),
        },
    ))
}

fn props(config: &Config) -> ClientProps {
    let mut props = ClientProps::new()
        // What the operator wrote here is what counts, not variables that he may not know of.
        .env_first(false)
        .cache_dir(DISABLED_CACHE_DIR)
        .server_addr(config.servers())
        .namespace(&config.namespace)
        .app_name("bff");
    if let Some(port) = config.grpc_port {
        props = props.remote_grpc_port(port);
    }
    if let (Some(username), Some(password)) = (&config.username, &config.password) {
        props = props
            .auth_username(username)
            .auth_password(password.reveal());
    }
    props
}

async fn build(config: &Config, props: ClientProps) -> Result<ConfigService, Error> {
    let builder = ConfigServiceBuilder::new(props);
    match config.username {
        Some(_) => builder.enable_auth_plugin_http().build().await,
        None => builder.build().await,
    }
}
