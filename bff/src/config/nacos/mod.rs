//! Nacos as the configuration centre: readings of one document.
//!
//! Two clients of nacos-sdk share the work, because one alone would not tell the truth: a client
//! that listens answers from its own memory from then on, and never says that the server is gone
//! or the document deleted. So one listens and only says when to look; the other looks, and has
//! no memory. What the listening one misses (the first publication of a document that was not
//! there; a change while the server restarted) is seen by looking every `reconcile`.
//!
//! **Invariant:** nothing else names nacos-sdk.

mod config;

use std::{path::PathBuf, sync::Arc, time::Duration};

use nacos_sdk::api::{
    config::{ConfigChangeListener, ConfigResponse, ConfigService, ConfigServiceBuilder},
    error::Error,
    props::ClientProps,
};
use rand::Rng;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

pub use self::config::Config;

/// How long the server may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon it is asked again when it did not answer, or for a document that is not there: the
/// first publication of one is not pushed to whoever waits for it.
const SOON: Duration = Duration::from_secs(5);

/// What was learnt of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
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
pub(super) fn watch(config: Config) -> mpsc::Receiver<Reading> {
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

async fn follow(config: Config, sender: mpsc::Sender<Reading>) {
    let config = Arc::new(config);
    let (poke, mut poked) = watch::channel(());
    let _listener = AbortOnDropHandle::new(tokio::spawn(listen(Arc::clone(&config), poke)));
    let mut reader = Reader {
        config: Arc::clone(&config),
        service: None,
    };
    // Once the listener is gone there is only the clock.
    let mut listens = true;
    loop {
        let reading = reader.read().await;
        let pause = match &reading {
            Reading::Found(_) => config.reconcile,
            Reading::Missing | Reading::Failed(_) => config.reconcile.min(SOON),
        };
        if sender.send(reading).await.is_err() {
            return;
        }
        // Replicas that started together should not ask together for ever.
        let pause = pause.mul_f64(rand::rng().random_range(0.9..=1.0));
        tokio::select! {
            () = sleep(pause) => {}
            changed = poked.changed(), if listens => listens = changed.is_ok(),
        }
    }
}

/// Listens for ever and pokes at each change.
async fn listen(config: Arc<Config>, poke: watch::Sender<()>) {
    let directory = MemoryDirectory::new();
    // Without this, building gives up when the server is away; and what it would load is not
    // there, because the directory is new.
    let props = props(&config)
        .config_load_cache_at_start(true)
        .cache_dir(&directory.0);
    let service = match build(&config, props).await {
        Ok(service) => service,
        Err(error) => {
            debug!(%error, "no listener in Nacos, its document is read by the clock only");
            return;
        }
    };
    let listener = Arc::new(Poke(poke.clone()));
    let listening = service
        .add_listener(config.data_id.clone(), config.group.clone(), listener)
        .await;
    if let Err(error) = listening {
        debug!(%error, "no listener in Nacos, its document is read by the clock only");
        return;
    }
    // What changed between the first look and the listener is only seen by looking again.
    poke.send_replace(());
    std::future::pending::<()>().await;
}

/// Says that there is something to look at, and nothing else: it runs on the client's only thread.
struct Poke(watch::Sender<()>);

impl ConfigChangeListener for Poke {
    fn notify(&self, _: ConfigResponse) {
        self.0.send_replace(());
    }
}

/// Reads the document from the server, each time.
struct Reader {
    config: Arc<Config>,
    service: Option<ConfigService>,
}

impl Reader {
    async fn read(&mut self) -> Reading {
        let (config, service) = (Arc::clone(&self.config), self.service.clone());
        let read = async move {
            let service = match service {
                Some(service) => service,
                None => build(&config, props(&config)).await?,
            };
            let answer = service
                .get_config(config.data_id.clone(), config.group.clone())
                .await;
            Ok((service, answer))
        };
        // A task of its own, because the client panics on answers it does not expect.
        let task = AbortOnDropHandle::new(tokio::spawn(read));
        let (service, answer) = match timeout(ANSWER_TIMEOUT, task).await {
            Ok(Ok(Ok(done))) => done,
            Ok(Ok(Err(error))) => return failed(&error),
            Ok(Err(panic)) => {
                return Reading::Failed(format!("the client cannot read the answer: {panic}"));
            }
            Err(_) => {
                return Reading::Failed(format!(
                    "no answer within {}",
                    humantime::format_duration(ANSWER_TIMEOUT)
                ));
            }
        };
        self.service = Some(service);
        match answer {
            Ok(document) => Reading::Found(document.content().clone()),
            Err(Error::ConfigNotFound(_)) => Reading::Missing,
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &Error) -> Reading {
    Reading::Failed(crate::telemetry::chain(error))
}

fn props(config: &Config) -> ClientProps {
    let mut props = ClientProps::new()
        // What the operator wrote here is what counts, not variables that he may not know of.
        .env_first(false)
        .server_addr(&config.server)
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

/// A new directory for what the listening client writes down, removed at the end. What it wrote
/// in another life is of no use: when Nacos is away, the file is what counts.
struct MemoryDirectory(PathBuf);

impl MemoryDirectory {
    fn new() -> Self {
        let name = format!("bff-nacos-{:016x}", rand::rng().random::<u64>());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for MemoryDirectory {
    fn drop(&mut self) {
        // Nothing depends on it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
